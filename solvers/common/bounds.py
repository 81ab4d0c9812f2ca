"""Bounds that need no search: what each access must pay even if it had the order for itself.

They hold for every order because an access never does better among others than alone. The exact methods bring
bounds of their own; these are what a heuristic, or a run that was cut off at once, can report.
"""

from __future__ import annotations

import numpy as np

from problems import Objective, Order, Problem, evaluate, objective_named
from problems.weights import without_weights
from solvers.common.arguments import require_problem, require_settings
from solvers.common.arrangement_costs import ArrangementCosts
from solvers.common.least_costs import least_costs
from solvers.common.loosening import loosened
from solvers.common.rows import span_rows


def trivial_bound(problem: Problem, objective: Objective) -> int:
    """Sum over accesses of a bound on each one's own.

    For runs: 1, or the exact number if all blocks of the access are pinned. Otherwise the cost at the smallest span
    the access can have: its kept channels, the channels in pinned blocks it must cover, and those of whole blocks
    between the ones it keeps channels of. That is 0 for an access that reads one block, unless it is pinned. If there
    are such channels it has two runs at least. Where units may change places, what holds for all arrangements counts
    (`solvers.common.loosening`, `solvers.common.arrangement_costs`).

    Examples
    --------
    >>> from problems import OBJECTIVES
    >>> from problems.generators import random_masks
    >>> problem = random_masks(16, 3)
    >>> [trivial_bound(problem, objective) for objective in OBJECTIVES.values() if not objective.uses_tables]
    [0, 3, 0, 0]
    """
    require_problem(problem)
    require_settings(objective=objective)
    goal = objective_named(objective)
    return int(_alone(without_weights(problem, goal), goal).sum())


def _alone(problem: Problem, objective: Objective) -> np.ndarray:
    """What each access pays at least; int64, shape (num_accesses,)."""
    if problem.bundles:
        loose, least = loosened(problem), ArrangementCosts(problem, objective).least()
        own = list(loose.accesses)
        apart = [
            objective.converted(cost, part=loose.problem, whole=problem) for cost in _alone(loose.problem, objective)
        ]
        least[own] = np.maximum(least[own], np.array(apart, dtype=np.int64))
        return least
    if objective.counts_runs:
        identity = evaluate(problem, Order.identity(problem), objective)
        return np.array(
            [
                cost.runs if all(problem.blocks[b].pinned for b in access.blocks) else 1
                for access, cost in zip(problem.accesses, identity.accesses, strict=True)
            ],
            dtype=np.int64,
        )
    fixed = span_rows(problem).fixed
    costs = least_costs(problem, objective)
    return np.array([own[excess] for own, excess in zip(costs, fixed, strict=True)], dtype=np.int64)
