"""Whole-number potentials for the assignment bound on runs: what a person can add up instead of solving it again.

They are shortest distances in the assignment's residual graph, so leaving plus entering never exceeds an arc's cost and
meets it on the arcs of the assignment.
"""

from __future__ import annotations

import numpy as np

from problems import Claim, Kind, Potentials, Problem
from solvers.runs.assignment import block_arcs, successors


def potentials_claim(problem: Problem, bound: int) -> Claim:
    """The assignment's bound on runs, with its witness."""
    text = "even if every class chose its successor freely, as prices for leaving and entering the classes show"
    return Claim(Kind.RELAXATION, bound, text, potentials=run_potentials(problem))


def run_potentials(problem: Problem) -> tuple[Potentials, ...]:
    """Potentials of every block that is not pinned; with the runs of pinned blocks they sum to the assignment's bound.

    Examples
    --------
    >>> from problems.generators import disjoint_masks
    >>> (own,) = run_potentials(disjoint_masks(8, 3))
    >>> sum(own.leave) + sum(own.enter)
    3
    """
    found = []
    for b, block in enumerate(problem.blocks):
        if block.pinned:
            continue
        cost = block_arcs(problem, b)
        successor = successors(cost)
        leave, enter = _potentials(cost, successor)
        found.append(Potentials(block.name, tuple(leave.tolist()), tuple(enter.tolist())))
    return tuple(found)


def _potentials(cost: np.ndarray, successor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """enter[j] <= enter[successor[i]] + cost[i, j] - cost[i, successor[i]], as large as possible and at most 0."""
    num = len(cost)
    matched = cost[np.arange(num), successor]
    detour = cost - matched[:, np.newaxis]
    np.fill_diagonal(detour, np.iinfo(np.int64).max // 4)
    enter = np.zeros(num, dtype=np.int64)
    for _ in range(num + 1):
        shorter = np.minimum(enter, (enter[successor][:, np.newaxis] + detour).min(axis=0))
        if np.array_equal(shorter, enter):
            break
        enter = shorter
    return matched - enter[successor], enter
