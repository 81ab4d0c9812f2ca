"""Which accesses are views: one Boolean per access in CP-SAT, and conflicts learned from the consecutive-ones test.

Without over-reading the cost depends on the set of views alone, so the order need not be part of the model: CP-SAT
proposes a set, the test finds an order for it or a minimal set of accesses that cannot all be views (logic-based
Benders decomposition). Exact when the proposal passes; every proposal's cost is a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from ortools.sat.python import cp_model

from problems import evaluate
from solvers.common.incumbent import Incumbent
from solvers.common.proofs import Reason
from solvers.common.rows import span_rows
from solvers.common.search import Outcome, run_search
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.views.conflicts import small_conflicts
from solvers.views.view_proof import Limit, conflict_claims
from solvers.views.view_test import ViewTest


def solve_views(task: Task, config: SearchSettings, incumbent: Incumbent) -> dict[str, int | float]:
    """Minimise the price of the accesses that are not views; improves the incumbent, returns figures for reports."""
    model = ViewModel(task)
    test = ViewTest(task)
    rounds, deterministic = 0, 0.0
    while not incumbent.closed and not task.expired:
        left = None if config.max_deterministic_time is None else config.max_deterministic_time - deterministic
        if left is not None and left <= 0:
            break
        outcome = model.search(config, deterministic_time=left, on_bound=incumbent.tell_bound)
        deterministic += outcome.deterministic_time
        rounds += 1
        if outcome.bound is not None:
            incumbent.raise_bound(outcome.bound, model.reason())
        if outcome.values is None:
            break
        views = model.views(outcome)
        conflicts = []
        while (conflict := test.conflict(views)) and not task.expired:
            conflicts.append(conflict)
            views.remove(min(conflict, key=lambda a: (model.price[a], -a)))
        if conflict is None:
            incumbent.offer(test.order(test.extended(views, np.argsort(-model.price, kind="stable"))))
        for conflict in conflicts:
            model.add_conflict(conflict)
        if not outcome.optimal:
            break
    return {"rounds": rounds, "conflicts": model.num_conflicts, "deterministic_time": deterministic}


class ViewModel:
    """The master problem.

    Attributes
    ----------
    price
        int, shape (num_accesses,): cost of an access that is no view.
    """

    def __init__(self, task: Task) -> None:
        problem = task.problem
        self._task = task
        self._model = cp_model.CpModel()
        gamma = task.objective.gamma or 0
        self.price = np.array([gamma * a.channel_size * a.num_kept for a in problem.accesses], dtype=np.int64)
        self._view = [self._model.new_bool_var(f"view[{access.name}]") for access in problem.accesses]
        self._limits: list[Limit] = []
        self._forbid_small_conflicts()
        self._minimise_copies()
        self._hint()

    def search(
        self, config: SearchSettings, *, deterministic_time: float | None, on_bound: Callable[[int], None] | None = None
    ) -> Outcome:
        """The cheapest set of views that no conflict known so far forbids."""
        return run_search(self._model, self._task, config, deterministic_time=deterministic_time, on_bound=on_bound)

    def views(self, outcome: Outcome) -> list[int]:
        """The set proposed."""
        assert outcome.values is not None
        return [a for a, view in enumerate(self._view) if outcome.values(view)]

    def add_conflict(self, accesses: Iterable[int]) -> None:
        """not view[a] for some a in the conflict."""
        conflict = tuple(accesses)
        self._model.add_bool_or([~self._view[a] for a in conflict])
        self._limits.append((len(conflict) - 1, conflict))

    @property
    def num_conflicts(self) -> int:
        """Constraints so far."""
        return len(self._limits)

    def reason(self) -> Reason:
        """Why a bound holds: of the conflicts known now those it needs."""
        known = list(self._limits)
        return lambda bound: conflict_claims(self._task.problem, self._task.objective, bound, known)

    def _forbid_small_conflicts(self) -> None:
        """sum(view[a] for a in S) <= limit, for the sets S of pairwise or triplewise conflicting accesses."""
        known = small_conflicts(
            self._task.problem, span_rows(self._task.problem), self.price, deadline=self._task.deadline
        )
        for limit, accesses in known.limits(deadline=self._task.deadline):
            self._model.add(sum(self._view[a] for a in accesses) <= limit)
            self._limits.append((limit, accesses))

    def _minimise_copies(self) -> None:
        """minimise sum(price[a] * (1 - view[a]))."""
        self._model.minimize(sum(int(p) * (1 - view) for p, view in zip(self.price, self._view)))

    def _hint(self) -> None:
        """The views of the start."""
        start = evaluate(self._task.problem, self._task.start, self._task.objective)
        for view, cost in zip(self._view, start.accesses):
            self._model.add_hint(view, cost.mode == "view")
