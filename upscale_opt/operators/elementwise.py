"""Rules of operators that compute entry by entry or channel by channel, such as activations, pooling, reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import ChannelPad, Value, entries_per_channel
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.lengths import computed
from upscale_opt.channels.table import Layout


def elementwise(flow: Flow, node: fx.Node) -> Value:
    """Elementwise operators tie the channels of operands at the same broadcast position. Parameters there follow."""
    if not flow.is_tensor(node):
        return computed(flow, node)
    operands = [operand for operand in node.all_input_nodes if flow.is_tensor(operand)]
    if any(not isinstance(flow.value(operand), (Layout, type(None))) for operand in node.all_input_nodes):
        return flow.unknown(node)
    known = [(operand, layout) for operand in operands if (layout := flow.layout(operand)) is not None]
    if not known:
        flow.maps.add(node.name)
        return flow.opaque(node)
    ndim = len(flow.shape(node))
    positions = {len(flow.shape(operand)) - layout.axis for operand, layout in known}
    if len(positions) > 1:
        return flow.unknown(node, "channels on different axes")
    position = positions.pop()
    width = flow.shape(node)[ndim - position]
    if width != max(len(layout.channels) for _, layout in known):
        return flow.unknown(node, "channels broadcast against something else")
    result = next(layout.channels for _, layout in known if len(layout.channels) == width)
    for operand in operands:
        axis = len(flow.shape(operand)) - position
        if axis < 0 or (flow.layout(operand) is None and flow.shape(operand)[axis] == 1):
            continue
        channels = flow.channels(node, operand, axis, picks=True)
        assert channels is not None
        if len(channels) == width:
            flow.table.tie(result, channels)
        else:
            # A single channel is broadcast over all others, so it must not be removed.
            flow.table.need(channels)
    return Layout(ndim - position, result)


def same(flow: Flow, node: fx.Node) -> Value:
    """The output has the values of the input. Only memory layout, dtype or device may differ."""
    if not flow.is_tensor(node):
        return computed(flow, node)  # ``x.type()`` is a text
    for other in node.all_input_nodes[1:]:
        flow.attribute_uses.add((node.name, other.name))  # only its dtype and device matter
    value = flow.value(flow.source(node))
    return flow.opaque(node, reads=()) if value is None else value


def pooling(num_spatial: int) -> Callable[[Flow, fx.Node], Value]:
    """Spatial operators over the last `num_spatial` axes: the channels pass unchanged."""

    def rule(flow: Flow, node: fx.Node) -> Value:
        return _spatial(flow, node, num_spatial)

    rule.__doc__ = pooling.__doc__
    return rule


def resize(flow: Flow, node: fx.Node) -> Value:
    """``interpolate`` and ``Upsample`` change the third and all later axes. The channels pass unchanged."""
    source = flow.source(node)
    return _spatial(flow, node, len(flow.shape(source)) - 2) if flow.is_tensor(source) else flow.unknown(node)


def pad(flow: Flow, node: fx.Node) -> Value:
    """Padding: the channels pass unchanged. A constant padding of the channel axis puts new channels around them."""
    if node.op == "call_module":
        padding = flow.module(node).padding
        amounts = padding if isinstance(padding, tuple) else (padding,) * 2
    else:
        amounts = flow.argument(node, "pad")
    if not isinstance(amounts, (tuple, list)):
        return flow.unknown(node)
    num_axes = len(amounts) // 2
    while num_axes and all(type(a) is int and a == 0 for a in amounts[2 * num_axes - 2 : 2 * num_axes]):
        num_axes -= 1
    source, x = flow.source(node), flow.layout(flow.source(node))
    if x is not None and flow.is_tensor(node):
        place = 2 * (len(flow.shape(source)) - 1 - x.axis)
        if place < 2 * num_axes and all(type(a) is int and a == 0 for a in amounts[place : place + 2]):
            return x  # only other axes are padded
    if x is None or len(flow.shape(source)) - num_axes != x.axis:
        return _spatial(flow, node, num_axes)
    if node.op != "call_function" or len(node.args) < 2 or flow.argument(node, "mode", "constant") != "constant":
        return flow.unknown(node)
    before, behind = amounts[2 * num_axes - 2 : 2 * num_axes]
    size = entries_per_channel(x.channels)
    if not all(type(a) is int and a >= 0 for a in (before, behind)) or before % size or behind % size:
        return flow.unknown(node)
    if isinstance(flow.argument(node, "value"), fx.Node):
        return flow.unknown(node)
    channels = flow.table.produce((before + behind) // size, node.name).repeat(size)
    output = np.concatenate([channels[:before], x.channels, channels[before:]])
    flow.table.cut(channels, before)
    flow.table.cut(output, before)
    flow.table.cut(output, before + len(x.channels))
    flow.pads.append(ChannelPad(node.name, x.axis, before, behind))
    return Layout(x.axis, output)


def unpooling(flow: Flow, node: fx.Node) -> Value:
    """``max_unpool2d`` and its like: the channels of values and indices are tied, and pass.

    Of the size of the output, only the spatial axes matter.
    """
    values, indices, size = (flow.argument(node, name) for name in ("input", "indices", "output_size"))
    x, other = flow.layout(values), flow.layout(indices)
    if x is None or other is None or x.axis != other.axis or x.axis != len(flow.shape(values)) - _unpooled(flow, node):
        return flow.unknown(node)
    flow.table.tie(x.channels, other.channels)
    if isinstance(size, fx.Node):
        flow.settled.add((node.name, size.name))
    return x


def _unpooled(flow: Flow, node: fx.Node) -> int:
    """Number of axes from the channels to the last one."""
    return 1 + int(flow.operator(node).lower().removesuffix("d")[-1])


def resampling(flow: Flow, node: fx.Node) -> Value:
    """``grid_sample`` reads the third and all later axes at other places. The channels pass unchanged."""
    source = flow.source(node)
    if flow.value(flow.argument(node, "grid")) is not None:
        return flow.unknown(node)
    return _spatial(flow, node, len(flow.shape(source)) - 2) if flow.is_tensor(source) else flow.unknown(node)


def _spatial(flow: Flow, node: fx.Node, num_spatial: int) -> Value:
    source, parts = flow.source(node), flow.shapes.get(f"{node.name}:parts", ())
    if not (flow.is_tensor(node) or parts) or not flow.is_tensor(source):
        return flow.unknown(node)
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    if x is None or x.axis >= len(flow.shape(source)) - num_spatial:
        return flow.unknown(node)
    return (x,) * len(parts) if parts else x  # the values of a pooling, and their indices


def reduction(flow: Flow, node: fx.Node) -> Value:
    """A reduction over the channel axis needs all channels, in any order. Over other axes the channels pass."""
    return _reduce(flow, node, flow.argument(node, "dim"), flow.argument(node, "keepdim", False))


def norm(flow: Flow, node: fx.Node) -> Value:
    """Same as `reduction`. The order ``p`` of the norm does not matter."""
    return _reduce(flow, node, flow.argument(node, "dim"), flow.argument(node, "keepdim", False))


def deviation(flow: Flow, node: fx.Node) -> Value:
    """``var`` and ``std``: same as `reduction`."""
    return _reduce(flow, node, flow.argument(node, "dim"), flow.argument(node, "keepdim", False))


def _reduce(flow: Flow, node: fx.Node, dims: Any, keep: Any) -> Value:
    source = flow.source(node)
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    if x is None:
        return flow.unknown(node)
    ndim = len(flow.shape(source))
    listed = [dims] if type(dims) is int else dims or range(ndim)  # without axes, the operator reduces all
    if type(keep) is not bool or isinstance(listed, fx.Node) or not all(type(d) is int for d in listed):
        return flow.unknown(node)
    axes = {d % ndim for d in listed}
    if x.axis in axes:
        flow.table.need(x.channels)
        return flow.opaque(node, reads=node.all_input_nodes[1:])
    return Layout(x.axis if keep else x.axis - sum(d < x.axis for d in axes), x.channels)


def extremum(flow: Flow, node: fx.Node) -> Value:
    """``max`` and ``min``: of two tensors, of all entries of a tensor, or values and indices along a dimension."""
    others = [operand for operand in node.all_input_nodes[1:] if flow.is_tensor(operand)]
    if others:
        return elementwise(flow, node)
    if flow.is_tensor(node):
        return reduction(flow, node)
    x, dim = flow.layout(flow.source(node)), flow.argument(node, "dim")
    if x is None:
        return flow.unknown(node)
    ndim = len(flow.shape(flow.source(node)))
    if type(dim) is not int or dim % ndim == x.axis:
        # The index of the largest channel depends on the order of the channels.
        return flow.unknown(node)
    keep = flow.argument(node, "keepdim", False)
    result = Layout(x.axis if keep else x.axis - (dim % ndim < x.axis), x.channels)
    return (result, result)
