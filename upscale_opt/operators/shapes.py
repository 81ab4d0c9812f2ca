"""Rules of operators that rearrange a tensor, such as permute, transpose and reshape, and of the channel shuffle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.lengths import counts_channels, with_lengths
from upscale_opt.channels.table import Folded, Layout, Scattered
from upscale_opt.operators import folding

MOST_FOLLOWED = 2**25
"""If the channel axis is split, a tensor with more elements is not followed any further."""


def permute(flow: Flow, node: fx.Node) -> Value:
    """``permute`` moves the channel axis."""
    given: Any = flow.module(node).dims if node.op == "call_module" else node.args[1:]
    dims = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    return _transpose(flow, node, dims)


def move_dimensions(flow: Flow, node: fx.Node) -> Value:
    """``movedim`` moves axes to other places; the others keep their order."""
    source = flow.source(node)
    given = [flow.argument(node, name) for name in ("source", "destination")]
    first, second = ([own] if type(own) is int else own for own in given)
    if not flow.is_tensor(source) or not all(isinstance(own, (tuple, list)) for own in (first, second)):
        return flow.unknown(node)
    if not all(type(d) is int for d in (*first, *second)):
        return flow.unknown(node)
    ndim = len(flow.shape(source))
    to = {b % ndim: a % ndim for a, b in zip(first, second, strict=True)}
    rest = iter(d for d in range(ndim) if d not in to.values())
    return _transpose(flow, node, [to[d] if d in to else next(rest) for d in range(ndim)])


def transpose(flow: Flow, node: fx.Node) -> Value:
    """``transpose`` swaps two axes."""
    first, second = flow.argument(node, "dim0"), flow.argument(node, "dim1")
    source = flow.source(node)
    if type(first) is not int or type(second) is not int or not flow.is_tensor(source):
        return flow.unknown(node)
    dims = list(range(len(flow.shape(source))))
    dims[first], dims[second] = dims[second], dims[first]
    return _transpose(flow, node, dims)


def transposed(flow: Flow, node: fx.Node) -> Value:
    """``T`` and ``mT`` swap the last two axes of a matrix, or of several matrices."""
    source = flow.source(node)
    if not flow.is_tensor(source) or len(flow.shape(source)) < 2 or flow.shape(node)[:-2] != flow.shape(source)[:-2]:
        return flow.unknown(node)
    ndim = len(flow.shape(source))
    if node.args[1] == "T" and ndim > 2:
        return flow.unknown(node)
    return _transpose(flow, node, [*range(ndim - 2), ndim - 1, ndim - 2])


def transpose_matrix(flow: Flow, node: fx.Node) -> Value:
    """``t`` transposes a matrix."""
    source = flow.source(node)
    if not flow.is_tensor(source) or len(flow.shape(source)) != 2:
        return flow.unknown(node)
    return _transpose(flow, node, (1, 0))


def _transpose(flow: Flow, node: fx.Node, dims: Sequence[Any]) -> Value:
    value = flow.value(flow.source(node))
    if value is None:
        return flow.opaque(node)
    if not all(type(d) is int for d in dims):
        return flow.unknown(node)
    if isinstance(value, Layout):
        ndim = len(flow.shape(flow.source(node)))
        return Layout([d % ndim for d in dims].index(value.axis), value.channels)
    if isinstance(value, Scattered):
        return _moved(flow, node, value, value.places.transpose(dims))
    if isinstance(value, Folded) and dims[0] % len(dims) == 0:
        return value
    return flow.unknown(node)


def reshape(flow: Flow, node: fx.Node) -> Value:
    """``view`` and ``reshape``: lengths that count channels are registered, so that an export can adapt them."""
    value = flow.value(flow.source(node))
    if (folded := folding.reshaped(flow, node, value)) is not None:
        return folded
    result = _reshape(flow, node)
    if isinstance(result, Layout):
        if node.name in flow.splits:
            _settle_factors(flow, node, result.axis)
        return with_lengths(flow, node, result, node.args[1:])
    return result


def reshape_as(flow: Flow, node: fx.Node) -> Value:
    """``view_as`` and ``reshape_as`` tie the channels of the result to those of the other tensor."""
    result, other = _reshape(flow, node), flow.argument(node, "other")
    if not isinstance(result, Layout):
        return result if flow.value(other) is None else flow.unknown(node)
    theirs = flow.channels(node, other, result.axis)
    if theirs is None or len(theirs) != len(result.channels):
        return flow.unknown(node)
    flow.table.tie(result.channels, theirs)
    return result


def flatten(flow: Flow, node: fx.Node) -> Value:
    """``flatten``: if it merges the channel axis with later axes, every channel gets several entries."""
    return folding.reshaped(flow, node, flow.value(flow.source(node))) or _reshape(flow, node)


def unflatten(flow: Flow, node: fx.Node) -> Value:
    """``unflatten`` splits an axis. If it splits the channel axis, the channels are followed until they are merged."""
    result = _reshape(flow, node)
    if isinstance(result, Layout):
        source = flow.layout(flow.source(node))
        dim, sizes = flow.argument(node, "dim"), flow.argument(node, "sizes")
        if source is None or type(dim) is not int or not isinstance(sizes, (tuple, list)) or len(node.args) < 3:
            return flow.unknown(node)
        if dim % len(flow.shape(flow.source(node))) != source.axis:
            return result
        entry = sizes[result.axis - source.axis] if node.name in flow.splits else None
        if type(entry) is not int:
            return flow.unknown(node)
        if entry != -1:
            flow.lengths[node.name] = result.axis
    return result


def squeeze(flow: Flow, node: fx.Node) -> Value:
    """``squeeze`` removes axes of length 1. If the call does not name others, the channel axis must keep its length."""
    source = flow.source(node)
    layout, dims = flow.layout(source), flow.argument(node, "dim")
    if layout is not None:
        listed = [dims] if type(dims) is int else dims
        named = isinstance(listed, (tuple, list)) and all(type(d) is int for d in listed)
        if not named or layout.axis in {d % len(flow.shape(source)) for d in listed}:
            flow.table.need(layout.channels)
    return _reshape(flow, node)


def unsqueeze(flow: Flow, node: fx.Node) -> Value:
    """``unsqueeze`` adds an axis of length 1."""
    return _reshape(flow, node)


def channel_shuffle(flow: Flow, node: fx.Node) -> Value:
    """A channel shuffle interleaves groups of channels. An export replaces it by a selection, in any order."""
    source = flow.source(node)
    groups = flow.module(node).groups if node.op == "call_module" else flow.argument(node, "groups")
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    if x is None or x.axis != 1 or type(groups) is not int:
        return flow.unknown(node)
    index = np.arange(len(x.channels)).reshape(groups, -1).T.ravel()
    return flow.rearrange(node, source.name, x, index)


def pixel_shuffle(flow: Flow, node: fx.Node) -> Value:
    """``pixel_shuffle`` makes one channel of r x r neighbours, which move together."""
    factor = flow.module(node).upscale_factor if node.op == "call_module" else flow.argument(node, "upscale_factor")
    x = _channels_of_images(flow, node)
    if x is None or type(factor) is not int:
        return flow.unknown(node) if flow.value(flow.source(node)) is not None else flow.opaque(node)
    neighbours = x.channels.reshape(-1, factor**2)
    for i in range(1, factor**2):
        flow.table.tie(neighbours[:, 0], neighbours[:, i])
    return Layout(x.axis, neighbours[:, 0])


def pixel_unshuffle(flow: Flow, node: fx.Node) -> Value:
    """``pixel_unshuffle`` makes r x r neighbours of one channel."""
    factor = flow.module(node).downscale_factor if node.op == "call_module" else flow.argument(node, "downscale_factor")
    x = _channels_of_images(flow, node)
    if x is None or type(factor) is not int:
        return flow.unknown(node) if flow.value(flow.source(node)) is not None else flow.opaque(node)
    return Layout(x.axis, x.channels.repeat(factor**2))


def unfold(flow: Flow, node: fx.Node) -> Value:
    """``unfold`` of images puts the pixels of a window behind each other, channel by channel."""
    x = _channels_of_images(flow, node)
    if x is None or node.op == "call_method":  # the method slides along one axis
        return flow.unknown(node) if flow.value(flow.source(node)) is not None else flow.opaque(node)
    size, pixels = len(x.channels), flow.shape(node)[x.axis]
    return Layout(x.axis, x.channels.repeat(pixels // size))


def _channels_of_images(flow: Flow, node: fx.Node) -> Layout | None:
    """The layout of a node's input, if its channels are in front of two spatial axes."""
    source = flow.source(node)
    x = flow.layout(source)
    return x if x is not None and x.axis == len(flow.shape(source)) - 3 else None


def gather(flow: Flow, node: fx.Node) -> Value:
    """A `Gather` in a model that is an export itself. A new export may select its channels in any order."""
    source, module = flow.source(node), flow.module(node)
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    if x is None or x.axis != module.axis:
        return flow.unknown(node)
    return flow.rearrange(node, source.name, x, module.index.cpu().numpy())


def _reshape(flow: Flow, node: fx.Node) -> Value:
    source = flow.source(node)
    value = flow.value(source)
    if not flow.is_tensor(node) or not flow.is_tensor(source):
        return flow.unknown(node)
    if value is None:
        return flow.opaque(node)
    before, after = flow.shape(source), flow.shape(node)
    if isinstance(value, Scattered):
        return _moved(flow, node, value, value.places.reshape(after))
    if not isinstance(value, Layout):
        return flow.unknown(node)
    merged = merged_axis(before, after, value.axis)
    if merged is not None:
        axis, outer, inner = merged
        given, result = flow.given[source.name], flow.given[node.name]
        lengths = math.prod(result[:axis]) * outer, math.prod(result[axis + 1 :]) * inner
        if lengths != (math.prod(given[: value.axis]), math.prod(given[value.axis + 1 :])):
            return flow.unknown(node, "a reshape that does something else for another batch")
        return Layout(axis, np.tile(np.repeat(value.channels, inner), outer))
    if node.name in flow.splits:
        return _split(flow, node, value, flow.splits[node.name])
    if math.prod(before) > MOST_FOLLOWED:
        return flow.unknown(node, "the channel axis of a large tensor is split")
    return Scattered(source.name, value, np.arange(math.prod(before)).reshape(after), node.name)


def split_axes(before: Sequence[int], after: Sequence[int], axis: int) -> range | None:
    """Return the axes into which a reshape splits one axis. None if it merges this axis with others, too.

    Examples
    --------
    >>> split_axes((2, 64), (2, 4, 4, 4), 1)
    range(1, 4)
    >>> split_axes((2, 8, 6, 6), (2, 4, 12, 6), 1) is None
    True
    """
    first = next((j for j in range(len(after)) if math.prod(after[:j]) == math.prod(before[:axis])), None)
    last = next((j for j in range(len(after), -1, -1) if math.prod(after[j:]) == math.prod(before[axis + 1 :])), None)
    if first is None or last is None or math.prod(after[first:last]) != before[axis]:
        return None
    return range(first, last)


def _split(flow: Flow, node: fx.Node, x: Layout, axis: int) -> Value:
    """Split the channel axis so that one axis has the channels: those that differ in other axes only are tied."""
    source = flow.source(node)
    axes = split_axes(flow.shape(source), flow.shape(node), x.axis)
    if axes is None or axis not in axes:
        return flow.unknown(node)
    after = flow.shape(node)
    outer, inner = math.prod(after[axes.start : axis]), math.prod(after[axis + 1 : axes.stop])
    channels = x.channels.reshape(outer, after[axis], inner)
    first = channels[0, :, 0]
    for o in range(outer):
        flow.table.cut(x.channels, o * after[axis] * inner)
        for i in range(inner):
            flow.table.tie(first, channels[o, :, i])
    return Layout(axis, first)


def _settle_factors(flow: Flow, node: fx.Node, axis: int) -> None:
    """Let the computed lengths beside the channels be constants, if they are computed from numbers of channels only.

    ``(n, length, heads, width // heads)``: with fewer heads, a head has as many channels as before.
    """
    given: Any = node.args[1:]
    entries = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    source = flow.source(node)
    x = flow.layout(source)
    axes = None if x is None else split_axes(flow.shape(source), flow.shape(node), x.axis)
    for d in axes or ():
        entry = entries[d] if len(entries) == len(flow.shape(node)) else None
        if d != axis and isinstance(entry, fx.Node) and counts_channels(flow, entry):
            flow.factors.setdefault(node.name, {})[d] = flow.shape(node)[d]
            flow.settled.add((node.name, entry.name))


def merged_axis(before: Sequence[int], after: Sequence[int], axis: int) -> tuple[int, int, int] | None:
    """Return (axis, outer, inner): the position of the channel axis after a reshape. None if the axis is split.

    Along this axis each channel is repeated `inner` times, and the whole list of channels `outer` times. The first
    axis, the batch, is never merged into other axes, because its length changes.

    Examples
    --------
    >>> merged_axis((2, 8, 4, 4), (2, 128), 1)
    (1, 1, 16)
    >>> merged_axis((2, 5, 5, 8), (2, 200), 3)
    (1, 25, 1)
    >>> merged_axis((2, 8, 4, 4), (2, 2, 4, 4, 4), 1) is None
    True
    """
    length, leading, trailing = before[axis], math.prod(before[:axis]), math.prod(before[axis + 1 :])
    for j, size in enumerate(after):
        ahead, behind = math.prod(after[:j]), math.prod(after[j + 1 :])
        if size % length or ahead == 0 or behind == 0 or leading % ahead or trailing % behind:
            continue
        outer, inner = leading // ahead, trailing // behind
        if size != outer * length * inner or (length == 1 and size == 1 and j != axis and len(after) == len(before)):
            continue
        if outer > 1 and (j == 0 or after[0] != before[0]):
            continue
        if inner > 1 and axis == 0:
            continue
        return j, outer, inner
    return None


def _moved(flow: Flow, node: fx.Node, value: Scattered, places: np.ndarray) -> Value:
    """Return the value after a further rearrangement. If only channels were rearranged, register a selection."""
    axis, shape = value.layout.axis, flow.shapes[value.origin]
    if places.shape == shape:
        step = math.prod(shape[axis + 1 :])
        first = places[tuple(slice(None) if d == axis else 0 for d in range(len(shape)))]
        index = first // step % shape[axis]
        if np.array_equal(places, np.take(np.arange(places.size).reshape(shape), index, axis)):
            if np.array_equal(index, np.arange(len(index))) or not _is_only_use(flow, node, value.origin):
                return flow.unknown(node, "the channel axis is split and used in between")
            return flow.rearrange(node, value.origin, value.layout, index)
    return Scattered(value.origin, value.layout, places, value.split)


def _is_only_use(flow: Flow, node: fx.Node, origin: str) -> bool:
    """Whether the nodes between a tensor and its rearrangement have no other users. Uses of lengths do not count."""
    between = flow.source(node)
    while between.name != origin:
        others = [user for user in between.users if user is not node and user.name not in flow.sizes]
        if any(user.op != "call_function" or user.target is not getattr for user in others):
            return False
        node, between = between, flow.source(between)
    return True
