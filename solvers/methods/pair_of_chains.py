"""The solver `pair-of-chains`: exact for everything that depends on spans, up to about 14 accesses of a block.

Branch and bound on ranges of the excess (`branch_and_bound`). What its nodes relax to is solved exactly by shortest
paths over pairs of chains, by branching on which accesses meet, or over sets of placed classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from solvers.common.errors import SolverError
from solvers.common.incumbent import Incumbent
from solvers.common.task import Finding, Task
from solvers.spans.branch_and_bound import SpanSearch


@dataclass(frozen=True)
class PairOfChains:
    """The exact method for spans; its bound holds for channels one by one, not only for classes."""

    name: ClassVar[str] = "pair-of-chains"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best bound proven.

        Raises
        ------
        SolverError
            If the objective counts runs.
        """
        if task.objective.counts_runs:
            raise SolverError("pair-of-chains: runs do not depend on spans; use 'cp-sat'")
        incumbent = Incumbent(task)
        search = SpanSearch(task, incumbent)
        search.run()
        stats: dict[str, int | float] = {"nodes": search.num_nodes, "classes": len(task.problem.classes)}
        return incumbent.finding(stats)
