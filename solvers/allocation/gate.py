"""The gate for allocations: it checks every choice, and makes an `Allocation` or raises an error.

No figure of a method is taken on trust. Time and error are computed again from the problem. An error names the method.
"""

from __future__ import annotations

from collections.abc import Sequence

from problems import AllocationProblem, ProblemError
from solvers.allocation.result import Allocation
from solvers.common.errors import SolverError
from solvers.common.result import Status


def allocation_of(
    problem: AllocationProblem, choice: Sequence[int], *, method: str, status: Status = Status.OPTIMAL
) -> Allocation:
    """Check a choice and make its allocation.

    Raises
    ------
    SolverError
        If the choice does not name one level of every layer, or takes more seconds than the budget. Then the method is
        wrong, not the problem.
    """
    try:
        totals = problem.evaluate(choice)
    except ProblemError as error:
        raise SolverError(f"method {method!r} returned no valid choice: {error}; please report this") from error
    if not problem.fits(totals.time):
        raise SolverError(
            f"method {method!r} returned levels that take {totals.time:.9g} s, more than the budget of "
            f"{problem.budget:.9g} s; please report this"
        )
    return Allocation(
        problem=problem,
        levels=problem.require_choice(choice),
        error=totals.error,
        time=totals.time,
        budget=problem.budget,
        speedup=totals.speedup,
        status=status,
        method=method,
    )
