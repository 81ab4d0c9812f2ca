"""What a solve returns: the order, its value, the proven bound and how the run went.

`Result` is made by the gate (`solvers.gate`) and by nobody else, so its fields agree with each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from problems import Evaluation, Objective, Order, Problem, Proof, in_units
from problems.best_known import best_known_of
from problems.showing.reprs import shown, shown_as
from solvers.showing.cards import result_card


class Status(StrEnum):
    """How good the order is known to be: proven optimal, or merely feasible."""

    OPTIMAL = "OPTIMAL"
    FEASIBLE = "FEASIBLE"


class StopReason(StrEnum):
    """Why a solve ended."""

    OPTIMAL = "optimal"
    """The bound meets the value."""
    FINISHED = "finished"
    """The method ended by itself: it has no more to do, or gave up after many fruitless steps."""
    TIME_LIMIT = "time limit"
    WORK_LIMIT = "work limit"
    GAP_LIMIT = "gap limit"
    TARGET_VALUE = "target value"
    CUTOFF = "cutoff"
    NO_IMPROVEMENT = "no improvement"
    RULE = "rule"
    """A rule of the user's own, or several rules at once."""
    CALLBACK = "callback"
    """The progress callback returned True."""
    INTERRUPTED = "interrupted"
    """Ctrl-C, or an exception in the progress callback."""


def gap_between(value: int, bound: int | None) -> float | None:
    """``(value - bound) / max(1, value)``; None without a bound.

    Examples
    --------
    >>> gap_between(20, 19), gap_between(0, 0), gap_between(20, None)
    (0.05, 0.0, None)
    """
    return None if bound is None else (value - bound) / max(1, value)


@shown
@dataclass(frozen=True)
class Progress:
    """What is known while a solver runs.

    Attributes
    ----------
    seconds
        Since the start of the solve.
    value
        Objective value of the best order so far.
    bound
        No order has a smaller value than this; None while nothing is known.
    order
        The best order so far. A solver of a user's own may have none at hand; then it is None.
    method
        The method that found out: a solver, or a step of one (docs/solvers.md).
    """

    seconds: float
    value: int
    bound: int | None
    order: Order | None = None
    method: str = ""

    @property
    def gap(self) -> float | None:
        """``(value - bound) / max(1, value)``; None without a bound."""
        return gap_between(self.value, self.bound)


@shown
@dataclass(frozen=True)
class TrajectoryPoint:
    """What was known from some moment on.

    Attributes
    ----------
    seconds
        Since the start of the solve; that of the earlier one if it was resumed.
    value, bound
        Of the best order, and the best bound; None while nothing was known.
    method
        The method that found out.
    """

    seconds: float
    value: int
    bound: int | None
    method: str = ""


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
        Seconds, everything included, also those of the result that this one resumes.
    solver
        Name of the solver.
    stats
        Figures for reports; `solvers.STATISTICS` says what they are. Which there are depends on the methods that ran.
    evaluation
        Read mode, span, runs and cost of every access under the order.
    proof
        Why the bound holds; None unless it was asked for, or if there is no bound.
    stop_reason
        Why the solve ended.
    trajectory
        Every improvement of value or bound, in order of time. The last point has the value and the bound of the result.
    seed
        The seed that was given.
    problem, objective
        What was solved.
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
    stop_reason: StopReason = StopReason.FINISHED
    trajectory: tuple[TrajectoryPoint, ...] = field(default=(), repr=False)
    seed: int = 0
    problem: Problem | None = field(default=None, repr=False, compare=False)
    objective: Objective | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gap", gap_between(self.value, self.bound))

    def gap_to_best_known(self) -> float | None:
        """How much the value lies above the best one of the library: ``(value - best) / max(1, best)``.

        The instance is found by its content, whatever its name. A negative gap is a new best value.

        Returns
        -------
        float or None
            None if the library does not have the instance, or no value for the objective.

        Examples
        --------
        >>> from problems.collection import load
        >>> from solvers import solve
        >>> solve(load("classical/random/8x8-s0")).gap_to_best_known()
        0.0
        """
        if self.problem is None or self.objective is None:
            return None
        best = best_known_of(self.problem, self.objective)
        return None if best is None else (self.value - best.value) / max(1, best.value)

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
