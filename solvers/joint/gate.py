"""The gate for joint choices: a choice becomes a `JointResult` here, or an error that names the method.

No figure of a method is taken on trust. The choice must fit the problem, its value is computed again, and no claim may
lie above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from problems import ProblemError
from problems.joint.decision import JointChoice, evaluate_joint
from problems.joint.problem import JointProblem
from problems.joint.proofs import JointClaim, JointProof
from solvers.common.errors import SolverError
from solvers.common.result import Status, StopReason, TrajectoryPoint
from solvers.joint.result import JointResult


def joint_result_of(
    problem: JointProblem,
    choice: JointChoice,
    *,
    method: str,
    seconds: float,
    claims: Sequence[JointClaim],
    value: int | None = None,
    stop_reason: StopReason | None = None,
    trajectory: Sequence[TrajectoryPoint] = (),
    seed: int = 0,
    stats: dict[str, Any] | None = None,
) -> JointResult:
    """Check a choice, and make the result.

    Parameters
    ----------
    problem
        What was solved.
    choice
        The choice that was found.
    method, seconds, seed, stats
        As in `JointResult`.
    claims
        Bounds, and how they were proven; at least one.
    value
        What the method claims the choice to be worth; None: nothing.
    stop_reason
        Why the method ended, unless the choice is optimal; None: by itself.
    trajectory
        How value and bound came about; the last point is added if it is missing.

    Raises
    ------
    SolverError
        If the choice does not fit, its value is not the one claimed, or a bound lies above it. This is an error in the
        method, not in the problem.
    """
    try:
        totals = evaluate_joint(problem, choice)
    except ProblemError as error:
        raise SolverError(f"method {method!r} returned no valid choice: {error}; please report this") from error
    if value is not None and value != totals.value:
        raise SolverError(
            f"method {method!r} claims the value {value}, but its choice has {totals.value}; please report this"
        )
    proof = JointProof.of(problem, claims)
    if proof.bound > totals.value:
        raise SolverError(
            f"method {method!r} claims that no choice is below {proof.bound}, but its own has {totals.value}; please "
            "report this"
        )
    optimal = proof.bound == totals.value
    points = list(trajectory)
    if not points or (points[-1].value, points[-1].bound) != (totals.value, proof.bound):
        points.append(TrajectoryPoint(seconds, totals.value, proof.bound, method))
    return JointResult(
        problem=problem,
        choice=choice,
        totals=totals,
        status=Status.OPTIMAL if optimal else Status.FEASIBLE,
        proof=proof,
        method=method,
        seconds=seconds,
        stop_reason=StopReason.OPTIMAL if optimal else stop_reason or StopReason.FINISHED,
        trajectory=tuple(points),
        seed=seed,
        stats=stats or {},
    )
