"""Sparsity levels of a layer: SPDY's grid, levels that keep equally many channels, and errors by rank.

The problem that chooses one level per layer is in `problems.allocation.problem`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from problems.conversions import items, real, reals, whole_number, whole_numbers
from problems.errors import ProblemError

ERROR_SCALE = 10**6
"""Units in an error of 1. Errors are counted in whole millionths, so that all methods add them exactly."""

MAX_ERROR = 2**40
"""Most units of error a level may have."""

DECIMALS = 4
"""Decimals of a sparsity in labels and in files."""


def sparsity_grid(lowest: float = 0.4, highest: float = 0.99, steps: int = 40) -> tuple[float, ...]:
    """The levels 0 and ``1 - (1 - lowest) * delta**i`` for i = 0..steps: each keeps the same share of the one before.

    ``delta = ((1 - highest) / (1 - lowest)) ** (1 / steps)``. Levels are rounded to 4 decimals, as in files.

    Parameters
    ----------
    lowest, highest
        The first level above 0, and the last.
    steps
        Steps from `lowest` to `highest`, at least 1. The grid has ``steps + 2`` levels.

    Raises
    ------
    ProblemError
        Unless 0 < lowest < highest < 1, or if two levels have the same label.

    Notes
    -----
    Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022.

    Examples
    --------
    >>> sparsity_grid()[:5], sparsity_grid()[-3:], len(sparsity_grid())
    ((0.0, 0.4, 0.4584, 0.5111, 0.5586), (0.9877, 0.9889, 0.99), 42)
    """
    lowest, highest = real(lowest, "lowest"), real(highest, "highest")
    if not 0 < lowest < highest < 1:
        raise ProblemError(f"levels from {lowest} to {highest} are no grid; give 0 < lowest < highest < 1")
    steps = whole_number(steps, "steps", least=1, most=10**DECIMALS)
    delta = ((1 - highest) / (1 - lowest)) ** (1 / steps)
    grid = (0.0, *(round(1 - (1 - lowest) * delta**i, DECIMALS) for i in range(steps + 1)))
    if len(set(grid)) < len(grid) or grid[-1] >= 1:
        raise ProblemError(
            f"{steps} steps from {lowest} to {highest} are equal with {DECIMALS} decimals; take fewer steps"
        )
    return grid


def distinct_levels(counts: Sequence[int]) -> tuple[int, ...]:
    """Which levels to keep so that no two keep equally many channels: the lowest level of every count.

    Parameters
    ----------
    counts
        Per level, sparsities ascending: how many channels it keeps. The number that it removes serves as well
        (`upscale_opt.arguments.amounts.num_removed`).

    Returns
    -------
    tuple
        Indices into the levels, ascending. They are also the ranks for `rank_errors`.

    Raises
    ------
    ProblemError
        If the counts are not whole numbers, or both rise and fall: then the sparsities were not sorted.

    Examples
    --------
    >>> distinct_levels([8, 5, 5, 4, 4, 1])
    (0, 1, 3, 5)
    """
    numbers = whole_numbers(items(counts, "counts of channels"), "counts of channels")
    if numbers.ndim != 1:
        raise ProblemError("counts of channels must be a list of whole numbers, one per level")
    steps = np.diff(numbers)
    if (steps > 0).any() and (steps < 0).any():
        raise ProblemError("counts of channels rise and fall from level to level; sort the levels by sparsity")
    return tuple(k for k in range(len(numbers)) if k == 0 or steps[k - 1] != 0)


def rank_errors(ranks: Sequence[int], num_levels: int, coefficient: float = 1.0) -> tuple[int, ...]:
    """Errors ``coefficient * (rank / (num_levels - 1))**2`` in units of a millionth, rounded to whole units.

    The error depends on the rank of a level in its list, not on its sparsity. It is 0 for the first level (dense) and
    `coefficient` for the last.

    Parameters
    ----------
    ranks
        Indices of the levels in the original list, before any were dropped.
    num_levels
        Number of levels in the original list. If there is only one, its error is 0.
    coefficient
        Weight of the layer's error, at least 0. Default 1.

    Raises
    ------
    ProblemError
        If a rank lies outside the list, or the coefficient is out of its range.

    Notes
    -----
    The error score of SPDY (ICML 2022), as its authors' program computes it.

    Examples
    --------
    >>> rank_errors([0, 1, 4], 5), rank_errors([0, 4], 5, coefficient=0.5), rank_errors([0], 1)
    ((0, 62500, 1000000), (0, 500000), (0,))
    """
    num_levels = whole_number(num_levels, "num_levels", least=1)
    ranks = [whole_number(rank, "a rank") for rank in items(ranks, "ranks")]
    coefficient = real(coefficient, "coefficient")
    if any(not 0 <= rank < num_levels for rank in ranks):
        raise ProblemError(f"ranks {list(ranks)} are not all in a list of {num_levels} levels; count from 0")
    top = max(num_levels - 1, 1)
    return error_units([coefficient * (rank / top) ** 2 for rank in ranks])


def error_units(errors: Sequence[float]) -> tuple[int, ...]:
    """Errors of any kind (for example measured ones) in units of a millionth, rounded to whole units.

    Raises
    ------
    ProblemError
        If one is negative, not finite, or beyond `MAX_ERROR` units.

    Examples
    --------
    >>> error_units([0, 0.25, 1.0000004])
    (0, 250000, 1000000)
    """
    errors = reals(errors, "errors")
    for error in errors:
        if not (math.isfinite(error) and 0 <= error * ERROR_SCALE <= MAX_ERROR):
            raise ProblemError(f"an error is {error}; give numbers from 0 to {MAX_ERROR // ERROR_SCALE}")
    return tuple(round(error * ERROR_SCALE) for error in errors)
