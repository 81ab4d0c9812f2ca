"""Rules of convolutions and linear layers. They may be modules, or functions with parameters of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from upscale_opt.capture.decompositions import GROUPS
from upscale_opt.channels.findings import InOrder, Value, through_channel
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Layout


def convolution(flow: Flow, node: fx.Node) -> Value:
    """A convolution reads its input and computes new channels. Through a depthwise one the channels pass unchanged."""
    module = flow.module(node)
    bias = None if module.bias is None else f"{node.target}.bias"
    if module.padding_mode != "zeros" and module.transposed:
        return flow.unknown(node)
    return _convolve(flow, node, f"{node.target}.weight", bias, module.groups, transposed=module.transposed)


def functional_convolution(flow: Flow, node: fx.Node) -> Value:
    """Same as `convolution`, if weight and bias are parameters of the network."""
    transposed = "transpose" in flow.operator(node)
    groups = flow.argument(node, "groups", 1)
    given = [flow.argument(node, "weight"), flow.argument(node, "bias")]
    counts = isinstance(groups, fx.Node) and _counts_input(flow, node, groups)
    if counts:
        flow.settled.add((node.name, groups.name))
    if isinstance(groups, fx.Node):
        groups = len(flow.sizes[groups.name]) if counts else groups.meta.get(GROUPS)
    if type(groups) is not int:
        return flow.unknown(node)
    if not all(tensor is None or _is_attribute(tensor) for tensor in given):
        return _filter(flow, node, given, groups)
    for tensor in given:
        if tensor is not None:
            flow.attribute_uses.add((node.name, tensor.name))
    weight, bias = (None if tensor is None else str(tensor.target) for tensor in given)
    assert weight is not None
    return _convolve(flow, node, weight, bias, groups, transposed=transposed, counts=counts)


def _counts_input(flow: Flow, node: fx.Node, length: fx.Node) -> bool:
    """Whether a length counts the channels of a node's input."""
    x = flow.layout(flow.source(node))
    counted = flow.sizes.get(length.name)
    return x is not None and isinstance(counted, np.ndarray) and np.array_equal(counted, x.channels)


def _filter(flow: Flow, node: fx.Node, given: list[Any], groups: int) -> Value:
    """A depthwise convolution with fixed weights, such as a blur: the channels pass, and none may be removed.

    Fixed weights do not depend on the network's input.
    """
    source, weight = flow.source(node), given[0]
    if not flow.is_tensor(source) or not all(tensor is None or flow.is_fixed(tensor) for tensor in given):
        return flow.unknown(node)
    if groups == 1 or flow.shape(weight)[:2] != (groups, 1) or len(flow.shape(source)) != len(flow.shape(weight)):
        return flow.unknown(node)
    x = flow.channels(node, source, 1)
    if x is None or len(x) != groups:
        return flow.unknown(node)
    for tensor in given:
        own = x if tensor is None else flow.channels(node, tensor, 0, picks=True)
        if own is None or len(own) != len(x):
            return flow.unknown(node)
        flow.table.tie(x, own)
    flow.table.need(x)  # the number of groups is a constant in the code, so it cannot change
    return flow.passes(node, x, 1)


def _convolve(
    flow: Flow, node: fx.Node, weight: str, bias: str | None, groups: int, *, transposed: bool, counts: bool = False
) -> Value:
    source = flow.source(node)
    tensor = flow.parameter(weight)
    if not flow.is_tensor(source) or len(flow.shape(source)) not in (tensor.ndim, tensor.ndim - 1):
        return flow.unknown(node)
    axis = 1 if len(flow.shape(source)) == tensor.ndim else 0  # a single sample has no batch axis
    layout = flow.layout(source)
    if layout is not None and layout.axis > axis:
        return _along_space(flow, node, layout, weight, bias, layout.axis - axis - 1)
    x = flow.channels(node, source, axis)
    num_inputs, num_outputs = (
        (tensor.shape[0], tensor.shape[1] * groups)
        if transposed
        else (
            tensor.shape[1] * groups,
            tensor.shape[0],
        )
    )
    if x is None or len(x) != num_inputs:
        return flow.unknown(node)
    if groups == num_inputs == num_outputs and groups > 1:
        flow.follow(weight, 0, x)
        if bias is not None:
            flow.follow(bias, 0, x)
        if node.op == "call_function" and not counts:
            # The number of groups is a constant in the code, so it cannot change.
            flow.table.need(x)
        return flow.passes(node, x, axis)
    if groups > 1 and transposed:
        return flow.unknown(node, f"transposed convolution with {groups} groups")
    if any(through_channel(x, g * len(x) // groups) for g in range(1, groups)):
        return flow.unknown(node, "a group ends within a channel")
    return flow.compute(node, x, axis=axis, weight=weight, bias=bias, groups=groups, transposed=transposed)


def _along_space(flow: Flow, node: fx.Node, x: Layout, weight: str, bias: str | None, dimension: int) -> Value:
    """A convolution whose spatial dimension has the channels.

    With kernel size 1 it does the same for every channel. Otherwise it looks at neighbours, so it needs the original
    order (efficient channel attention).
    """
    kernel = flow.parameter(weight).shape[2 + dimension]
    steps = _of_dimension(flow, node, "stride", 1, dimension), _of_dimension(flow, node, "padding", 0, dimension)
    flow.hold(weight, bias)
    if kernel == 1 and steps[0] == 1 and not steps[1] and flow.shape(node)[x.axis] == len(x.channels):
        return x
    flow.table.need(x.channels)
    output = Layout(x.axis, flow.table.produce(flow.shape(node)[x.axis], node.name))
    flow.in_order.append(InOrder(node.name, flow.source(node).name, x, output))
    return output


def _of_dimension(flow: Flow, node: fx.Node, name: str, default: int, dimension: int) -> Any:
    """An argument of a convolution for one of its spatial dimensions. None if it is no number."""
    own = getattr(flow.module(node), name) if node.op == "call_module" else flow.argument(node, name, default)
    own = own[dimension % len(own)] if isinstance(own, (tuple, list)) else own
    return own if type(own) is int else None


def linear(flow: Flow, node: fx.Node) -> Value:
    """A linear layer reads its input along the last axis and computes new channels on this axis."""
    bias = None if flow.module(node).bias is None else f"{node.target}.bias"
    return _multiply(flow, node, f"{node.target}.weight", bias)


def functional_linear(flow: Flow, node: fx.Node) -> Value:
    """Same as `linear`, if weight and bias are parameters of the network."""
    weight, bias = flow.argument(node, "weight"), flow.argument(node, "bias")
    if not _is_attribute(weight) or not (bias is None or _is_attribute(bias) or flow.is_fixed(bias)):
        return flow.unknown(node)
    flow.attribute_uses.add((node.name, weight.name))
    if bias is None or _is_attribute(bias):
        flow.attribute_uses |= set() if bias is None else {(node.name, bias.name)}
        return _multiply(flow, node, str(weight.target), None if bias is None else str(bias.target))
    result = _multiply(flow, node, str(weight.target), None)
    if isinstance(result, Layout) and result.axis == len(flow.shape(node)) - 1:
        channels = flow.channels(node, bias, 0, picks=True)
        if channels is None or len(channels) != len(result.channels):
            return flow.unknown(node)
        flow.table.tie(result.channels, channels)
    return result


def is_layer(flow: Flow, node: fx.Node) -> bool:
    """Whether a product of matrices is a linear layer: only its second factor is a parameter, a matrix."""
    if len(node.args) != 2 or node.kwargs or _is_attribute(node.args[0]):
        return False
    weight: Any = node.args[1]
    return _is_attribute(weight) and flow.is_tensor(weight) and len(flow.shape(weight)) == 2


def product(flow: Flow, node: fx.Node) -> Value:
    """A product of matrices that is a linear layer (`is_layer`), with inputs as rows."""
    weight: Any = node.args[1]
    flow.attribute_uses.add((node.name, weight.name))
    return _multiply(flow, node, str(weight.target), None, transposed=True)


def _multiply(flow: Flow, node: fx.Node, weight: str, bias: str | None, *, transposed: bool = False) -> Value:
    source, tensor = flow.source(node), flow.parameter(weight)
    if not flow.is_tensor(source) or not flow.shape(source) or tensor.ndim != 2:
        return flow.unknown(node)
    last = len(flow.shape(source)) - 1
    layout = flow.layout(source)
    if layout is not None and layout.axis != last:
        # The layer applies the same linear map to every channel.
        flow.hold(weight, bias)
        return layout
    x = flow.channels(node, source, last)
    if x is None or len(x) != tensor.shape[0 if transposed else 1]:
        return flow.unknown(node)
    return flow.compute(node, x, axis=last, weight=weight, bias=bias, transposed=transposed, is_convolution=False)


def embedding(flow: Flow, node: fx.Node) -> Value:
    """An embedding computes channels on a new last axis. Its table is indexed by numbers that are no channels.

    The same holds for ``nn.EmbeddingBag``, which reduces every channel over a bag.
    """
    return _look_up(flow, node, f"{node.target}.weight", flow.module(node).max_norm)


def functional_embedding(flow: Flow, node: fx.Node) -> Value:
    """Same as `embedding`, if the table is a parameter of the network."""
    if flow.argument(node, "max_norm") is not None:
        return flow.unknown(node)
    return plain_embedding(flow, node)


def plain_embedding(flow: Flow, node: fx.Node) -> Value:
    """Same as `functional_embedding`, without its ``max_norm``: torch's own operator."""
    table = flow.argument(node, "weight")
    if not _is_attribute(table):
        return flow.unknown(node)
    flow.attribute_uses.add((node.name, table.name))
    return _look_up(flow, node, str(table.target), None)


def _look_up(flow: Flow, node: fx.Node, weight: str, max_norm: Any) -> Value:
    others = [own for own in node.all_input_nodes if own.op != "get_attr"]
    if any(flow.value(own) is not None for own in others) or max_norm is not None:
        return flow.unknown(node)
    if not flow.is_used_as(weight, ("embedding",)):
        flow.hold(weight)
        return flow.unknown(node, "a weight that is used in two ways")
    return Layout(len(flow.shape(node)) - 1, flow.follow(weight, 1, None))


def _is_attribute(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"
