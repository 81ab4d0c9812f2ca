"""The one gate: every finding becomes a `Result` here, or an error that names the solver.

Nothing a solver says is taken on trust: the order must be a permutation, its value is computed again, and the bound
must not lie above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from problems import Objective, Order, Problem, ProblemError, evaluate
from solvers.common.errors import SolverError
from solvers.common.proofs import proof_of
from solvers.common.result import Result, Status, StopReason, TrajectoryPoint
from solvers.common.task import Finding


def result_of(
    problem: Problem,
    objective: Objective,
    finding: Finding,
    *,
    solver: str,
    runtime: float,
    start: Order | None = None,
    alternatives: Iterable[Order] | None = None,
    want_proof: bool = False,
    stop_reason: StopReason | None = None,
    trajectory: Sequence[TrajectoryPoint] = (),
    seed: int = 0,
) -> Result:
    """Check a finding and make the result of it.

    Parameters
    ----------
    problem, objective
        What was solved.
    finding
        What the solver claims.
    solver
        Its name.
    runtime
        Seconds the solve took.
    start
        An order the result must not be worse than: it is returned unless the solver's is strictly better.
    alternatives
        Other orders known; None for a heuristic, whose order is left as it is. If the finding is optimal, the one
        nearest to the original order among those of the same value, the finding's and its reversals is returned.
    want_proof
        Whether the result says why its bound holds.
    stop_reason
        Why the solve ended, unless the order turns out to be optimal; None: the method ended by itself.
    trajectory
        How value and bound came about; the gate adds the last point if it is missing.
    seed
        The seed of the solve.

    Raises
    ------
    SolverError
        If the order is not valid, its value is not the one claimed, the bound exceeds it, or it is claimed to be
        optimal though the solver's own bound is smaller. This is an error in the solver, not in the problem.
    """
    try:
        value = evaluate(problem, finding.order, objective).value
    except ProblemError as error:
        raise SolverError(f"solver {solver!r} returned no valid order: {error}; please report this") from error
    if finding.value is not None and finding.value != value:
        raise SolverError(
            f"solver {solver!r} claims {objective.name} {finding.value}, but its order has {value}; please report this"
        )
    bound = None if finding.bound is None else int(finding.bound)
    if bound is not None and bound > value:
        raise SolverError(
            f"solver {solver!r} claims that no order is below {bound}, but its own has {value}; please report this"
        )
    if finding.optimal and bound is not None and bound < value:
        raise SolverError(
            f"solver {solver!r} claims its {objective.name} {value} to be optimal, but bounds it by {bound} only; "
            "please report this"
        )
    order = finding.order
    if start is not None and start is not order and (start_value := evaluate(problem, start, objective).value) <= value:
        if start_value < value and finding.optimal:
            raise SolverError(
                f"solver {solver!r} claims {value} to be optimal, but its start has {start_value}; please report this"
            )
        if bound is not None and bound > start_value:
            raise SolverError(
                f"solver {solver!r} claims that no order is below {bound}, but its start has {start_value}; "
                "please report this"
            )
        order, value = start, start_value
    optimal = finding.optimal or bound == value
    if optimal:
        bound = value
    if optimal and alternatives is not None:
        order = _nearest(problem, objective, value, order, alternatives)
    points = list(trajectory)
    if not points or (points[-1].value, points[-1].bound) != (value, bound):
        points.append(TrajectoryPoint(runtime, value, bound, solver))
    return Result(
        order=order,
        value=value,
        bound=bound,
        status=Status.OPTIMAL if optimal else Status.FEASIBLE,
        runtime=runtime,
        solver=solver,
        evaluation=evaluate(problem, order, objective),
        stats=dict(finding.stats),
        proof=proof_of(problem, objective, finding, bound, solver=solver) if want_proof and bound is not None else None,
        stop_reason=StopReason.OPTIMAL if optimal else stop_reason or StopReason.FINISHED,
        trajectory=tuple(points),
        seed=seed,
        problem=problem,
        objective=objective,
    )


def displacement(problem: Problem, order: Order) -> int:
    """How far an order is from the original one: sum over channels of ``|position - original rank|``.

    A unit in another place counts as many positions as it has channels for every place it moved.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> problem = random_masks(4, 1, keep=1.0)
    >>> displacement(problem, Order([[0, 2, 1, 3]])), displacement(problem, Order.identity(problem))
    (2, 0)
    """
    moved = sum(_displacement(stored, own) for stored, own in zip(problem.stored, order.channels, strict=True))
    for bundle, units in zip(problem.bundles, order.arrangement, strict=bool(order.arrangement)):
        size = sum(len(problem.stored[b]) for b in bundle.units[0])
        moved += size * int(np.abs(units - np.arange(len(units))).sum())
    return moved


def _displacement(stored: np.ndarray, channels: np.ndarray) -> int:
    return int(np.abs(np.searchsorted(stored, channels) - np.arange(len(channels))).sum())


def _nearest(problem: Problem, objective: Objective, value: int, found: Order, alternatives: Iterable[Order]) -> Order:
    """The order of the given value nearest to the original one, among those known and their reversals."""
    best = found
    for other in alternatives:
        if displacement(problem, other) >= displacement(problem, best):
            continue
        if evaluate(problem, other, objective).value == value:
            best = other
    return _turned(problem, objective, value, best)


def _turned(problem: Problem, objective: Objective, value: int, order: Order) -> Order:
    """Reverse single blocks of an order where that brings it nearer to the original and costs nothing."""
    channels = list(order.channels)
    if problem.constraints:
        return order
    for b, block in enumerate(problem.blocks):
        turned = channels[b][::-1]
        stored = problem.stored[b]
        if block.pinned or _displacement(stored, turned) >= _displacement(stored, channels[b]):
            continue
        trial = Order([*channels[:b], turned, *channels[b + 1 :]], order.arrangement)
        if evaluate(problem, trial, objective).value == value:
            channels[b] = turned
    return Order(channels, order.arrangement)
