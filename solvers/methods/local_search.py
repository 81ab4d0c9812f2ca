"""The solver `local-search`: good orders for every objective on instances that exact methods cannot finish.

It changes chains and events for spans (`span_climb`), tours through the classes for runs (`run_climb`), and sets of
views for copies (`view_climb`). It stops at the deadline, or after `patience` steps without an improvement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from problems import Order
from solvers.common.errors import SolverError
from solvers.common.incumbent import Incumbent
from solvers.common.task import Finding, Task
from solvers.methods.greedy import greedy_in_time
from solvers.methods.in_places import solved_in_places

_GREEDY_SHARE = 0.25  # share: of the time, for greedy's order; by hand


@dataclass(frozen=True)
class LocalSearch:
    """A heuristic with the trivial bound, or the bound of a start. Never worse than the identity or the hint.

    It is also never worse than greedy, if greedy ends in time. Units of bundles stay in their places, or in those of
    the hint. A solve that ends before the deadline is reproducible.

    Parameters
    ----------
    patience
        Steps without an improvement before it gives up: per row of the blocks for spans, per class for runs, per
        access for copies. Default 100.

    Raises
    ------
    SolverError
        If the patience is below 1.
    """

    patience: int = 100
    name: ClassVar[str] = "local-search"
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise SolverError(f"local-search: the patience is {self.patience}; give at least 1")

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline."""
        if task.problem.bundles:
            return solved_in_places(self, task)
        incumbent = Incumbent(task)
        starts = self._starts(task)
        for start in starts:
            incumbent.offer(start)
        steps = 0
        if not incumbent.closed and not task.expired:
            steps = self._search(task, incumbent, starts)
        return incumbent.finding({"steps": steps})

    def _starts(self, task: Task) -> list[Order]:
        """Greedy's order, the hint and the identity."""
        given = [] if task.hint is None else [task.hint]
        return [*given, *greedy_in_time(task, _GREEDY_SHARE), Order.identity(task.problem)]

    def _search(self, task: Task, incumbent: Incumbent, starts: list[Order]) -> int:
        if task.objective.counts_runs:
            from solvers.runs.run_climb import RunClimb
            from solvers.runs.run_starts import start_runs

            start_runs(task, incumbent)
            return RunClimb(task, incumbent).run(self.patience)
        if task.objective.alpha is None and not task.objective.uses_tables:
            from solvers.views.view_climb import climb_views

            return climb_views(task, incumbent, patience=self.patience)
        from solvers.spans.heuristics.local_search import SpanClimb

        return SpanClimb(task, incumbent).run(starts, self.patience)
