"""Rules of operators that split tensors or join them: slices, chunk, split, unbind, cat, stack."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from upscale_opt.channels.findings import ChannelSlice, Piece, Stacked, Value, entries_per_channel, through_channel
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Layout
from upscale_opt.operators.sizes import take_size


def concat(flow: Flow, node: fx.Node) -> Value:
    """A concat along the channel axis concatenates the channels. A concat along another axis ties them."""
    tensors, dim = flow.argument(node, "tensors", ()), flow.argument(node, "dim", 0)
    if not isinstance(tensors, (tuple, list)) or type(dim) is not int or not all(map(flow.is_tensor, tensors)):
        return flow.unknown(node)
    return _joined(flow, node, tensors, dim)


def _joined(flow: Flow, node: fx.Node, tensors: Sequence[Any], dim: int) -> Value:
    axis = _common_axis(flow, tensors)
    if axis is None:
        values = [flow.value(tensor) for tensor in tensors]
        return flow.opaque(node) if all(value is None for value in values) else flow.unknown(node)
    channels = [flow.channels(node, tensor, axis, picks=True) for tensor in tensors]
    if any(own is None for own in channels):
        return flow.unknown(node)
    along = dim % len(flow.shape(node))
    if along == axis:
        sizes = {entries_per_channel(own) for own in channels if own is not None}
        return flow.unknown(node) if len(sizes) > 1 else Layout(axis, np.concatenate(channels))  # type: ignore[arg-type]
    return _tied(flow, node, channels, axis)


def horizontal_stack(flow: Flow, node: fx.Node) -> Value:
    """``hstack`` is a concat along axis 1, or 0 if there is only one axis."""
    tensors = flow.argument(node, "tensors", ())
    if not isinstance(tensors, (tuple, list)) or not all(map(flow.is_tensor, tensors)):
        return flow.unknown(node)
    return _joined(flow, node, tensors, min(1, len(flow.shape(node)) - 1))


def stack(flow: Flow, node: fx.Node) -> Value:
    """A stack puts tensors along a new axis and ties their channels."""
    tensors, dim = flow.argument(node, "tensors", ()), flow.argument(node, "dim", 0)
    if not isinstance(tensors, (tuple, list)) or type(dim) is not int or not all(map(flow.is_tensor, tensors)):
        return flow.unknown(node)
    axis = _common_axis(flow, tensors)
    if axis is None:
        values = [flow.value(tensor) for tensor in tensors]
        return flow.opaque(node) if all(value is None for value in values) else flow.unknown(node)
    channels = [flow.channels(node, tensor, axis, picks=True) for tensor in tensors]
    along = dim % len(flow.shape(node))
    return _tied(flow, node, channels, axis + (along <= axis))


def _common_axis(flow: Flow, tensors: Any) -> int | None:
    """Return the axis of all known layouts. None if they have different axes, or if there are none."""
    if any(not isinstance(flow.value(tensor), (Layout, type(None))) for tensor in tensors):
        return None
    axes = {layout.axis for tensor in tensors if (layout := flow.layout(tensor)) is not None}
    return axes.pop() if len(axes) == 1 else None


def _tied(flow: Flow, node: fx.Node, channels: list[np.ndarray | None], axis: int) -> Value:
    first = channels[0]
    if first is None or any(own is None or len(own) != len(first) for own in channels):
        return flow.unknown(node)
    for own in channels[1:]:
        assert own is not None
        flow.table.tie(first, own)
    return Layout(axis, first)


def get_item(flow: Flow, node: fx.Node) -> Value:
    """``x[index]`` takes one of several tensors, a length, or a slice. Slices with constant bounds cut the channels."""
    source, index = flow.source(node), node.args[1]
    if source.name in flow.sizes:
        return take_size(flow, node, source, index)
    value = flow.value(source)
    if isinstance(value, Stacked):
        first, *rest = index if isinstance(index, tuple) and index else (index,)
        part = value.part(first) if all(own == slice(None) for own in rest) else None
        return flow.unknown(node) if part is None else part
    if isinstance(value, tuple):
        if isinstance(index, slice):
            return value[index]
        if type(index) is not int:
            return flow.unknown(node)
        part = value[index]
        if not isinstance(part, Piece):
            return part if part is not None else flow.opaque(node, reads=())
        result = flow.cut(node, part.source, part.layout, part.start, part.stop, None)
        return flow.unknown(node, "a cut through the middle of a channel") if result is None else result
    if value is None:
        return flow.opaque(node)
    x = flow.layout(source)
    return flow.unknown(node) if x is None else _slice(flow, node, source, x, index)


def _slice(flow: Flow, node: fx.Node, source: fx.Node, x: Layout, index: Any) -> Value:
    entries: list[Any] = list(index) if isinstance(index, tuple) else [index]
    given = len([entry for entry in entries if entry is not None])
    ndim = len(flow.shape(source))
    ellipses = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    for dots in ellipses[:1]:
        entries[dots : dots + 1] = [slice(None)] * (ndim - given + 1)
    if not all(isinstance(entry, slice) or entry is None or type(entry) is int for entry in entries):
        return _picked(flow, node, x, index)
    # Find the entry that indexes the channel axis, and the position of this axis in the result.
    places = [i for i, entry in enumerate(entries) if entry is not None]
    at: int | None = places[x.axis] if x.axis < len(places) else None
    ahead = entries[: len(entries) if at is None else at]
    axis = x.axis - sum(type(entry) is int for entry in ahead) + sum(entry is None for entry in ahead)
    entry = slice(None) if at is None else entries[at]
    if entry == slice(None):
        return Layout(axis, x.channels)
    if type(entry) is int:
        return flow.unknown(node, "a single channel is taken out")
    if not all(bound is None or type(bound) is int for bound in (entry.start, entry.stop, entry.step)):
        return flow.unknown(node, "the bounds of a channel slice are computed")
    start, stop, step = entry.indices(len(x.channels))
    if step != 1:
        return flow.unknown(node, "a strided channel slice")
    assert at is not None
    behind_ellipsis = bool(ellipses) and at >= ellipses[0]
    original = len(index) if isinstance(index, tuple) else 1
    position = at - (len(entries) - original if behind_ellipsis else 0)
    result = flow.cut(node, source, x, start, stop, position)
    return (
        flow.unknown(node, "a slice through the middle of a channel")
        if result is None
        else Layout(axis, result.channels)
    )


def _picked(flow: Flow, node: fx.Node, x: Layout, index: Any) -> Value:
    """``x[:, [0, 2]]`` and ``x[torch.arange(n), -1]``: tensors and lists that pick entries of axes without channels.

    The position of the channel axis in the result is found out by an experiment, with indices of zero.
    """
    tensors = [own for own in node.all_input_nodes if own is not node.args[0]]
    if any(not flow.is_tensor(own) or flow.value(own) is not None for own in tensors) or len(x.channels) == 1:
        return flow.unknown(node)

    def zeros(own: fx.Node) -> torch.Tensor:
        return torch.zeros(flow.shape(own), dtype=torch.long)

    shape = flow.shape(node.args[0])
    number = torch.arange(len(x.channels))
    places = number.reshape([-1 if d == x.axis else 1 for d in range(len(shape))]).expand(*shape)
    try:
        found = places[fx.node.map_arg(index, zeros)]
    except (IndexError, TypeError, RuntimeError):
        return flow.unknown(node)
    if tuple(found.shape) != flow.shape(node):  # a mask of Booleans picks as many entries as its values say
        return flow.unknown(node)
    for axis in range(found.ndim):
        if found.shape[axis] == len(number) and bool((found.movedim(axis, -1) == number).all()):
            return Layout(axis, x.channels)
    return flow.unknown(node)


def narrow(flow: Flow, node: fx.Node) -> Value:
    """Same as a slice with constant bounds."""
    source = flow.source(node)
    dim, start, length = (flow.argument(node, name) for name in ("dim", "start", "length"))
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    if x is None or type(dim) is not int:
        return flow.unknown(node)
    if dim % len(flow.shape(source)) != x.axis:
        return x
    if type(start) is not int or type(length) is not int:
        return flow.unknown(node, "the bounds of a channel slice are computed")
    start %= len(x.channels)
    result = flow.cut(node, source, x, start, start + length, None)
    return flow.unknown(node, "a slice through the middle of a channel") if result is None else result


def select(flow: Flow, node: fx.Node) -> Value:
    """``select`` takes one entry of an axis. Along the channel axis it pins the channels."""
    source, dim = flow.source(node), flow.argument(node, "dim")
    value, x = flow.value(source), flow.layout(source)
    if isinstance(value, Stacked):
        part = value.part(flow.argument(node, "index")) if dim == 0 else None
        return flow.unknown(node) if part is None else part
    if x is None:
        return flow.unknown(node) if value is not None else flow.opaque(node)
    if type(dim) is not int or dim % len(flow.shape(source)) == x.axis:
        return flow.unknown(node, "a single channel is taken out")
    return Layout(x.axis - (dim % len(flow.shape(source)) < x.axis), x.channels)


def along_other(flow: Flow, node: fx.Node) -> Value:
    """Operators along one axis, such as ``cumsum`` and ``sort``. If this axis has the channels, they are pinned."""
    return _along(flow, node, flow.argument(node, "dim", -1))


def along_others(flow: Flow, node: fx.Node) -> Value:
    """Same as `along_other`, for several axes (``flip``)."""
    return _along(flow, node, flow.argument(node, "dims"))


def _along(flow: Flow, node: fx.Node, dims: Any) -> Value:
    source = flow.source(node)
    x = flow.layout(source)
    if x is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    listed = [dims] if type(dims) is int else dims
    if not isinstance(listed, (tuple, list)) or not all(type(d) is int for d in listed):
        return flow.unknown(node)
    if x.axis in {d % len(flow.shape(source)) for d in listed}:
        return flow.unknown(node)
    others = [own for own in node.all_input_nodes[1:] if flow.value(own) is not None]
    if others:
        return flow.unknown(node)
    return x if flow.is_tensor(node) else (x,) * len(flow.shapes.get(f"{node.name}:parts", ()))


def roll(flow: Flow, node: fx.Node) -> Value:
    """``roll`` along the channel axis cuts the channels in two and swaps the parts. Along other axes they pass."""
    source, shifts, dims = flow.source(node), flow.argument(node, "shifts"), flow.argument(node, "dims")
    x = flow.layout(source)
    if x is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    by, along = ([own] if type(own) is int else own for own in (shifts, dims))
    if not all(isinstance(own, (tuple, list)) and own and {*map(type, own)} == {int} for own in (by, along)):
        return flow.unknown(node)
    ndim, length = len(flow.shape(source)), len(x.channels)
    places = [i for i, d in enumerate(along) if d % ndim == x.axis]
    if not places:
        return x
    shift = by[places[0]] % length
    if len(along) > 1 or shift == 0 or through_channel(x.channels, length - shift) or len(node.args) < 2:
        return flow.unknown(node)
    flow.table.cut(x.channels, length - shift)
    output = np.roll(x.channels, shift)
    flow.table.cut(output, shift)
    flow.rolls.append(ChannelSlice(node.name, source.name, x.axis, length - shift, length, None))
    return Layout(x.axis, output)


def split(flow: Flow, node: fx.Node) -> Value:
    """``chunk``, ``split`` and ``tensor_split`` cut the channels along their axis. Along other axes channels pass."""
    source, dim = flow.source(node), flow.argument(node, "dim", 0)
    x = flow.layout(source)
    if x is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    sizes = flow.shapes.get(f"{node.name}:parts")
    if type(dim) is not int or sizes is None:
        return flow.unknown(node)
    along = dim % len(flow.shape(source))
    if along != x.axis:
        return (x,) * len(sizes)
    bounds = np.cumsum([0, *(shape[along] for shape in sizes)]).tolist()
    return tuple(Piece(source, x, start, stop) for start, stop in itertools.pairwise(bounds))


def gated(flow: Flow, node: fx.Node) -> Value:
    """``glu`` multiplies the first half by a function of the second half: channel i is tied to channel i + n."""
    source = flow.source(node)
    x = flow.layout(source)
    dim: Any = flow.module(node).dim if node.op == "call_module" else flow.argument(node, "dim", -1)
    if x is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    if type(dim) is not int:
        return flow.unknown(node)
    if dim % len(flow.shape(source)) != x.axis:
        return x
    half = len(x.channels) // 2
    if through_channel(x.channels, half):
        return flow.unknown(node, "a cut through the middle of a channel")
    flow.table.cut(x.channels, half)
    flow.table.tie(x.channels[:half], x.channels[half:])
    return Layout(x.axis, x.channels[:half])


def unbind(flow: Flow, node: fx.Node) -> Value:
    """``unbind`` splits a tensor along an axis. Along the channel axis it is not supported, and pins the channels."""
    source, dim = flow.source(node), flow.argument(node, "dim", 0)
    value, x = flow.value(source), flow.layout(source)
    if isinstance(value, Stacked):
        return tuple(value.part(i) for i in range(len(value.parts))) if dim == 0 else flow.unknown(node)
    if x is None:
        return flow.unknown(node) if value is not None else flow.opaque(node)
    if type(dim) is not int or dim % len(flow.shape(source)) == x.axis:
        return flow.unknown(node, "single channels are taken out")
    along = dim % len(flow.shape(source))
    return (Layout(x.axis - (along < x.axis), x.channels),) * flow.shape(source)[along]
