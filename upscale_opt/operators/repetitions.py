"""Rules of operators that repeat a tensor: expand, repeat, repeat_interleave."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.lengths import with_lengths
from upscale_opt.channels.table import Layout


def expand(flow: Flow, node: fx.Node) -> Value:
    """``expand`` repeats axes other than the channel axis, which keeps its length."""
    source = flow.source(node)
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    if x is None:
        return flow.unknown(node)
    axis = len(flow.shape(node)) - len(flow.shape(source)) + x.axis
    if flow.shape(node)[axis] != len(x.channels):
        return flow.unknown(node, "one channel is repeated")
    result = Layout(axis, x.channels)
    return with_lengths(flow, node, result, node.args[1:])


def expand_as(flow: Flow, node: fx.Node) -> Value:
    """``expand_as`` ties the channels of both tensors. A tensor without a channel axis is repeated for all channels."""
    source, other = flow.source(node), flow.argument(node, "other")
    layouts = [flow.layout(x) for x in (source, other)]
    missing = len(flow.shape(node)) - len(flow.shape(source))
    axis = next((own.axis + by for own, by in zip(layouts, (missing, 0), strict=True) if own is not None), None)
    if axis is None:
        return flow.opaque(node)
    length = flow.shape(node)[axis]
    theirs = flow.channels(node, other, axis)
    if theirs is None or len(theirs) != length:
        return flow.unknown(node)
    if axis < missing or flow.shape(source)[axis - missing] != length:
        return flow.unknown(node, "one channel is repeated") if flow.value(source) is not None else Layout(axis, theirs)
    own = flow.channels(node, source, axis - missing, picks=True)
    if own is None:
        return flow.unknown(node)
    flow.table.tie(own, theirs)
    return Layout(axis, own)


def repeat(flow: Flow, node: fx.Node) -> Value:
    """``repeat``: along the channel axis, the whole list of channels is repeated, by a constant number of times."""
    source = flow.source(node)
    if flow.value(source) is None:
        return flow.opaque(node)
    x = flow.layout(source)
    given: Any = node.args[1:]
    times = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    if x is None or isinstance(times, fx.Node):
        return flow.unknown(node)
    axis = len(times) - len(flow.shape(source)) + x.axis
    if type(times[axis]) is not int:
        return flow.unknown(node)
    return Layout(axis, np.tile(x.channels, times[axis]))


def repeat_interleave(flow: Flow, node: fx.Node) -> Value:
    """``repeat_interleave``: along the channel axis, every channel is repeated in its place."""
    source, times, dim = flow.source(node), flow.argument(node, "repeats"), flow.argument(node, "dim")
    x = flow.layout(source)
    if x is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    if type(times) is not int or type(dim) is not int or flow.argument(node, "output_size") is not None:
        return flow.unknown(node)
    return Layout(x.axis, x.channels.repeat(times)) if dim % len(flow.shape(source)) == x.axis else x
