"""The solver `pair-of-chains`: exact if costs depend on spans only, for up to about 14 accesses of a block.

It is a branch and bound on ranges of the excess (`span_search`). The relaxation of a node is solved exactly by one of
three methods: shortest paths over pairs of chains, branching on which accesses meet, or sets of placed classes.
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
    """The exact method for spans. Its bound holds for all orders of channels, not only for orders of classes."""

    name: ClassVar[str] = "pair-of-chains"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best proven bound.

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
