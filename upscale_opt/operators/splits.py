"""Decides which axis has the channels after a reshape that splits the channel axis: ``linear(x).view(n, c, h, w)``.

A channel shuffle splits and merges the axis again, and needs no decision. If another operator follows, its axis for
channels decides. A decision only ties channels. A wrong one would leave fewer channels free, but no export would be
wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Scattered
from upscale_opt.operators import elementwise, normalisations, shapes, weights

Rule = Callable[[Flow, fx.Node], Value]

_OVER_SECOND = (
    *(weights.convolution, weights.functional_convolution, normalisations.batch_norm),
    *(normalisations.functional_batch_norm, normalisations.group_norm, normalisations.functional_group_norm),
    *(normalisations.prelu, shapes.channel_shuffle, shapes.pixel_shuffle, shapes.pixel_unshuffle),
)
"""Rules of operators whose channels are on axis 1."""
_OVER_LAST = (
    *(weights.linear, weights.functional_linear, normalisations.layer_norm, normalisations.functional_layer_norm),
    normalisations.functional_rms_norm,
)
"""Rules of operators whose channels are on the last axis."""
_OVER_GIVEN = (normalisations.softmax, elementwise.reduction, elementwise.extremum)
"""Rules of operators that combine the entries along given axes."""
MOST_SEARCHED = 50
"""Number of nodes that are searched for an operator that decides."""


def wished(flow: Flow, node: fx.Node, rule_of: Callable[[Flow, fx.Node], Rule | None]) -> dict[str, int]:
    """Return the reshapes that should be decided for a node that cannot use split channels, with the axes to choose.

    Parameters
    ----------
    flow
        The state of the pass.
    node
        A node with a rule, which reads split channels.
    rule_of
        Returns the rule of a node.
    """
    found = {}
    for source in node.all_input_nodes:
        value = flow.value(source)
        if isinstance(value, Scattered) and value.split not in flow.splits:
            wanted = _axis_beside(flow, node, value) if rule_of(flow, node) is elementwise.elementwise else None
            wanted = _wanted_axis(flow, node, value.places.ndim, rule_of) if wanted is None else wanted
            axis = (
                _axis_of_split(flow, value, wanted) if wanted is not None else _other_axis(flow, node, value, rule_of)
            )
            if axis is not None:
                found[value.split] = axis
    return found


def _axis_beside(flow: Flow, node: fx.Node, value: Scattered) -> int | None:
    """Return the axis of the channels in the other operand of an elementwise operator."""
    layouts = [own for x in node.all_input_nodes if (own := flow.layout(x)) is not None]
    alike = len(flow.shape(node)) == value.places.ndim if flow.is_tensor(node) else False
    axes = {own.axis for own in layouts} if alike else set()
    return axes.pop() if len(axes) == 1 else None


def _other_axis(
    flow: Flow, node: fx.Node, value: Scattered, rule_of: Callable[[Flow, fx.Node], Rule | None]
) -> int | None:
    """Return the axis of the splitting reshape beside those that a node combines, if there is just one.

    A softmax or a sum over branches (selective kernels, split attention, maxout) leaves the channels to the other axis.
    """
    if rule_of(flow, node) not in _OVER_GIVEN:
        return None
    given: Any = flow.module(node).dim if node.op == "call_module" else flow.argument(node, "dim")
    dims = given if isinstance(given, (tuple, list)) else [given]
    if not all(type(d) is int for d in dims):
        return None
    ndim = value.places.ndim
    others = set(range(ndim)) - {d % ndim for d in dims}
    found = {axis for d in others if (axis := _axis_of_split(flow, value, d)) is not None}
    return found.pop() if len(found) == 1 else None


def _wanted_axis(flow: Flow, node: fx.Node, ndim: int, rule_of: Callable[[Flow, fx.Node], Rule | None]) -> int | None:
    """Return the axis that the next operator with a fixed axis for channels wants. None if there is none."""
    waiting, seen = [node], {node}
    while waiting and len(seen) < MOST_SEARCHED:
        own = waiting.pop(0)
        rule = rule_of(flow, own)
        if rule in _OVER_SECOND and ndim > 2:
            return 1
        if rule in _OVER_LAST:
            return ndim - 1
        same_axes = flow.is_tensor(own) and len(flow.shape(own)) == ndim and rule is not shapes.permute
        if same_axes and rule not in (shapes.transpose, shapes.reshape, shapes.move_dimensions):
            more = [user for user in own.users if user not in seen]
            waiting += more
            seen.update(more)
    return None


def _axis_of_split(flow: Flow, value: Scattered, wanted: int) -> int | None:
    """Return the axis of the splitting reshape that a later axis shows. None if no axis, or only part of one, does."""
    (node,) = (own for own in flow.traced.graph.nodes if own.name == value.split)
    after = flow.shape(node)
    axes = shapes.split_axes(flow.shape(flow.source(node)), after, value.layout.axis)
    first = value.places[tuple(slice(None) if d == wanted else slice(1) for d in range(value.places.ndim))]
    found = []
    for axis in axes or ():
        step = int(np.prod(after[axis + 1 :], dtype=np.int64))
        along = first // step % after[axis]
        if np.ptp(along) and bool((value.places // step % after[axis] == along).all()):
            found.append((after[axis], axis))
    return max(found)[1] if found else None
