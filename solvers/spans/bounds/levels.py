"""A bound for many rows of one block: the two chains of theorem 3, level by level, without their nesting.

Seen from the common point outwards, the rows closed so far to the left and to the right are two sets R and Q. While
both have r rows, only the classes that keep no row of R or no row of Q are spared. How much that can be at most, over
all pairs of sets of r rows, bounds the *level* r (docs/model.md, theorem 6).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class HasLevels(Protocol):
    """Bounds on the weight that two sets of r rows, and one set, spare; int64, shape (num_rows,)."""

    most: np.ndarray
    single: np.ndarray


def least_total(levels: HasLevels, total: int, slope: np.ndarray, saved: np.ndarray) -> int:
    """A bound on what rows pay together, each the slope times its span or a cap, from the levels.

    Parameters
    ----------
    levels
        Of these rows.
    total
        Weight of all classes.
    slope
        int64, shape (num_rows,): what a row pays for each unit of its span.
    saved
        int64, shape (num_rows,): its cap, less what it pays anyhow; that much is saved before it pays for its span.

    Returns
    -------
    int
        No order costs less than the sum of the caps plus this.

    Examples
    --------
    >>> from solvers.common.block_rows import BlockRows
    >>> from solvers.spans.bounds.level_search import LevelSearch
    >>> bits = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> levels = LevelSearch(BlockRows(np.array([3, 2, 1, 5]), bits, np.ones(3, dtype=int), free, free))
    >>> levels.improve(deadline=np.inf)
    >>> least_total(levels, 11, np.ones(3, dtype=int), np.array([20, 9, 10]))
    -14
    """
    num = len(slope)
    spared = _spared_by_paying(levels)
    best = np.full((num + 1, num + 1), -(2**62), dtype=np.int64)
    best[:, 0] = 0
    for row in np.argsort(-slope, kind="stable"):
        gain = saved[row] - slope[row] * np.maximum(total - spared, 0)
        best[:, 1:] = np.where(best[:, :-1] > -(2**61), np.maximum(best[:, 1:], best[:, :-1] + gain), best[:, 1:])
    return -int(np.diagonal(best).max())


def _spared_by_paying(levels: HasLevels) -> np.ndarray:
    """Most weight spared at level r = 1, 2, ... if s rows pay; int64, shape (num_rows + 1, num_rows).

    The closed sets R and Q lie among the s rows, so that at least 2r - s rows are in both; what either spares, the
    common rows spare.
    """
    num = len(levels.most)
    common = 2 * np.arange(1, num + 1) - np.arange(num + 1)[:, np.newaxis]
    single = levels.single[np.clip(common, 1, num) - 1]
    return np.where(common >= 1, np.minimum(levels.most, single), levels.most)
