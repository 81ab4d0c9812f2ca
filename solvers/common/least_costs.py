"""What an access pays at least for every span, and straight lines below that: what the span methods minimise.

A line that meets the curve at the lower end of a range of spans and stays below it within the range turns the
problem into one with linear costs, which the exact methods of one block solve.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from problems import Objective, Problem


def least_costs(problem: Problem, objective: Objective) -> tuple[np.ndarray, ...]:
    """Per access the least cost at every excess, whatever the number of runs.

    Parameters
    ----------
    problem
        The problem.
    objective
        Any but runs.

    Returns
    -------
    tuple of np.ndarray
        int64, shape (stored channels of its input - kept channels + 1,): entry e is the cost at span kept + e. It
        is exact unless pieces are cheapest (then that of two runs stands in), and never decreases.

    Examples
    --------
    >>> from problems import OBJECTIVES
    >>> from problems.generators import random_masks
    >>> [costs.tolist() for costs in least_costs(random_masks(8, 1, keep=0.5, seed=1), OBJECTIVES["traffic"])]
    [[0]]
    """
    costs = []
    for access in problem.accesses:
        excess = np.arange(sum(len(problem.stored[b]) for b in access.blocks) - access.num_kept + 1)
        runs = np.where(excess > 0, 2, 1)
        own = objective.costs(access, access.num_kept + excess, runs, ticks=objective.ticks_of(problem))
        costs.append(np.maximum.accumulate(np.minimum.accumulate(own[::-1])[::-1]))
    return tuple(costs)


def steepest_line(costs: np.ndarray, first: int, last: int) -> Fraction:
    """Largest slope of a line through ``costs[first]`` that stays below the costs from `first` to `last`.

    Examples
    --------
    >>> steepest_line(np.array([0, 4, 6, 7]), 0, 3), steepest_line(np.array([0, 1, 1]), 2, 2)
    (Fraction(7, 3), Fraction(0, 1))
    """
    if last <= first:
        return Fraction(0)
    rise = costs[first + 1 : last + 1] - costs[first]
    run = np.arange(1, len(rise) + 1)
    near = np.flatnonzero(rise / run <= (rise / run).min() * (1 + 1e-9))
    divisor = np.gcd(rise[near], run[near])
    up, along = rise[near] // divisor, run[near] // divisor
    order = np.lexsort((up, along))
    least = order[np.diff(along[order], prepend=0) > 0]
    return min(Fraction(int(up[i]), int(along[i])) for i in least)


def is_concave(costs: np.ndarray) -> bool:
    """Whether the increments never grow.

    Examples
    --------
    >>> is_concave(np.array([0, 2, 3, 3])), is_concave(np.array([0, 0, 1]))
    (True, False)
    """
    return bool((np.diff(costs, n=2) <= 0).all())
