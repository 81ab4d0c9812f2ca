"""Rules of products of tensors: ``matmul``, ``bmm``, ``einsum``, scaled dot-product attention.

Every axis of an operand has a letter, as in ``einsum``. Axes with equal letters are multiplied entry by entry. The
letters that the result lacks are summed over.

- If the result has the letter of the channels, they pass, and the channels of all operands with this letter are tied.
  The heads of an attention are such channels.
- Otherwise the channels are summed over. They are tied and may move, and none is removed: queries with keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.capture.shared_memory import kind_of
from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Layout
from upscale_opt.operators import weights

_BATCH = "batch"


@dataclass(frozen=True)
class Contraction:
    """A product of tensors, with a letter for every axis.

    Attributes
    ----------
    operands
        The nodes of the operands, each with the letters of its axes.
    result
        The letters of the result's axes.
    is_causal
        Whether only some pairs of rows and positions are multiplied.
    """

    operands: tuple[tuple[fx.Node, tuple[Hashable, ...]], ...]
    result: tuple[Hashable, ...]
    is_causal: bool = False


def product(flow: Flow, node: fx.Node) -> Value:
    """Products of tensors tie the channels of their operands. Channels that are summed over cannot be removed."""
    contraction = contraction_of(flow, node)
    if contraction is None:
        return flow.unknown(node)
    values = [flow.value(operand) for operand, _ in contraction.operands]
    if not all(isinstance(value, (Layout, type(None))) for value in values):
        return flow.unknown(node)
    found = {
        letters[value.axis]: None
        for value, (_, letters) in zip(values, contraction.operands, strict=True)
        if isinstance(value, Layout)
    }
    if not found:
        return flow.opaque(node)
    if contraction.is_causal and not {"row", "position"}.isdisjoint(found):
        return flow.unknown(node, "a causal mask over channels")
    # The result has one axis with channels. The heads come first.
    passing = next((letter for letter in contraction.result if letter in found), None)
    result = None
    for letter in found:
        sides = [(operand, letters.index(letter)) for operand, letters in contraction.operands if letter in letters]
        channels = _tied(flow, node, sides, fixed=letter in contraction.result and letter != passing)
        if letter == passing:
            result = channels
        else:
            flow.table.need(channels)
    return flow.opaque(node, reads=()) if result is None else Layout(contraction.result.index(passing), result)


def matrix_product(flow: Flow, node: fx.Node) -> Value:
    """A product of matrices is a linear layer if its second factor is a parameter."""
    return weights.product(flow, node) if weights.is_layer(flow, node) else product(flow, node)


def _tied(flow: Flow, node: fx.Node, sides: list[tuple[fx.Node, int]], *, fixed: bool) -> np.ndarray:
    """Tie the channels along the axes of one letter, and return them.

    They are pinned if they are `fixed`, or if an operand has its channels along another axis than that of the letter.
    """
    width = max(flow.shape(operand)[axis] for operand, axis in sides)
    own: list[np.ndarray] = []
    for operand, axis in sides:
        layout = flow.layout(operand)
        if layout is not None and layout.axis != axis:
            fixed |= flow.shape(operand)[axis] > 1
        elif layout is not None or flow.shape(operand)[axis] > 1 or width == 1:
            channels = flow.channels(node, operand, axis, picks=True)
            assert channels is not None
            own.append(channels)
    for channels in own:
        if fixed:
            flow.table.pin(channels, "channels on different axes", node.name)
        if len(channels) < width:
            flow.table.need(channels)
    whole = [channels for channels in own if len(channels) == width]
    if not whole:  # the channels are a single one, which meets all entries of another axis
        whole = [flow.table.produce(width, node.name)]
        flow.table.pin(whole[0], "channels on different axes", node.name)
    for channels in whole[1:]:
        flow.table.tie(whole[0], channels)
    return whole[0]


def grouped_attention(flow: Flow, node: fx.Node) -> Value:
    """Scaled dot-product attention. With grouped queries, the heads of a group belong to one head of keys and values.

    Without a `scale`, the number of channels of a head sets it. It stays the same, as none of these is removed.
    """
    if flow.argument(node, "enable_gqa", False) is False:
        return product(flow, node)
    query, *others = (flow.argument(node, name) for name in ("query", "key", "value"))
    layouts = [flow.layout(x) for x in (query, *others)]
    axis = len(flow.shape(query)) - 3
    mask = flow.argument(node, "attn_mask")
    fits = mask is None or (flow.is_tensor(mask) and flow.value(mask) is None and {*flow.shape(mask)[:-2]} <= {1})
    if not fits or any(own is None or own.axis != axis for own in layouts):
        return flow.unknown(node)
    heads, keys, values = (own.channels for own in layouts if own is not None)
    if len(keys) != len(values) or len(heads) % len(keys):
        return flow.unknown(node)
    flow.table.tie(keys, values)
    flow.table.tie(heads, keys.repeat(len(heads) // len(keys)))
    return Layout(axis, keys.repeat(len(heads) // len(keys)))


def contraction_of(flow: Flow, node: fx.Node) -> Contraction | None:
    """Return a product with the letters of all axes. None if it is written in a way that is not supported."""
    found = _SPELLED.get(_name(node), _matmul)(flow, node)
    if found is None or not all(flow.is_tensor(own) for own, _ in found.operands) or not flow.is_tensor(node):
        return None
    fits = all(len(letters) == len(flow.shape(own)) == len({*letters}) for own, letters in found.operands)
    return found if fits and len(found.result) == len(flow.shape(node)) else None


def shared_axes(flow: Flow, node: fx.Node, operand: fx.Node) -> list[int]:
    """Return the axes of an operand that another operand and the result have, too, such as that of heads."""
    found = contraction_of(flow, node)
    if found is None and _name(node) == "scaled_dot_product_attention":
        return [len(flow.shape(operand)) - 3]  # grouped queries
    if found is None:
        return []
    axes = []
    for at, (own, letters) in enumerate(found.operands):
        others = {letter for i, (_, theirs) in enumerate(found.operands) if i != at for letter in theirs}
        if own is operand:
            axes += [d for d, letter in enumerate(letters) if letter in found.result and letter in others]
    return axes


def _batch(node: fx.Node, flow: Flow, trailing: int) -> tuple[Hashable, ...]:
    """Letters of the axes in front of the last ones. They are aligned to the right."""
    return tuple((_BATCH, d) for d in range(len(flow.shape(node)) - trailing, 0, -1))


def _name(node: fx.Node) -> str:
    kind = kind_of(node)
    return kind if isinstance(kind, str) else getattr(kind, "__name__", "")


def _matmul(flow: Flow, node: fx.Node) -> Contraction | None:
    operands = node.args[:2]
    if len(operands) != 2 or not all(flow.is_tensor(own) for own in operands) or node.kwargs:
        return None
    first, second = operands
    assert isinstance(first, fx.Node) and isinstance(second, fx.Node)
    if min(len(flow.shape(first)), len(flow.shape(second))) < 2:
        return None
    batches = [_batch(own, flow, 2) for own in (first, second)]
    letters = (*batches[0], "row", "sum"), (*batches[1], "sum", "column")
    longer = max(batches, key=len)
    return Contraction(((first, letters[0]), (second, letters[1])), (*longer, "row", "column"))


def _attention(flow: Flow, node: fx.Node) -> Contraction | None:
    names = ("query", "key", "value")
    operands = [flow.argument(node, name) for name in names]
    mask = flow.argument(node, "attn_mask")
    if not all(flow.is_tensor(own) for own in operands) or flow.argument(node, "enable_gqa", False) is not False:
        return None
    trailing = (("row", "sum"), ("position", "sum"), ("position", "column"))
    found = [(own, (*_batch(own, flow, 2), *last)) for own, last in zip(operands, trailing, strict=True)]
    longest = max((_batch(own, flow, 2) for own in operands), key=len)
    if mask is not None:
        if not flow.is_tensor(mask) or len(flow.shape(mask)) < 2:
            return None
        found.append((mask, (*_batch(mask, flow, 2), "row", "position")))
    is_causal = flow.argument(node, "is_causal", False) is not False
    return Contraction(tuple(found), (*longest, "row", "column"), is_causal)


def _einsum(flow: Flow, node: fx.Node) -> Contraction | None:
    equation, *given = node.args
    operands: Sequence[Any] = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    if not isinstance(equation, str) or node.kwargs or not all(flow.is_tensor(own) for own in operands):
        return None
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow or len(terms) != len(operands) or "." in output.replace("...", ""):
        return None
    found = []
    for term, own in zip(terms, operands, strict=True):
        before, dots, behind = term.partition("...")
        if "." in before + behind:
            return None
        rest = len(flow.shape(own)) - len(before) - len(behind)
        if rest < 0 or (rest and not dots):
            return None
        found.append((own, (*before, *((_BATCH, d) for d in range(rest, 0, -1)), *behind)))
    before, dots, behind = output.partition("...")
    letters = itertools.chain.from_iterable(own for _, own in found)
    longest = max((own[1] for own in letters if isinstance(own, tuple)), default=0)
    batch = ((_BATCH, d) for d in range(longest, 0, -1)) if dots else ()
    return Contraction(tuple(found), (*before, *batch, *behind))


_SPELLED = {"einsum": _einsum, "scaled_dot_product_attention": _attention}
"""Operators whose axes are not those of a product of matrices."""
PRODUCTS = (product, matrix_product, grouped_attention)
"""Rules of products."""
