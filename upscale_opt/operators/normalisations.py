"""Rules of normalisations and of other operators whose parameters follow the channels of the input."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import Value, through_channel
from upscale_opt.channels.flow import Flow


def batch_norm(flow: Flow, node: fx.Node) -> Value:
    """Batch and instance normalisation: statistics and affine parameters follow the channels of the input."""
    x = flow.channels(node, flow.source(node), 1)
    if x is None or len(x) != flow.module(node).num_features:
        return flow.unknown(node)
    if len(flow.shape(flow.source(node))) == 2 and "Instance" in flow.operator(node):
        return flow.unknown(node)
    _follow_all(flow, node, x)
    flow.features[str(node.target)] = x
    return flow.passes(node, x, 1)


def functional_batch_norm(flow: Flow, node: fx.Node) -> Value:
    """Same as `batch_norm` in eval mode, if statistics, weight and bias are tensors of the network."""
    names = ("running_mean", "running_var", "weight", "bias")
    given = [flow.argument(node, name) for name in names]
    parameters = [tensor for tensor in given if tensor is not None]
    x = flow.channels(node, flow.source(node), 1)
    if x is None or flow.argument(node, "training", False) is not False:
        return flow.unknown(node)
    if not all(_is_attribute(tensor) for tensor in parameters):
        return flow.unknown(node, "batch_norm with computed parameters")
    for tensor in parameters:
        flow.attribute_uses.add((node.name, tensor.name))
        flow.follow(str(tensor.target), 0, x)
    return flow.passes(node, x, 1)


def layer_norm(flow: Flow, node: fx.Node) -> Value:
    """Layer normalisation over the last axes: no channel may be removed, any order is fine, parameters follow."""
    module = flow.module(node)
    names = {"weight": f"{node.target}.weight", "bias": f"{node.target}.bias"}
    names = {kind: name for kind, name in names.items() if getattr(module, kind, None) is not None}
    return _layer_norm(flow, node, len(module.normalized_shape), list(names.values()))


def functional_layer_norm(flow: Flow, node: fx.Node) -> Value:
    """Same as `layer_norm`, if weight and bias are parameters of the network."""
    return _functional_layer_norm(flow, node, [flow.argument(node, name) for name in ("weight", "bias")])


def functional_rms_norm(flow: Flow, node: fx.Node) -> Value:
    """Same as `functional_layer_norm`, without a bias."""
    return _functional_layer_norm(flow, node, [flow.argument(node, "weight")])


def _functional_layer_norm(flow: Flow, node: fx.Node, given: list[Any]) -> Value:
    shape = flow.argument(node, "normalized_shape")
    parameters = [tensor for tensor in given if tensor is not None]
    if not isinstance(shape, (tuple, list)) or not all(_is_attribute(tensor) for tensor in parameters):
        return flow.unknown(node)
    if not all(type(length) is int for length in shape):
        return flow.unknown(node)
    for tensor in parameters:
        flow.attribute_uses.add((node.name, tensor.name))
    return _layer_norm(flow, node, len(shape), [str(tensor.target) for tensor in parameters])


def _layer_norm(flow: Flow, node: fx.Node, num_axes: int, parameters: list[str]) -> Value:
    source = flow.source(node)
    if not flow.is_tensor(source):
        return flow.unknown(node)
    ndim = len(flow.shape(source))
    layout = flow.layout(source)
    axis = ndim - 1 if layout is None else layout.axis
    if layout is not None and axis < ndim - num_axes:
        flow.hold(*parameters)
        return layout
    x = flow.channels(node, source, axis)
    if x is None:
        return flow.unknown(node)
    flow.table.need(x)
    for name in parameters:
        flow.follow(name, axis - (ndim - num_axes), x)
    return flow.passes(node, x, axis)


def group_norm(flow: Flow, node: fx.Node) -> Value:
    """Group normalisation: channels may move only within their group, and none may be removed."""
    module = flow.module(node)
    x = flow.channels(node, flow.source(node), 1)
    if x is None or len(x) != module.num_channels:
        return flow.unknown(node)
    if not _separate(flow, x, module.num_groups):
        return flow.unknown(node, "a group ends within a channel")
    _follow_all(flow, node, x)
    return flow.passes(node, x, 1)


def functional_group_norm(flow: Flow, node: fx.Node) -> Value:
    """Same as `group_norm`, if weight and bias are parameters of the network."""
    groups = flow.argument(node, "num_groups")
    given = [flow.argument(node, name) for name in ("weight", "bias")]
    parameters = [tensor for tensor in given if tensor is not None]
    x = flow.channels(node, flow.source(node), 1)
    if x is None or type(groups) is not int or not all(_is_attribute(tensor) for tensor in parameters):
        return flow.unknown(node)
    if not _separate(flow, x, groups):
        return flow.unknown(node, "a group ends within a channel")
    for tensor in parameters:
        flow.attribute_uses.add((node.name, tensor.name))
        flow.follow(str(tensor.target), 0, x)
    return flow.passes(node, x, 1)


def local_response_norm(flow: Flow, node: fx.Node) -> Value:
    """Local response normalisation reads neighbouring channels, so all of them are pinned."""
    return flow.unknown(node, "local response normalisation looks at neighbouring channels")


def prelu(flow: Flow, node: fx.Node) -> Value:
    """PReLU has one slope for all channels, or one slope per channel. In the second case the slopes follow channels."""
    if node.op == "call_module":
        name = f"{node.target}.weight"
    else:
        weight = flow.argument(node, "weight")
        if not _is_attribute(weight):
            return flow.unknown(node)
        flow.attribute_uses.add((node.name, weight.name))
        name = str(weight.target)
    source = flow.source(node)
    if flow.parameter(name).numel() == 1:
        flow.hold(name)
        return flow.value(source) if flow.value(source) is not None else flow.opaque(node)
    x = flow.channels(node, source, 1)
    if x is None or len(x) != flow.parameter(name).numel():
        return flow.unknown(node)
    flow.follow(name, 0, x)
    return flow.passes(node, x, 1)


def softmax(flow: Flow, node: fx.Node) -> Value:
    """Softmax over the channel axis needs all channels, in any order. Over other axes the channels pass unchanged."""
    source = flow.source(node)
    layout = flow.layout(source)
    dim: Any = flow.module(node).dim if node.op == "call_module" else flow.argument(node, "dim")
    if layout is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    if type(dim) is not int:
        return flow.unknown(node)
    if dim % len(flow.shape(source)) == layout.axis:
        flow.table.need(layout.channels)
    return layout


def normalize(flow: Flow, node: fx.Node) -> Value:
    """``normalize`` has the rule of softmax, but axis 1 is the default."""
    source = flow.source(node)
    layout = flow.layout(source)
    dim = flow.argument(node, "dim", 1)
    if layout is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    if type(dim) is not int:
        return flow.unknown(node)
    if dim % len(flow.shape(source)) == layout.axis:
        flow.table.need(layout.channels)
    return layout


def _separate(flow: Flow, x: np.ndarray, groups: int) -> bool:
    """Forbid moves between groups and removals of channels. Return False if a group ends within a channel."""
    borders = [g * len(x) // groups for g in range(1, groups)]
    if any(through_channel(x, border) for border in borders):
        return False
    for border in borders:
        flow.table.cut(x, border)
    flow.table.need(x)
    return True


def _follow_all(flow: Flow, node: fx.Node, x: np.ndarray) -> None:
    module = flow.module(node)
    tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    for name, tensor in tensors:
        if tensor.ndim > 0:
            flow.follow(f"{node.target}.{name}", 0, x)


def _is_attribute(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"
