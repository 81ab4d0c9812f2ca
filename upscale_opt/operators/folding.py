"""Rules of tensors whose first axis is the batch times the channels: ``q.reshape(n * heads, length, -1)``, for ``bmm``.

Only few operators may stand between this reshape and the one that takes batch and channels apart again. All others pin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from upscale_opt.capture.shared_memory import kind_of
from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.lengths import with_lengths
from upscale_opt.channels.table import Folded, Layout
from upscale_opt.operators import elementwise, normalisations, products


def reshaped(flow: Flow, node: fx.Node, value: Value) -> Layout | Folded | None:
    """Return the result of a reshape that joins batch and channels, or takes them apart. None for other reshapes."""
    if isinstance(value, Folded):
        return _unfolded(flow, node, value)
    return _folded(flow, node, value) if isinstance(value, Layout) else None


def _folded(flow: Flow, node: fx.Node, x: Layout) -> Folded | None:
    source = flow.source(node)
    folds = all(
        len(shapes[source.name]) > 2
        and len(shapes[node.name]) > 1
        and shapes[node.name][0] == shapes[source.name][0] * shapes[source.name][1]
        for shapes in (flow.shapes, flow.given)
    )
    if x.axis != 1 or not folds or flow.shape(source)[0] == 1 or not _infers_first(flow, node):
        return None
    return Folded(x.channels)


def _unfolded(flow: Flow, node: fx.Node, x: Folded) -> Layout | Folded | None:
    before, after = flow.shape(flow.source(node)), flow.shape(node)
    if after[:1] == before[:1]:
        return x if _infers_first(flow, node) else None
    if len(after) < 3 or after[1] != len(x.channels) or after[0] * after[1] != before[0]:
        return None
    given = flow.given[node.name]
    if given[0] * given[1] != flow.given[flow.source(node).name][0]:
        return None
    result = with_lengths(flow, node, Layout(1, x.channels), node.args[1:])
    return result if isinstance(result, Layout) else None


def _infers_first(flow: Flow, node: fx.Node) -> bool:
    """Whether an export can infer the first length of a reshape. If so, note that it must."""
    if node.op == "call_module" or kind_of(node) in ("flatten", torch.flatten):
        return True
    given: Any = node.args[1:]
    entries = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    if len(entries) != len(flow.shape(node)):
        return False
    first, rest = entries[0], entries[1:]
    if type(first) is int and first == -1:
        return True
    if any((type(entry) is int and entry == -1) or entry is first for entry in rest):
        return False
    if isinstance(first, fx.Node):
        flow.settled.add((node.name, first.name))
    flow.factors.setdefault(node.name, {})[0] = -1
    return True


def _elementwise(flow: Flow, node: fx.Node) -> Value:
    """Elementwise operators tie tensors of this kind. Other operands must be the same for all samples and channels."""
    return _meeting(flow, node, [x for x in node.all_input_nodes if flow.is_tensor(x)])


def _softmax(flow: Flow, node: fx.Node) -> Value:
    """Softmax over another axis than the first."""
    dim: Any = flow.module(node).dim if node.op == "call_module" else flow.argument(node, "dim")
    source = flow.source(node)
    if type(dim) is not int or dim % len(flow.shape(source)) == 0:
        return flow.unknown(node)
    return flow.value(source)


def _product(flow: Flow, node: fx.Node) -> Value:
    """A product of matrices, for every sample and channel."""
    found = products.contraction_of(flow, node)
    if found is None or found.result[0] in found.result[-2:]:
        return flow.unknown(node)
    letters = {own[0] for operand, own in found.operands if isinstance(flow.value(operand), Folded)}
    others = [own for operand, own in found.operands if not isinstance(flow.value(operand), Folded)]
    if letters != {found.result[0]} or any(found.result[0] in own for own in others):
        return flow.unknown(node)
    return _meeting(flow, node, [operand for operand, _ in found.operands])


def _meeting(flow: Flow, node: fx.Node, operands: list[fx.Node]) -> Value:
    channels = None
    for operand in operands:
        value, shape = flow.value(operand), flow.shape(operand)
        if isinstance(value, Folded) and len(shape) == len(flow.shape(node)):
            if channels is not None and len(channels) != len(value.channels):
                return flow.unknown(node)
            flow.table.tie(value.channels if channels is None else channels, value.channels)
            channels = value.channels
        elif value is not None or (len(shape) == len(flow.shape(node)) and shape[0] != 1):
            return flow.unknown(node)
    return flow.unknown(node) if channels is None else Folded(channels)


RULES: dict[Callable[[Flow, fx.Node], Value], Callable[[Flow, fx.Node], Value]] = {
    elementwise.elementwise: _elementwise,
    normalisations.softmax: _softmax,
    products.product: _product,
    products.grouped_attention: _product,
}
"""Rules of operators to their rules for tensors of this kind."""
