"""For which input sizes a trace holds: which axes of the inputs are free, and which decisions depend on them.

A trace takes some sizes from the example inputs (`Settled`). To find out on which axes of the inputs such a size
depends, the traced model is run on meta tensors with one axis doubled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from upscale_opt.capture.known_values import KnownValues
from upscale_opt.capture.node_runs import NodeRun
from upscale_opt.capture.settled import LENGTH, Settled, asked_from, asks_for_type
from upscale_opt.models.nested import map_nested, map_tensors, nested_tensors
from upscale_opt.modules.guards import require_settled
from upscale_opt.tracing.meta_shapes import run_on

BATCH, HEIGHT, WIDTH, NUMBERS = "batch", "height", "width", "numbers among the inputs"


@dataclass(frozen=True)
class Validity:
    """For which input sizes a trace, and every export made from it, holds.

    Attributes
    ----------
    free
        Names of the axes of the inputs that may have any length that the network accepts: ``batch``, ``height``,
        ``width``, ``axis 1``; and ``numbers among the inputs``, if there are any.
    conditions
        The decisions of the trace that depend on sizes of the inputs, each with the names of these axes. An export
        holds for those sizes for which the decisions are the same.
    """

    free: tuple[str, ...] = ()
    conditions: Mapping[Settled, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.conditions:
            return f"holds for any {_listed(self.free)}" if self.free else "holds for inputs of this size"
        told = [f"{own} ({_listed(axes)})" for own, axes in self.conditions.items()]
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        return f"holds for sizes with the same {'; '.join(told[:3])}{more}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def validity_of(
    traced: fx.GraphModule,
    inputs: tuple[Any, ...],
    settled: Sequence[Settled],
    known: KnownValues | None = None,
    base: NodeRun | None = None,
) -> Validity:
    """Find out for which input sizes a traced model holds.

    Parameters
    ----------
    traced
        The traced model.
    inputs
        The example inputs.
    settled
        What the trace took from them.
    known
        Values of nodes that are computed only from buffers.
    base
        The run of the traced model on the example inputs, if it exists already.
    """
    nodes = {node.name: node for node in traced.graph.nodes}
    if base is None:
        base, failed = run_on(traced, inputs, known)
        if failed is not None:
            return Validity()
    free: list[str] = []
    conditions: dict[Settled, list[str]] = {}
    for name, changed in _changes(inputs).items():
        run, failed = run_on(traced, changed, known)
        asked = [own for own in settled if own.node in nodes and nodes[own.node] in run.values]
        depending = [own for own in asked if _differs(own, nodes[own.node], base, run)]
        for own in depending:
            conditions.setdefault(own, []).append(name)
        if failed is None and not depending:
            free.append(name)
    return Validity(tuple(free), {own: tuple(axes) for own, axes in conditions.items()})


def _changes(inputs: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """Return inputs on the meta device with one axis of all tensors doubled, by the name of the axis."""
    tensors = list(nested_tensors(inputs))
    most = max((x.ndim for x in tensors), default=0)
    names = {0: BATCH, **({2: HEIGHT, 3: WIDTH} if most == 4 else {})}
    changes = {names.get(axis, f"axis {axis}"): _doubled(inputs, axis) for axis in range(most)}
    numbers: list[Any] = []
    other: tuple[Any, ...] = map_nested(lambda x: _other_number(x, numbers), inputs)
    return {**changes, NUMBERS: other} if numbers else changes


def _other_number(x: Any, found: list[Any]) -> Any:
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        found.append(x)
        return x + 1
    return x


def _doubled(inputs: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    def longer(x: torch.Tensor) -> torch.Tensor:
        shape = [2 * n if i == axis else n for i, n in enumerate(x.shape)]
        return torch.empty(shape, dtype=x.dtype, device="meta")

    changed: tuple[Any, ...] = map_tensors(longer, inputs)
    return changed


def _differs(own: Settled, node: fx.Node, base: NodeRun, run: NodeRun) -> bool:
    """Whether any of the sizes from which a settled value is computed differs between two runs."""
    if own.kind == LENGTH and not _is_size_tuple(base.values[node]):
        return len(base.values[node]) != len(run.values[node])
    return any(base.values[x] != run.values[x] for x in sizes_in(own, node, base.values.get))


def sizes_in(own: Settled, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> list[fx.Node]:
    """Return the nodes whose sizes decide a settled value, without tuples of which only entries are taken."""
    if own.kind == LENGTH:
        return []
    cone = asked_from(node, value_of)
    return [
        x
        for x in cone
        if x is node
        or not isinstance(value_of(x), tuple)
        or not all(user.name.startswith("getitem") for user in x.users if user in cone)
    ]


def _is_size_tuple(value: Any) -> bool:
    return isinstance(value, torch.Size)


def erase_answered(traced: fx.GraphModule, settled: Sequence[Settled], keep: Sequence[Settled], run: NodeRun) -> None:
    """Erase nodes that only served to answer questions, apart from those of the settled values in `keep`."""
    nodes = {node.name: node for node in traced.graph.nodes}
    kept = {own.node for own in keep}
    asked = [nodes[own.node] for own in settled if own.node in nodes]
    cones = {x for node in asked for x in asked_from(node, run.values.get)}
    for node in reversed(list(traced.graph.nodes)):
        value = run.values.get(node)
        computed = node.op in ("call_function", "call_method") and not isinstance(value, torch.Tensor)
        if node in cones and computed and not node.users and node.name not in kept and not _has_tensors(value):
            traced.graph.erase_node(node)


def _has_tensors(value: Any) -> bool:
    return any(True for _ in nested_tensors(value))


def insert_guards(
    traced: fx.GraphModule, conditions: Sequence[Settled], counts_channels: Callable[[fx.Node], bool], run: NodeRun
) -> list[fx.Node]:
    """Let the traced model check the settled values that depend on the sizes of its inputs, and return the checks.

    Values that count channels are left out: an export has fewer channels. So are questions about types.
    """
    nodes = {node.name: node for node in traced.graph.nodes}
    made = []
    for own in conditions:
        node = nodes[own.node]
        cone = sizes_in(own, node, run.values.get)
        if any(counts_channels(x) for x in (*cone, node)) or any(map(asks_for_type, cone)):
            continue
        value = tuple(own.value) if isinstance(own.value, torch.Size) else own.value
        with traced.graph.inserting_after(node):
            place = "an unknown line" if own.place is None else str(own.place)
            made.append(traced.graph.call_function(require_settled, (node, value, own.kind == LENGTH, place)))
    return made
