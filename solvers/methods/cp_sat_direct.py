"""The solver `cp-sat-direct`: the reference, a constraint program that says the problem in its own words.

Classes are intervals on a line, accesses have spans and read modes. For understanding and for checking, not for speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Finding, Task
from solvers.programs.formulation import formulations


@dataclass(frozen=True)
class CpSatDirect(SearchSettings):
    """Places classes as intervals that do not overlap, for every objective; see `direct_model`.

    Exact where time allows, always with a bound, never worse than greedy. Where tables are not concave single channels
    are placed if there are at most 40 in blocks that may be reordered; where there are more the bound is one on concave
    costs below the true ones. Reproducible like `cp-sat`; parameters and errors are those of `SearchSettings`, of which
    `group_work` plays no part.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> from solvers import solve
    >>> print(solve(random_masks(12, 3), solver=CpSatDirect(), objective="runs").status)
    OPTIMAL
    """

    name: ClassVar[str] = "cp-sat-direct"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best bound proven."""
        incumbent = Incumbent(task)
        stats: dict[str, int | float] = {"classes": len(task.problem.classes)}
        if not incumbent.closed and not task.expired:
            from solvers.programs.direct_model import DirectModel
            from solvers.programs.program import search_formulations

            programs = formulations(task, counts_pieces=True)
            stats |= search_formulations(
                task, self, incumbent, programs, DirectModel, method="CP-SAT over the places of the classes"
            )
        return incumbent.finding(stats)
