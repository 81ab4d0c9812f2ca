"""The method `milp`: one binary variable per layer and level, solved by HiGHS through SciPy. Imported on use."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from solvers.allocation.buckets import Buckets
from solvers.common.errors import SolverError

_LEAST_SECONDS = 1e-3  # seconds: that HiGHS gets at least
_UNIT_SHARE = 0.5  # share: of a unit of error by which HiGHS's bound may lie below the choice: errors are whole numbers


def choice_by_program(buckets: Buckets, time_limit: float = math.inf) -> tuple[int, ...]:
    """The choice of least error, proven so: x[l][s] is 1 where layer l has level s.

    HiGHS computes in floating point. Its choice is rounded to whole numbers. Then two things are checked in whole
    numbers: the choice keeps the capacity, and the bound excludes a better choice.

    Raises
    ------
    SolverError
        If the time limit (seconds) is reached before the proof, or the proof fails because of HiGHS's tolerances.
    """
    layer = np.repeat(np.arange(len(buckets.times)), [len(times) for times in buckets.times])
    columns = np.arange(len(layer))
    one_level = csr_array((np.ones(len(layer)), (layer, columns)))
    times = csr_array(np.concatenate(buckets.times, dtype=np.float64)[np.newaxis])
    found = milp(
        np.concatenate(buckets.errors, dtype=np.float64),
        integrality=np.ones(len(layer)),
        bounds=(0, 1),
        constraints=LinearConstraint(
            vstack([one_level, times]),
            np.append(np.ones(len(buckets.times)), -np.inf),
            np.append(np.ones(len(buckets.times)), buckets.capacity),
        ),
        options={"mip_rel_gap": 0.0}
        | ({"time_limit": max(time_limit, _LEAST_SECONDS)} if math.isfinite(time_limit) else {}),
    )
    if found.x is None:
        raise SolverError(f"milp: HiGHS found no choice ({found.message}); use 'dynamic-programme'")
    choice = tuple(int(found.x[layer == own].argmax()) for own in range(len(buckets.times)))
    error = sum(int(errors[s]) for errors, s in zip(buckets.errors, choice))
    time = sum(int(times[s]) for times, s in zip(buckets.times, choice))
    proven = found.mip_dual_bound is not None and found.mip_dual_bound > error - _UNIT_SHARE
    if time > buckets.capacity or not proven:
        raise SolverError(
            f"milp: HiGHS has no proof of the least error ({found.message}); give more time or use 'dynamic-programme'"
        )
    return choice
