"""`allocate`: one sparsity level per layer, by any of three exact methods, through one gate."""

from __future__ import annotations

import math
from collections.abc import Callable

from problems import AllocationProblem
from problems.showing.progress import ProgressBar
from solvers.allocation.buckets import DEFAULT_BUCKETS, Buckets, buckets_of
from solvers.allocation.dynamic_programme import least_error_choice
from solvers.allocation.gate import allocation_of
from solvers.allocation.result import Allocation
from solvers.common.arguments import require_problem, require_settings
from solvers.common.errors import SolverError
from solvers.common.result import Status


def allocate(
    problem: AllocationProblem,
    method: str = "dynamic-programme",
    *,
    num_buckets: int = DEFAULT_BUCKETS,
    time_limit: float = math.inf,
) -> Allocation:
    """The choice of least error within the budget.

    Times are counted in buckets of ``budget / num_buckets``, rounded up, so the budget is kept in seconds. All methods
    solve the same whole numbers. They agree in the error, but if there are several best choices they may return
    different ones. If the fastest levels just meet the budget in seconds, rounding up may leave no choice. Then the
    fastest levels are returned.

    Parameters
    ----------
    problem
        The problem.
    method
        ``"dynamic-programme"`` (the default), ``"cp-sat"`` (OR-Tools, one thread) or ``"milp"`` (HiGHS).
    num_buckets
        Number of buckets in the budget; at least one per layer. Default 10 000.
    time_limit
        Seconds for `cp-sat` and `milp`; the dynamic programme has no limit. Default: no limit.

    Raises
    ------
    SolverError
        If the method is unknown, a parameter is out of its range, or the time limit is reached before the proof.

    Notes
    -----
    Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022.

    Examples
    --------
    >>> from problems import LayerTimes, TimingTable, allocation_problem
    >>> conv = LayerTimes("conv", (0, 0.5, 0.9), (0.6, 0.4, 0.2))
    >>> head = LayerTimes("head", (0, 0.5, 0.9), (0.4, 0.1, 0.1))
    >>> print(allocate(allocation_problem(TimingTable((conv, head), base=1.0), 2)))
    dynamic-programme: error 500000 OPTIMAL, speedup 2, 0.5 of 0.5 s for 2 layers
    """
    require_problem(problem, AllocationProblem)
    require_settings(method=method, num_buckets=num_buckets, time_limit=time_limit)
    if method not in _METHODS:
        raise SolverError(f"there is no method {method!r}; choose one of {', '.join(_METHODS)}")
    buckets = buckets_of(problem, num_buckets)
    if not buckets.leaves_a_choice:
        return allocation_of(problem, problem.fastest_choice, method=method, status=Status.FEASIBLE)
    with ProgressBar[None]("allocate"):
        return allocation_of(problem, _METHODS[method](buckets, time_limit), method=method)


def _by_dynamic_programme(buckets: Buckets, time_limit: float) -> tuple[int, ...]:
    return least_error_choice(buckets)


def _by_cp_sat(buckets: Buckets, time_limit: float) -> tuple[int, ...]:
    from solvers.allocation.choice_model import choice_by_model

    return choice_by_model(buckets, time_limit)


def _by_milp(buckets: Buckets, time_limit: float) -> tuple[int, ...]:
    from solvers.allocation.choice_program import choice_by_program

    return choice_by_program(buckets, time_limit)


_METHODS: dict[str, Callable[[Buckets, float], tuple[int, ...]]] = {
    "dynamic-programme": _by_dynamic_programme,
    "cp-sat": _by_cp_sat,
    "milp": _by_milp,
}
ALLOCATION_METHODS = tuple(_METHODS)
