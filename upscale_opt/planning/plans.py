"""The plan: the orders, read modes and masks of one model, as plain data with a file format.

An export needs a model and a plan. With a plan, a pruned model can be rebuilt from its architecture and a state_dict. A
plan can be computed on one machine and used on another machine without OR-Tools. Format: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from problems import Evaluation, Order, Problem, ProblemError, evaluate, order_by_names, places_of
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from problems.showing.reprs import shown_as
from upscale_opt.arguments.checks import (
    settle_fields,
)
from upscale_opt.arguments.entrance import REFERENCE, arrays_by_name, entrance, output_arrays_by_name
from upscale_opt.errors import PlanError
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.plan_fields import PLAN_FIELDS
from upscale_opt.planning.reading import READ_MODES, Reading
from upscale_opt.planning.segment_problems import Problems
from upscale_opt.showing.cards import plan_card
from upscale_opt.tracing.fingerprints import Fingerprint

if TYPE_CHECKING:
    from solvers import Result


@shown_as(plan_card)
@dataclass(frozen=True, eq=False)
class Plan:
    """Orders, read modes and masks of one model.

    Attributes
    ----------
    masks
        Weight name to Boolean array, True = kept, for every consumer.
    orders
        Block name to int64 array: the stored channels, in order.
    readings
        Access name to `Reading`, or to its read mode alone. All calls of one consumer read the same columns of its
        weight. If one call over-reads, all calls over-read, with the widest range.
    model
        How to build the model, if known.
    output_masks
        Weight name to Boolean array, True = kept, for every producer whose output channels are masked.
    places
        Block name to the name of the block that takes its place, if groups of convolutions have changed places.
    fixed
        Name to fingerprint of the values that the traced code depends on (`Graph.fixed`). A state_dict does not contain
        them. `upscale_opt.load` checks that they are the same. Empty if they are unknown.
    padding
        Block name to int64 array: channels that are stored although no consumer keeps them, so that the stored width
        suits the device (`upscale_opt.planning.padding`). They are in the block's order.

    Raises
    ------
    PlanError
        If a field is not a mapping of names, or a mask is not a Boolean array.
    """

    masks: Mapping[str, np.ndarray]
    orders: Mapping[str, np.ndarray]
    readings: Mapping[str, Reading]
    model: ModelReference | None = field(default=None)
    output_masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Fingerprint] = field(default_factory=dict)
    padding: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle_fields(self, **PLAN_FIELDS)
        calls: dict[str, list[Reading]] = {}
        for name, reading in self.readings.items():
            calls.setdefault(consumer_of(name), []).append(reading)
        agreed = {name: _agreed(calls[consumer_of(name)], reading) for name, reading in self.readings.items()}
        object.__setattr__(self, "readings", agreed)

    def with_readings(self, names: Iterable[str] | None = None, **changes: Any) -> Plan:
        """A copy of the plan where some accesses have changed readings.

        Parameters
        ----------
        names
            Names of accesses. Default: all.
        changes
            Fields of `Reading` and their new values.

        Raises
        ------
        PlanError
            If the plan has no such access, or a value is invalid for its field.

        Examples
        --------
        >>> Plan({}, {}, {"head": "view", "tail": "copy"}).with_readings(["tail"], late=True).readings["tail"]
        Reading(mode='copy', width=None, kernel='', late=True)
        """
        chosen = list(self.readings if names is None else names)
        unknown = [name for name in chosen if name not in self.readings]
        if unknown:
            raise PlanError(
                f"the plan has no access {unknown[0]!r}; the first it has is {next(iter(self.readings), None)!r}"
            )
        changed = {name: replace(self.readings[name], **changes) for name in chosen}
        return replace(self, readings={**self.readings, **changed})

    def count(self, mode: str) -> int:
        """Number of accesses with this read mode."""
        return sum(reading.mode == mode for reading in self.readings.values())

    def __str__(self) -> str:
        return ", ".join(f"{self.count(mode)} {mode}" for mode in READ_MODES) + f" in {len(self.orders)} blocks"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return all(_equal(getattr(self, own.name), getattr(other, own.name)) for own in fields(self))

    __hash__ = None  # type: ignore[assignment]


def _equal(a: Any, b: Any) -> bool:
    """Whether two fields of plans are equal. Fields may contain arrays."""
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)


def _agreed(calls: list[Reading], own: Reading) -> Reading:
    """The reading of one of several calls of a consumer, with the width and mode that all its calls must share."""
    width = max((call.width for call in calls if call.width is not None), default=None)
    wide = width is not None or any(call.mode == OVER_READ for call in calls)
    mode = OVER_READ if wide and own.mode in (COPY, PIECES) else own.mode
    return replace(own, mode=mode, width=width)


def consumer_of(access: str) -> str:
    """The name of an access's consumer. For the second call ``head#2`` it is ``head``."""
    return access.partition("#")[0]


@entrance(model=REFERENCE, masks=arrays_by_name, output_masks=output_arrays_by_name)
def plan(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    results: Mapping[str, Result],
    *,
    model: ModelReference | None = None,
    output_masks: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """Make the plan that carries out a solver's results.

    Parameters
    ----------
    problems
        Segment name to problem (`upscale_opt.extract`).
    masks
        The masks that the problems were made from.
    results
        Segment name to result (`solvers.solve`). The objective of a result chooses the read modes.
    model
        How to build the model. The plan stores it.
    output_masks
        The output masks that the problems were made from. Default: none.

    Raises
    ------
    PlanError
        If a segment has no result.
    """
    missing = [name for name in problems if name not in results]
    if missing:
        raise PlanError(f"segment {missing[0]!r} has no result; solve every segment before making a plan")
    evaluations = {name: results[name].evaluation for name in problems}
    return _assemble(
        problems, masks, {name: results[name].order for name in problems}, evaluations, model, output_masks
    )


def plan_of_orders(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    orders: Mapping[str, Order],
    *,
    objective: str = "traffic",
    model: ModelReference | None = None,
    output_masks: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """Make a plan from any orders. An objective chooses the read modes.

    Parameters
    ----------
    problems, masks, model, output_masks
        As for `plan`.
    orders
        Segment name to order.
    objective
        The objective that chooses the read modes.
    """
    evaluations = {name: evaluate(problem, orders[name], objective) for name, problem in problems.items()}
    return _assemble(problems, masks, orders, evaluations, model, output_masks)


@entrance(model=REFERENCE, masks=arrays_by_name, output_masks=output_arrays_by_name)
def baseline_plan(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    *,
    model: ModelReference | None = None,
    output_masks: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """The paper's naive export (Wan et al., ICML 2023): original order, and channels are gathered before each consumer.

    A consumer that keeps the whole stored input needs no selection. Every other consumer gathers, even if its channels
    are contiguous.
    """
    orders = {name: Order.identity(problem) for name, problem in problems.items()}
    evaluations = {name: evaluate(problem, orders[name]) for name, problem in problems.items()}
    made = _assemble(problems, masks, orders, evaluations, model, output_masks)
    whole = {
        access.name: access.num_kept == sum(len(problem.stored[b]) for b in access.blocks)
        for problem in problems.values()
        for access in problem.accesses
    }
    readings = {name: Reading(VIEW if whole[name] else COPY, late=True) for name in made.readings}
    return replace(made, readings=readings)


def require_fitting(plan: Plan, problems: Mapping[str, Problem]) -> None:
    """Check a plan's orders and read modes against the problems of a model.

    Raises
    ------
    PlanError
        If a block or access is missing, if an order is not a permutation of the stored channels, or if a `view` is not
        contiguous.
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
            reading = plan.readings.get(access.name)
            if reading is None:
                raise PlanError(f"the plan does not say how {access.name!r} is read; it was made for another model")
            if reading.mode == VIEW and access.span != access.kept:
                raise PlanError(f"the plan reads {access.name!r} as a view, but its channels are not contiguous")
            stored = sum(len(problem.stored[b]) for b in _blocks_of(problem, access.name))
            if reading.width is not None and reading.width > stored:
                raise PlanError(f"the plan reads {reading.width} channels for {access.name!r}, but {stored} are stored")


def _blocks_of(problem: Problem, access: str) -> tuple[int, ...]:
    return next(own.blocks for own in problem.accesses if own.name == access)


def _assemble(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    orders: Mapping[str, Order],
    evaluations: Mapping[str, Evaluation],
    model: ModelReference | None,
    output_masks: Mapping[str, np.ndarray] | None,
) -> Plan:
    channels = {
        block.name: orders[name][b] for name, problem in problems.items() for b, block in enumerate(problem.blocks)
    }
    readings = {access.name: Reading(access.mode) for name in problems for access in evaluations[name].accesses}
    places = {
        block: other for name, problem in problems.items() for block, other in places_of(problem, orders[name]).items()
    }
    own = problems if isinstance(problems, Problems) else Problems(problems, {})
    return Plan(dict(masks), channels, readings, model, dict(output_masks or {}), places, own.fixed, own.padding)
