"""What a solve returns: the order, its value, the proven bound and how the run went.

`Result` is made by the gate (`solvers.gate`) and by nobody else, so its fields agree with each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from problems import Evaluation, Order, Proof, in_units
from problems.showing.reprs import shown, shown_as
from solvers.showing.cards import result_card


class Status(StrEnum):
    """How good the order is known to be: proven optimal, or merely feasible."""

    OPTIMAL = "OPTIMAL"
    FEASIBLE = "FEASIBLE"


@shown
@dataclass(frozen=True)
class Progress:
    """What a solver knows while it runs.

    Attributes
    ----------
    seconds
        Since the start of the solve.
    value
        Objective value of the best order so far.
    bound
        No order has a smaller value than this; None while nothing is known.
    order
        The best order so far; None where the solver has none at hand.
    """

    seconds: float
    value: int
    bound: int | None
    order: Order | None = None


@shown_as(result_card)
@dataclass(frozen=True)
class Result:
    """An order with what is known about it.

    Attributes
    ----------
    order
        The order found.
    value
        Its objective value, re-evaluated with `problems.evaluate`.
    bound
        No order has a smaller value than this; None if the solver knows none.
    gap
        ``(value - bound) / max(1, value)``; None where the bound is None.
    status
        `Status.OPTIMAL` if the bound meets the value.
    runtime
        Seconds, everything included.
    solver
        Name of the solver.
    stats
        Figures of the solver's own (counts, sizes), for reports; keys differ between solvers.
    evaluation
        Read mode, span, runs and cost of every access under the order.
    proof
        Why the bound holds; None unless it was asked for, or if there is no bound.
    """

    order: Order
    value: int
    bound: int | None
    status: Status
    runtime: float
    solver: str
    evaluation: Evaluation
    stats: dict[str, Any] = field(default_factory=dict)
    proof: Proof | None = None
    gap: float | None = field(init=False)

    def __post_init__(self) -> None:
        gap = None if self.bound is None else (self.value - self.bound) / max(1, self.value)
        object.__setattr__(self, "gap", gap)

    def __str__(self) -> str:
        ticks = self.evaluation.ticks
        bound = "no bound" if self.bound is None else f"bound {in_units(self.bound, ticks)}, gap {self.gap:.1%}"
        return (
            f"{self.solver}: {self.evaluation.objective} {in_units(self.value, ticks)} {self.status} ({bound}) "
            f"in {self.runtime:.2f} s; {self.evaluation}"
        )


class SolveInterrupted(KeyboardInterrupt):
    """Ctrl-C during `solvers.solve`: a `KeyboardInterrupt` that brings what was found until then.

    Attributes
    ----------
    result
        The best order so far, with the best bound; one that is never claimed to be optimal unless the bound meets it.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(f"interrupted; the best so far is {result}")
        self.result = result
