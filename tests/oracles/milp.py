"""The witness `milp`: a mixed integer program solved by HiGHS through SciPy.

It shares nothing with the constraint programs but the problem, which makes it a check on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from solvers.common.errors import SolverError
from solvers.common.incumbent import Incumbent
from solvers.common.task import Finding, Task


@dataclass(frozen=True)
class Milp:
    """Orders classes pair by pair, with one binary variable each; for every objective but `runs`. See `order_program`.

    Never worse than greedy. The bound is HiGHS's, lowered by what its tolerances (a millionth of the largest possible
    cost) may have added; where costs are counted in millions the gap may stay open by that much. Where tables are not
    concave it is one on concave costs below the true ones. SciPy passes no start on to HiGHS, and a running HiGHS
    cannot be interrupted: Ctrl-C takes effect when the time limit strikes, which HiGHS looks at now and then only.
    HiGHS may print a line of its own to standard output (`transformNewIntegerFeasibleSolution`), SciPy or not.

    Parameters
    ----------
    max_units
        Classes (or single channels) per block; the constraints grow with the cube. Default 80 (160 000 constraints).
    max_single_channels
        If tables are not concave and there are no more channels than this in blocks that may be reordered, single
        channels are ordered. Default 24.
    """

    max_units: int = 80
    max_single_channels: int = 24
    name: ClassVar[str] = "milp"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline and the bound proven, or the start and the trivial bound.

        Raises
        ------
        SolverError
            If the objective counts runs, or a block has too many classes.
        """
        if task.objective.counts_runs:
            raise SolverError(
                f"milp: objective {task.objective.name!r} counts runs, which its program does not; "
                "use 'cp-sat' or 'cp-sat-direct'"
            )
        incumbent = Incumbent(task)
        stats: dict[str, int | float] = {}
        if not incumbent.closed and not task.expired:
            from oracles.order_program import OrderProgram

            program = OrderProgram(task.problem, task.objective, max_single_channels=self.max_single_channels)
            self._require_small(task, program.largest_block)
            outcome = program.solve(deadline=task.deadline)
            stats = {"units": program.num_units, "binaries": program.num_binaries, "minorant": int(program.minorant)}
            if outcome.order is not None:
                incumbent.offer(outcome.order)
            if outcome.bound is not None:
                incumbent.raise_bound(outcome.bound, method="HiGHS")
        return incumbent.finding(stats)

    def _require_small(self, task: Task, units: int) -> None:
        if units > self.max_units:
            raise SolverError(
                f"milp: {task.problem.name} has a block of {units} classes, more than the {self.max_units} it may "
                "have; use 'cp-sat' or raise max_units"
            )
