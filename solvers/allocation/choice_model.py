"""The method `cp-sat`: one Boolean per layer and level, solved by CP-SAT. Imported on use: it loads OR-Tools."""

from __future__ import annotations

import math

from ortools.sat.python import cp_model

from solvers.allocation.buckets import Buckets
from solvers.common.errors import SolverError
from solvers.common.search import solve_in_thread


class ChoiceModel:
    """A constraint program: x[l][s] says that layer l has level s."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self.model = cp_model.CpModel()
        self._chosen = [
            [self.model.new_bool_var(f"x[{layer}][{s}]") for s in range(len(times))]
            for layer, times in enumerate(buckets.times)
        ]
        self._choose_one_level()
        self._keep_capacity()
        self._minimise_error()

    def solve(self, time_limit: float = math.inf) -> tuple[int, ...]:
        """The choice of least error, with a proof.

        Raises
        ------
        SolverError
            If the time limit (seconds) is reached before the proof.
        """
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.catch_sigint_signal = False
        if math.isfinite(time_limit):
            solver.parameters.max_time_in_seconds = time_limit
        status = solve_in_thread(solver, self.model)
        if status in (cp_model.UNKNOWN, cp_model.FEASIBLE):
            raise SolverError(
                f"cp-sat: no proof of the least error in {time_limit} s; give more time or use 'dynamic-programme'"
            )
        if status != cp_model.OPTIMAL:
            raise SolverError(
                f"CP-SAT answers {solver.status_name(status)} for an allocation "
                f"({self.model.validate() or 'valid model'}); please report this with the timing table"
            )
        return tuple(next(s for s, x in enumerate(row) if solver.boolean_value(x)) for row in self._chosen)

    def _choose_one_level(self) -> None:
        """sum(x[l][s] for s) = 1 for every layer l."""
        for row in self._chosen:
            self.model.add_exactly_one(row)

    def _keep_capacity(self) -> None:
        """sum(time[l][s] * x[l][s] for l, s) <= capacity."""
        self.model.add(self._sum(self._buckets.times) <= self._buckets.capacity)

    def _minimise_error(self) -> None:
        """Minimise sum(error[l][s] * x[l][s] for l, s)."""
        self.model.minimize(self._sum(self._buckets.errors))

    def _sum(self, factors: tuple) -> cp_model.LinearExprT:
        variables = [x for row in self._chosen for x in row]
        return cp_model.LinearExpr.weighted_sum(variables, [f for row in factors for f in row.tolist()])
