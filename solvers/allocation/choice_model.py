"""The method `cp-sat`: one Boolean per layer and level, solved by CP-SAT. Imported on use: it loads OR-Tools."""

from __future__ import annotations

import math

import numpy as np
from ortools.sat.python import cp_model

from solvers.allocation.buckets import Buckets
from solvers.common.errors import SolverError
from solvers.common.search import solve_in_thread


def choice_by_model(buckets: Buckets, time_limit: float = math.inf) -> tuple[int, ...]:
    """The choice of least error, proven so: x[l][s] says that layer l has level s.

    Minimise sum(error[l][s] * x[l][s]), where sum(x[l][s] for s) = 1 for every layer l, and sum(time[l][s] * x[l][s])
    <= capacity.

    Raises
    ------
    SolverError
        If the time limit (seconds) is reached before the proof.
    """
    model = cp_model.CpModel()
    chosen = [
        [model.new_bool_var(f"x[{layer}][{s}]") for s in range(len(times))] for layer, times in enumerate(buckets.times)
    ]
    for row in chosen:
        model.add_exactly_one(row)
    variables = [x for row in chosen for x in row]
    times, errors = (np.concatenate(factors).tolist() for factors in (buckets.times, buckets.errors))
    model.add(cp_model.LinearExpr.weighted_sum(variables, times) <= buckets.capacity)
    model.minimize(cp_model.LinearExpr.weighted_sum(variables, errors))

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False
    if math.isfinite(time_limit):
        solver.parameters.max_time_in_seconds = time_limit
    status = solve_in_thread(solver, model)
    if status in (cp_model.UNKNOWN, cp_model.FEASIBLE):
        raise SolverError(
            f"cp-sat: no proof of the least error in {time_limit} s; give more time or use 'dynamic-programme'"
        )
    if status != cp_model.OPTIMAL:
        raise SolverError(
            f"CP-SAT answers {solver.status_name(status)} for an allocation "
            f"({model.validate() or 'valid model'}); please report this with the timing table"
        )
    return tuple(next(s for s, x in enumerate(row) if solver.boolean_value(x)) for row in chosen)
