"""The gate for choices of widths: it checks every finding, and makes a `WidthResult` or raises an error.

No figure of a method is taken on trust. Time and loss are computed again from the problem. An error names the method.
"""

from __future__ import annotations

from collections.abc import Sequence

from problems import ProblemError
from problems.widths.certificates import BoundCertificate
from problems.widths.problem import WidthProblem
from solvers.common.errors import SolverError
from solvers.common.result import Status
from solvers.widths.result import WidthResult


def width_result_of(
    problem: WidthProblem,
    choice: Sequence[int],
    *,
    bound: int,
    method: str,
    seconds: float,
    certificate: BoundCertificate | None = None,
) -> WidthResult:
    """Check a choice and its bound, and make the result.

    Raises
    ------
    SolverError
        If the choice does not name one width of every block, takes more than the budget, or has less loss than a bound
        says. Then the method is wrong, not the problem.
    """
    try:
        totals = problem.evaluate(choice)
    except ProblemError as error:
        raise SolverError(f"method {method!r} returned no valid choice: {error}; please report this") from error
    if totals.time > problem.budget:
        raise SolverError(
            f"method {method!r} returned widths that take {totals.time} ns, more than the budget of {problem.budget} "
            "ns; please report this"
        )
    for proven in (bound, certificate.bound if certificate else 0):
        if proven > totals.loss:
            raise SolverError(
                f"method {method!r} claims that no loss is below {proven}, but its own choice has {totals.loss}; "
                "please report this"
            )
    return WidthResult(
        problem=problem,
        choice=problem.require_choice(choice),
        loss=totals.loss,
        time=totals.time,
        bound=bound,
        status=Status.OPTIMAL if bound == totals.loss else Status.FEASIBLE,
        method=method,
        seconds=seconds,
        certificate=certificate,
    )
