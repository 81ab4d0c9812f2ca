"""The solver `cp-sat`: constraint programs in OR-Tools CP-SAT, one per family of objectives, on signature classes.

Which access is a view (`view_model`), where every class lies (`span_model`, also for tables), which class follows which
(`run_stages`).
OR-Tools is imported when a solve starts, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Finding, Task


@dataclass(frozen=True)
class CpSat(SearchSettings):
    """Exact where time allows; always with a bound, never worse than greedy.

    With one worker, a seed and `max_deterministic_time` a run is reproducible as long as the time limit does not
    strike first; several workers are not. Parameters and errors are those of `SearchSettings`.
    """

    name: ClassVar[str] = "cp-sat"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best bound proven."""
        incumbent = Incumbent(task)
        stats: dict[str, int | float] = {"classes": len(task.problem.classes)}
        if not incumbent.closed and not task.expired:
            if task.objective.counts_runs:
                from solvers.runs.run_stages import solve_runs as search
            elif task.objective.alpha is None and not task.objective.uses_tables:
                from solvers.views.view_model import solve_views as search
            else:
                from solvers.programs.span_model import solve_spans as search
            stats.update(search(task, self, incumbent))
        return incumbent.finding(stats)
