"""What a solver is given and what it hands back: the `Task`, the `Finding`, and the shape of a solver.

A new solver is a frozen dataclass with a `name`, `exact` and a method ``solve(task) -> Finding``; it is made known
with `solvers.register` and everything it returns passes the gate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from problems import AccessCost, Claim, Objective, Order, Problem, evaluate
from problems.showing.reprs import shown
from solvers.common.bounds import trivial_bound
from solvers.common.result import Progress


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
        `time.perf_counter` readings, in seconds; the deadline may be infinite.
    seed
        Of every random choice.
    hint
        The user's order, or None.
    progress
        Called with a `Progress` on every improvement, or None.
    want_proof
        Whether the finding shall say why its bound holds.
    """

    problem: Problem
    objective: Objective
    start: Order
    started: float
    deadline: float
    seed: int = 0
    hint: Order | None = None
    progress: Callable[[Progress], None] | None = None
    want_proof: bool = False

    @cached_property
    def start_value(self) -> int:
        """Value of the start."""
        return self.value(self.start)

    @cached_property
    def trivial_bound(self) -> int:
        """Sum of what every access must pay even if it had the order for itself."""
        return trivial_bound(self.problem, self.objective)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.perf_counter())

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return time.perf_counter() >= self.deadline

    def within(self, share: float) -> Task:
        """The same task with a share of the time that is left; without limit if there is none."""
        if math.isinf(self.deadline):
            return self
        return replace(self, deadline=time.perf_counter() + share * self.remaining)

    def value(self, order: Order) -> int:
        """Value of an order."""
        return evaluate(self.problem, order, self.objective).value

    def costs(self, order: Order) -> tuple[AccessCost, ...]:
        """What each access does and pays under an order."""
        return evaluate(self.problem, order, self.objective).accesses

    def report(self, value: int, bound: int | None, order: Order | None = None) -> None:
        """Say what is known by now, and the best order with it: it is what an interrupt leaves of the search.

        Goes to the progress callback, if there is one; its exceptions pass through.
        """
        if self.progress is not None:
            self.progress(Progress(time.perf_counter() - self.started, int(value), bound, order))


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
