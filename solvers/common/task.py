"""What a solver is given and what it hands back: the `Task`, the `Finding`, and the shape of a solver.

A new solver is a frozen dataclass with a `name`, `exact` and a method ``solve(task) -> Finding``; it is made known
with `solvers.register` and everything it returns passes the gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from problems import AccessCost, Claim, Objective, Order, Problem, evaluate
from problems.showing.reprs import shown
from solvers.common.bounds import trivial_bound
from solvers.common.clock import time_now
from solvers.common.result import Progress

_WORK_OF_COST = 3e-5  # work: of evaluating an access; about 30 microseconds (estimate)


@shown
@dataclass(frozen=True, eq=False)
class Task:
    """One solve as a solver sees it.

    Parameters
    ----------
    problem, objective
        What to minimise.
    start
        The best order known: for exact solvers greedy's or a strictly better hint, otherwise the identity.
    started, deadline
        Readings of `solvers.common.clock.time_now`, in seconds; the deadline may be infinite.
    seed
        Of every random choice.
    hint
        The best one of the user's orders, or None.
    more_hints
        The user's other orders, for the same problem.
    progress
        Called with a `Progress` on every improvement, or None.
    want_proof
        Whether the finding shall say why its bound holds.
    claims_heard
        Told where to ask for the claims behind the bounds, should the solve be stopped; None if nobody wants to know.
    """

    problem: Problem
    objective: Objective
    start: Order
    started: float
    deadline: float
    seed: int = 0
    hint: Order | None = None
    progress: Callable[[Progress], object] | None = None
    want_proof: bool = False
    more_hints: tuple[Order, ...] = ()
    claims_heard: Callable[[Callable[[], Sequence[Claim]]], None] | None = None

    @cached_property
    def start_value(self) -> int:
        """Value of the start."""
        return self.value(self.start)

    @cached_property
    def trivial_bound(self) -> int:
        """Sum of what every access must pay even if it had the order for itself."""
        return trivial_bound(self.problem, self.objective)

    @property
    def hints(self) -> tuple[Order, ...]:
        """All orders of the user's, the best one first."""
        return self.more_hints if self.hint is None else (self.hint, *self.more_hints)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time_now())

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return time_now() >= self.deadline

    def within(self, share: float) -> Task:
        """The same task with a share of the time that is left; without limit if there is none."""
        if math.isinf(self.deadline):
            return self
        return replace(self, deadline=time_now() + share * self.remaining)

    def with_start(self, start: Order) -> Task:
        """The same with another start."""
        task = replace(self, start=start)
        if "trivial_bound" in vars(self):
            vars(task)["trivial_bound"] = self.trivial_bound  # it does not depend on the start
        return task

    def of_other(
        self, problem: Problem, start: Order, *, progress: Callable[[Progress], object] | None = None, **changes: Any
    ) -> Task:
        """A task with another problem, a part of this one or another form of it; hints and proofs are left out.

        Parameters
        ----------
        problem, start
            The other problem, and an order of it.
        progress
            Told of its progress instead; see `Incumbent.offer_from`.
        changes
            Other fields.
        """
        return replace(
            self,
            problem=problem,
            start=start,
            progress=progress,
            hint=None,
            more_hints=(),
            want_proof=False,
            claims_heard=None,
            **changes,
        )

    def value(self, order: Order) -> int:
        """Value of an order."""
        time_now(_WORK_OF_COST * len(self.problem.accesses))
        return evaluate(self.problem, order, self.objective).value

    def costs(self, order: Order) -> tuple[AccessCost, ...]:
        """What each access does and pays under an order."""
        return evaluate(self.problem, order, self.objective).accesses

    def report(self, value: int, bound: int | None, order: Order | None = None) -> None:
        """Say what is known by now, and the best order with it: it is what an interrupt leaves of the search.

        Goes to the progress callback, if there is one; its exceptions pass through.
        """
        if self.progress is not None:
            self.progress(Progress(time_now(0.0) - self.started, int(value), bound, order))


@shown
@dataclass(frozen=True, eq=False)
class Finding:
    """What a solver claims.

    Parameters
    ----------
    order
        The best order found.
    bound
        A proven lower bound; None if there is none.
    optimal
        The solver claims that no order is better.
    value
        The value the solver computed in its own way, to be checked by the gate; None if it computed none.
    stats
        Figures for reports.
    claims
        Why the bound holds, if the task wants to know; see `solvers.common.proofs`. The gate fills in what they lack.
    """

    order: Order
    bound: int | None = None
    optimal: bool = False
    value: int | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    claims: Sequence[Claim] = ()


class Solver(Protocol):
    """The shape of a solver: an immutable configuration with a name."""

    @property
    def name(self) -> str:
        """What users type."""

    @property
    def exact(self) -> bool:
        """True: gets greedy's order as a start and may never be worse. False: a heuristic, left as it is."""

    def solve(self, task: Task) -> Finding:
        """Look for a good order until ``task.deadline``."""
