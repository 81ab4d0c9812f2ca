"""Decides which axis has the channels after a reshape that splits the channel axis: ``linear(x).view(n, c, h, w)``.

A channel shuffle splits and merges the axis again, and needs no decision. If a product of tensors follows, as in an
attention, its heads are the channels. If another operator follows, its axis for channels decides. A decision only ties
channels. A wrong one would leave fewer channels free, but no export would be wrong.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from upscale_opt.channels.derivations import applied
from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Scattered
from upscale_opt.operators import elementwise, normalisations, products, repetitions, selections, shapes, weights

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
_MOVING = (
    *(shapes.permute, shapes.transpose, shapes.transposed, shapes.transpose_matrix, shapes.move_dimensions),
    shapes.unsqueeze,
)
"""Rules of operators that only rearrange elements, by constant arguments."""
_SELECTING = (selections.get_item, selections.select, selections.narrow, shapes.squeeze)
"""Rules of operators that select elements by constant arguments, which fit only the whole tensor."""
_PARTING = (selections.split, selections.unbind)
_KEEPING_AXES = (elementwise.elementwise, elementwise.pad, selections.concat)
"""Rules of operators whose result has the axes of their input, maybe with other lengths."""
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
            partner = _axis_of_partner(flow, node, value) if rule_of(flow, node) is elementwise.elementwise else None
            axis = None if partner is None else _axis_of_split(flow, value, partner)
            if axis is None:
                axis = _axis_of_heads(flow, node, source, value, rule_of)
            if axis is None:
                wanted = _wanted_axis(flow, node, len(value.places.shape), rule_of)
                axis = (
                    _other_axis(flow, node, value, rule_of) if wanted is None else _axis_of_split(flow, value, wanted)
                )
            if axis is not None:
                found[value.split] = axis
    return found


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


def _axis_of_partner(flow: Flow, node: fx.Node, value: Scattered) -> int | None:
    """Return the axis of a tensor with split channels that meets the channels of another operand."""
    for other in node.all_input_nodes:
        layout = flow.layout(other)
        axis = -1 if layout is None else layout.axis + value.places.ndim - len(flow.shape(other))
        if axis >= 0:
            return axis
    return None


def _axis_of_heads(
    flow: Flow, node: fx.Node, source: fx.Node, value: Scattered, rule_of: Callable[[Flow, fx.Node], Rule | None]
) -> int | None:
    """Return the axis of the splitting reshape over which a later product of tensors works entry by entry: heads.

    With a single head, this is the axis of the channels of the head.
    """
    waiting, seen = [(node, source, value.places)], {node}
    within = None
    while waiting and len(seen) < MOST_SEARCHED:
        own, read, places = waiting.pop(0)
        rule = rule_of(flow, own)
        if rule in products.PRODUCTS:
            here = replace(value, places=places)
            axes = [_axis_of_split(flow, here, d) for d in products.shared_axes(flow, own, read)]
            axis = next((axis for axis in axes if axis is not None), None)
            if axis is not None:
                return axis
            if within is None:
                within = next((axis for d in (-1, -2) if (axis := _axis_of_split(flow, here, places.ndim + d))), None)
        for after, moved in _places_after(flow, own, rule, places):
            more = [user for user in after.users if user not in seen]
            waiting += [(user, after, moved) for user in more]
            seen.update(more)
    return within


def _places_after(
    flow: Flow, node: fx.Node, rule: Rule | None, places: np.ndarray
) -> Iterator[tuple[fx.Node, np.ndarray]]:
    """Yield the tensors that a node makes of a rearranged one, each with the places of its elements, if known.

    They may be those of a part of the tensor: this suffices to see along which axes its elements differ.
    """
    is_whole = flow.is_tensor(source := flow.source(node)) and flow.shape(source) == places.shape
    dim = flow.argument(node, "dim", 0) if rule in _PARTING and is_whole else None
    if type(dim) is int:
        sizes = [shape[dim] for shape in flow.shapes.get(f"{node.name}:parts", ())]
        parts = (
            np.split(places, np.cumsum(sizes)[:-1], dim) if rule is selections.split else np.moveaxis(places, dim, 0)
        )
        yield from _taken(node, list(parts))
    elif not flow.is_tensor(node):
        return
    elif rule in (shapes.reshape, shapes.flatten, shapes.unflatten) and math.prod(flow.shape(node)) == places.size:
        yield node, places.reshape(flow.shape(node))
    elif (rule in _MOVING or (rule in _SELECTING and is_whole)) and len(node.all_input_nodes) == 1:
        yield node, applied(node, torch.from_numpy(places)).numpy()
    elif rule is repetitions.expand and len(flow.shape(node)) == places.ndim:
        yield node, np.broadcast_to(places, flow.shape(node))
    elif rule is repetitions.repeat_interleave and {type(flow.argument(node, own)) for own in ("repeats", "dim")} == {
        int
    }:
        yield node, places.repeat(flow.argument(node, "repeats"), flow.argument(node, "dim"))
    elif len(flow.shape(node)) == places.ndim and (
        rule in _KEEPING_AXES
        or (flow.shape(node) == places.shape and rule not in (None, *_OVER_SECOND, *_OVER_LAST[:2]))
    ):
        yield node, places


def _taken(node: fx.Node, parts: list[np.ndarray]) -> Iterator[tuple[fx.Node, np.ndarray]]:
    """Yield the tensors that are taken out of several, one by one or by slices."""
    for taken in node.users:
        index = taken.args[1] if taken.target is operator.getitem else None
        if type(index) is int:
            yield taken, parts[index]
        elif isinstance(index, slice):
            yield from _taken(taken, parts[index])


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
    if not value.places.size:
        return None
    first = value.places[tuple(slice(None) if d == wanted else slice(1) for d in range(value.places.ndim))]
    found = []
    for axis in axes or ():
        step = int(np.prod(after[axis + 1 :], dtype=np.int64))
        along = first // step % after[axis]
        if np.ptp(along) and bool((value.places // step % after[axis] == along).all()):
            found.append((after[axis], axis))
    return max(found)[1] if found else None
