"""The witness `cp-sat-events`: the program over events (`solvers.programs.event_model`), without a local search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from solvers.common.errors import SolverError
from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Finding, Task
from solvers.programs.event_model import EventModel
from solvers.programs.formulation import formulations
from solvers.programs.program import search_formulations


@dataclass(frozen=True)
class CpSatEvents(SearchSettings):
    """Orders the ends of spans in one constraint program; for every objective but `runs`.

    Exact where time allows, always with a bound, never worse than greedy. Where tables are not concave single channels
    are moved if there are at most 40 in blocks that may be reordered; where there are more the bound is one on concave
    costs below the true ones. An access that may join pieces counts as having two, which also keeps the bound low: then
    the gap may stay open for good. Reproducible like `cp-sat`; parameters and errors are those of
    `SearchSettings`.
    """

    name: ClassVar[str] = "cp-sat-events"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best bound proven.

        Raises
        ------
        SolverError
            If the objective counts runs.
        """
        if task.objective.counts_runs:
            raise SolverError(
                f"cp-sat-events: objective {task.objective.name!r} counts runs, which events do not tell; "
                "use 'cp-sat' or 'cp-sat-direct'"
            )
        incumbent = Incumbent(task)
        stats: dict[str, int | float] = {"classes": len(task.problem.classes)}
        if not incumbent.closed and not task.expired:
            programs = formulations(task, counts_pieces=False)
            stats |= search_formulations(
                task, self, incumbent, programs, EventModel, method="CP-SAT over the orders of the accesses' ends"
            )
        return incumbent.finding(stats)
