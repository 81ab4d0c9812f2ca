"""What accesses that cannot be views cost at least, whatever the objective: a covering problem over conflicts.

Under any order the accesses that are no views meet every conflict, and each of them pays its premium: what spanning one
channel more, in two runs, costs it beyond what it pays alone (docs/model.md, "Proofs"). HiGHS weighs the conflicts, and
the consecutive-ones test finds those that are missing.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from scipy.optimize import LinearConstraint, milp

from problems import Claim
from problems.checker.implied_bounds import premiums
from problems.checker.least_costs import costs_alone
from solvers.common.highs import NODES_A_SECOND, charge, milp_options
from solvers.common.incumbent import Incumbent
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.views.conflicts import small_conflicts
from solvers.views.view_proof import Limit, conflict_claims
from solvers.views.view_test import ViewTest

_LEAST_SECONDS = 0.02  # seconds: that HiGHS gets at least; by hand
_MOST_ROUNDS = 200  # rounds: of the covering problem; by hand
_MOST_CONFLICTS_A_ROUND = 20  # conflicts: added in a round; by hand
_SHARE_FOR_CONFLICTS = 0.3  # share: of the time for conflicts of two and three accesses; by hand


def bound_by_conflicts(task: Task, incumbent: Incumbent) -> dict[str, int | float]:
    """Raise the incumbent's bound by the accesses that cannot be views together; also offers orders of many views.

    Parameters
    ----------
    task
        Any objective but one that counts runs. It ends at the deadline, or when no conflict is missing.
    incumbent
        What is known.

    Returns
    -------
    dict
        Figures for reports.
    """
    problem = task.problem
    alone = costs_alone(problem, task.objective)
    price = np.array(premiums(problem, task.objective, alone), dtype=np.int64)
    known = small_conflicts(problem, span_rows(problem), price, deadline=task.within(_SHARE_FOR_CONFLICTS).deadline)
    limits: list[Limit] = list(known.limits(deadline=task.deadline))
    test = ViewTest(task)
    rounds = 0
    while not incumbent.closed and task.remaining > _LEAST_SECONDS and rounds < _MOST_ROUNDS:
        rounds += 1
        bound, given_up = _cheapest_cover(limits, price, seconds=task.remaining)
        reason = partial(_claims, task, tuple(limits))
        incumbent.raise_bound(sum(alone) + bound, reason, method="conflicts")
        if given_up is None:
            break
        views = [a for a in range(len(price)) if not given_up[a] and price[a] > 0]
        missing: list[list[int]] = []
        while (conflict := test.conflict(views)) is not None and len(missing) < _MOST_CONFLICTS_A_ROUND:
            missing.append(conflict)
            views.remove(min(conflict, key=lambda a: (price[a], -a)))
            if task.expired:
                break
        if conflict is None:
            incumbent.offer(test.order(views))
        if not missing:
            break
        limits += [(len(own) - 1, tuple(own)) for own in missing]
    return {"conflicts": len(limits), "covers": rounds}


def _claims(task: Task, limits: tuple[Limit, ...], bound: int) -> list[Claim]:
    """Why a bound holds."""
    return conflict_claims(task.problem, task.objective, bound, limits)


def _cheapest_cover(limits: list[Limit], price: np.ndarray, *, seconds: float) -> tuple[int, np.ndarray | None]:
    """A bound on the price of giving up views so that no conflict is left, and a cheapest choice, None out of time.

    minimise sum price[a] x[a],   sum of x[a] over the accesses of a conflict >= how many of them must be given up
    """
    if not limits:
        return 0, np.zeros(len(price), dtype=bool)
    matrix = np.zeros((len(limits), len(price)))
    for i, (_, accesses) in enumerate(limits):
        matrix[i, list(accesses)] = 1
    need = matrix.sum(axis=1) - [limit for limit, _ in limits]
    unit = int(np.gcd.reduce(price)) or 1
    answer = milp(
        (price // unit).astype(np.float64),
        integrality=np.ones(len(price)),
        bounds=(0, 1),
        constraints=LinearConstraint(matrix, lb=need),
        options=milp_options(max(_LEAST_SECONDS, min(seconds, 1e6))),
    )
    charge(getattr(answer, "mip_node_count", None), NODES_A_SECOND)
    proven = getattr(answer, "mip_dual_bound", None)
    bound = 0 if proven is None or not math.isfinite(proven) else math.ceil(proven - 1e-6 - 1e-9 * abs(proven))
    closed = answer.status == 0 and answer.x is not None
    return max(0, bound) * unit, np.rint(answer.x).astype(bool) if closed else None
