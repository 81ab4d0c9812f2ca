"""The plan: the orders, read modes and masks of one model, as plain data with a file format.

A plan is what an export needs besides the model, and what re-creates a pruned model from its architecture and a
state_dict. It can be computed on one machine and used on another that has no OR-Tools. Format: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from problems import Evaluation, Order, Problem, ProblemError, evaluate, order_by_names, places_of
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.arguments.checks import (
    settle_fields,
)
from upscale_opt.arguments.entrance import REFERENCE, arrays_by_name, entrance
from upscale_opt.errors import PlanError
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.plan_fields import PLAN_FIELDS
from upscale_opt.planning.segment_problems import Problems
from upscale_opt.tracing.fingerprints import Fingerprint

if TYPE_CHECKING:
    from solvers import Result

READ_MODES = (VIEW, OVER_READ, PIECES, COPY)
ALIGNMENT = 8
"""Channels: widths are rounded up to a multiple of this where that is faster; wide ranges begin at one if they can."""
MATMUL, GATHERING = "matmul", "gathering"
KERNELS = (MATMUL, GATHERING)
"""What may take the place of a 1x1 convolution: a matrix product, which reads slices in place, and one that gathers."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Orders, read modes and masks of one model.

    Attributes
    ----------
    masks
        Weight name to Boolean array, True = kept, for every consumer.
    orders
        Block name to int64 array: the channels stored, in order.
    reads
        Access name to read mode: ``view``, ``over-read``, ``pieces`` or ``copy``. All calls of one consumer read the
        same columns of its weight: if one of them over-reads, all do, and the widest range is read by all.
    model
        How to build the model, if that is known.
    outputs
        Weight name to Boolean array, True = kept, for every producer whose output channels are masked.
    widths
        Access name to the number of channels of a view or an over-read, where that is more than the smallest range:
        a multiple that suits the device, or all there are.
    kernels
        Consumer name to what computes it in place of the module's own operator: ``matmul``
        (`upscale_opt.MatrixConv2d`) or ``gathering`` (`upscale_opt.GatherConv2d`, with read mode ``copy``).
    slices
        Names of the accesses whose channels are selected in front of everything that serves them alone: elementwise
        work, normalisation, and the concat they read (`upscale_opt.tracing.prologues`). None: of all that can be.
    places
        Block name to the name of the block that takes its place, where groups of convolutions have changed places.
    fixed
        Name to fingerprint of the values that the traced code holds for (`Graph.fixed`), which no state_dict brings
        along; `upscale_opt.load` wants them to be the same. Empty if they are not known.

    Raises
    ------
    PlanError
        If a field is no mapping of names, or a mask no Boolean array.
    """

    masks: Mapping[str, np.ndarray]
    orders: Mapping[str, np.ndarray]
    reads: Mapping[str, str]
    model: ModelReference | None = field(default=None)
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)
    slices: frozenset[str] | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Fingerprint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle_fields(self, **PLAN_FIELDS)
        wide = {consumer_of(name) for name, mode in self.reads.items() if mode == OVER_READ or name in self.widths}
        reads = {
            name: OVER_READ if mode in (COPY, PIECES) and consumer_of(name) in wide else mode
            for name, mode in self.reads.items()
        }
        widest: dict[str, int] = {}
        for name, width in self.widths.items():
            widest[consumer_of(name)] = max(width, widest.get(consumer_of(name), 0))
        widths = {name: widest[consumer_of(name)] for name in reads if consumer_of(name) in widest}
        object.__setattr__(self, "reads", reads)
        object.__setattr__(self, "widths", widths)

    def __str__(self) -> str:
        modes = list(self.reads.values())
        return ", ".join(f"{modes.count(mode)} {mode}" for mode in READ_MODES) + f" in {len(self.orders)} blocks"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return all(_equal(getattr(self, own.name), getattr(other, own.name)) for own in fields(self))

    __hash__ = None  # type: ignore[assignment]


def _equal(a: Any, b: Any) -> bool:
    """Whether two fields of plans say the same; arrays may be among them."""
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)


def consumer_of(access: str) -> str:
    """The consumer's name of an access: ``head`` of its second call ``head#2``."""
    return access.partition("#")[0]


@entrance(model=REFERENCE, masks=arrays_by_name)
def plan(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    results: Mapping[str, Result],
    *,
    model: ModelReference | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """The plan that carries out a solver's results.

    Parameters
    ----------
    problems
        Segment name to problem (`upscale_opt.extract`).
    masks
        The masks the problems were made from.
    results
        Segment name to result (`solvers.solve`); read modes are those its objective chooses.
    model
        How to build the model, to be stored along.
    outputs
        The output masks the problems were made from. Default: none.

    Raises
    ------
    PlanError
        If a segment has no result.
    """
    missing = [name for name in problems if name not in results]
    if missing:
        raise PlanError(f"segment {missing[0]!r} has no result; solve every segment before making a plan")
    evaluations = {name: results[name].evaluation for name in problems}
    return _assemble(problems, masks, {name: results[name].order for name in problems}, evaluations, model, outputs)


def plan_of_orders(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    orders: Mapping[str, Order],
    *,
    objective: str = "traffic",
    model: ModelReference | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """A plan of any orders, in the read modes that an objective chooses.

    Parameters
    ----------
    problems, masks, model, outputs
        As for `plan`.
    orders
        Segment name to order.
    objective
        Which chooses the read modes.
    """
    evaluations = {name: evaluate(problem, orders[name], objective) for name, problem in problems.items()}
    return _assemble(problems, masks, orders, evaluations, model, outputs)


@entrance(model=REFERENCE, masks=arrays_by_name)
def baseline_plan(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    *,
    model: ModelReference | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """The paper's naive export (Wan et al., ICML 2023): nothing reordered, channels gathered in front of consumers.

    A consumer that keeps the whole stored input needs no selection and gets none; every other one gathers, even
    where its channels happen to be contiguous.
    """
    orders = {name: Order.identity(problem) for name, problem in problems.items()}
    evaluations = {name: evaluate(problem, orders[name]) for name, problem in problems.items()}
    made = _assemble(problems, masks, orders, evaluations, model, outputs)
    whole = {
        access.name: access.num_kept == sum(len(problem.stored[b]) for b in access.blocks)
        for problem in problems.values()
        for access in problem.accesses
    }
    reads = {name: VIEW if whole[name] else COPY for name in made.reads}
    return Plan(made.masks, made.orders, reads, model, made.outputs, slices=frozenset(), fixed=made.fixed)


def require_fitting(plan: Plan, problems: Mapping[str, Problem]) -> None:
    """Check a plan's orders and read modes against the problems of a model.

    Raises
    ------
    PlanError
        If a block or access is missing, an order is no permutation of the stored channels, or a `view` is none.
    """
    known = {block.name for problem in problems.values() for block in problem.blocks}
    for name in (*plan.places, *plan.places.values()):
        if name not in known:
            raise PlanError(f"the plan gives block {name!r} another place; it was made for another model")
    for name, problem in problems.items():
        for block in problem.blocks:
            if block.name not in plan.orders:
                raise PlanError(f"the plan has no order for block {block.name!r}; it was made for another model")
        try:
            evaluation = evaluate(problem, order_by_names(problem, plan.orders, plan.places), "span")
        except ProblemError as error:
            raise PlanError(f"the plan does not fit segment {name!r}: {error}") from error
        for access in evaluation.accesses:
            mode = plan.reads.get(access.name)
            if mode not in READ_MODES:
                raise PlanError(f"the plan has no read mode for {access.name!r}; it was made for another model")
            if mode == VIEW and access.span != access.kept:
                raise PlanError(f"the plan reads {access.name!r} as a view, but its channels are not contiguous")
            stored = sum(len(problem.stored[b]) for b in _blocks_of(problem, access.name))
            if not plan.widths.get(access.name, 0) <= stored:
                raise PlanError(
                    f"the plan reads {plan.widths[access.name]} channels for {access.name!r}, but {stored} are stored"
                )


def _blocks_of(problem: Problem, access: str) -> tuple[int, ...]:
    return next(own.blocks for own in problem.accesses if own.name == access)


def _assemble(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    orders: Mapping[str, Order],
    evaluations: Mapping[str, Evaluation],
    model: ModelReference | None,
    outputs: Mapping[str, np.ndarray] | None,
) -> Plan:
    channels = {
        block.name: orders[name][b] for name, problem in problems.items() for b, block in enumerate(problem.blocks)
    }
    reads = {access.name: access.mode for name in problems for access in evaluations[name].accesses}
    places = {
        block: other for name, problem in problems.items() for block, other in places_of(problem, orders[name]).items()
    }
    fixed = problems.fixed if isinstance(problems, Problems) else {}
    return Plan(dict(masks), channels, reads, model, dict(outputs or {}), places=places, fixed=fixed)
