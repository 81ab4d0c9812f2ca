"""The solver `cp-sat`: constraint programs in OR-Tools CP-SAT, one per kind of objective, on signature classes.

| objective | what the program decides | module |
|---|---|---|
| `copies` | which accesses are views | `view_model` |
| `span`, `traffic`, `latency` | where every class lies | `span_model` |
| `runs` | which class follows which | `run_stages` |

Where there are constraints, one program decides the place of every single channel, for every objective
(`programs.direct_model`). OR-Tools is imported when a solve starts, not before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Finding, Task


@dataclass(frozen=True)
class CpSat(SearchSettings):
    """Exact if there is enough time. It always gives a bound, and its order is never worse than greedy's.

    With one worker, a seed and `max_deterministic_time`, a solve is reproducible unless the time limit is reached
    first. With several workers it is not. Parameters and errors are those of `SearchSettings`.
    """

    name: ClassVar[str] = "cp-sat"
    exact: ClassVar[bool] = True
    keeps_constraints: ClassVar[bool] = True

    def with_workers(self, workers: int) -> CpSat:
        """The same with so many threads."""
        return replace(self, num_workers=workers)

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best proven bound."""
        incumbent = Incumbent(task)
        stats: dict[str, int | float] = {"classes": len(task.problem.classes)}
        if task.problem.constraints and not incumbent.closed and not task.expired:
            from solvers.programs.direct_model import search_places

            stats.update(search_places(task, self, incumbent, counts_pieces=True))
        elif not incumbent.closed and not task.expired:
            if task.objective.counts_runs:
                from solvers.runs.run_stages import solve_runs as search
            elif task.objective.alpha is None and not task.objective.uses_tables:
                from solvers.views.view_model import solve_views as search
            else:
                from solvers.programs.span_model import solve_spans as search
            stats.update(search(task, self, incumbent))
        return incumbent.finding(stats)
