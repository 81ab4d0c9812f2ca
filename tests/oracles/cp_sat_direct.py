"""The witness `cp-sat-direct`: the program over places (`solvers.programs.direct_model`) alone, for every objective.

Classes are intervals on a line, accesses have spans and read modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Finding, Task
from solvers.programs.direct_model import search_places


@dataclass(frozen=True)
class CpSatDirect(SearchSettings):
    """Places classes as intervals that do not overlap, for every objective; see `direct_model`.

    Exact where time allows, always with a bound, never worse than greedy. Where tables are not concave single channels
    are placed if there are at most 40 in blocks that may be reordered; where there are more the bound is one on concave
    costs below the true ones. Reproducible like `cp-sat`; parameters and errors are those of `SearchSettings`.
    """

    name: ClassVar[str] = "cp-sat-direct"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best bound proven."""
        incumbent = Incumbent(task)
        stats: dict[str, int | float] = {"classes": len(task.problem.classes)}
        if not incumbent.closed and not task.expired:
            stats |= search_places(task, self, incumbent, counts_pieces=True)
        return incumbent.finding(stats)
