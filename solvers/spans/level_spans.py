"""Bounds from levels for all blocks of a problem: rows in groups that the level bound can take, groups added up.

The rows of a group that are not anchored at the same end share classes pairwise. What a group must pay without the
others never exceeds what its rows pay among them.
"""

from __future__ import annotations

import math
import time

import numpy as np

from problems import Problem
from solvers.common.rows import Row, class_bits, merged_classes, span_rows
from solvers.spans.frequent_levels import FrequentLevels
from solvers.spans.level_bounds import MOST_ROWS, Levels, least_total

_SETS_PER_SECOND = 10_000_000
_FREQUENT_PER_SECOND = 100_000
_MOST_FREQUENT = 2_000_000


class LevelSpans:
    """The levels of some blocks.

    Parameters
    ----------
    problem
        The problem.
    blocks
        Blocks that may be reordered and that some rows read.
    seconds
        Time that `improve` will have; with little of it groups are small.
    """

    def __init__(self, problem: Problem, blocks: list[int], *, seconds: float = math.inf) -> None:
        most_rows = min(MOST_ROWS, max(1, int(math.log2(1 + _SETS_PER_SECOND * min(seconds, 1000.0)))))
        most_sets = int(min(_MOST_FREQUENT, 1000 + _FREQUENT_PER_SECOND * min(seconds, 1000.0)))
        spans = span_rows(problem)
        self._ways: dict[int, list[list[_Group]]] = {}
        for b in blocks:
            rows = spans.of_block(b)
            own = problem.classes.of_block(b)
            weight = problem.classes.weight[own]
            bits = class_bits(problem, b, (row.reader for row in rows))
            left, right = ends_of(rows)
            small, large = (_groups(bits, left, right, most) for most in (most_rows, len(rows)))
            self._ways[b] = [[_Group(weight, bits, left, right, group) for group in small]]
            if len(large) < len(small):
                self._ways[b].append(
                    [_Group(weight, bits, left, right, g, most_rows=most_rows, most_sets=most_sets) for g in large]
                )

    def improve(self, *, deadline: float) -> None:
        """Give every group its share of the time, large ones first."""
        groups = [group for ways in self._ways.values() for way in reversed(ways) for group in way]
        for k, group in enumerate(groups):
            now = time.perf_counter()
            group.levels.improve(deadline=now + (deadline - now) / (len(groups) - k))

    def least(self, block: int, slope: np.ndarray, saved: np.ndarray | None = None) -> int:
        """A bound on what the rows of a block pay for their excess, or for that less what copying costs.

        Parameters
        ----------
        block
            One of the blocks.
        slope
            int64, shape (rows of the block,): what a row pays for each channel of its excess.
        saved
            int64, same shape: a row may pay this instead, which is not below 0; None if it may not.
        """
        return max(sum(group.least(slope, saved) for group in way) for way in self._ways[block])


class _Group:
    """Rows of a block that fit together, with their levels: of all their sets, or of the frequent ones if too many."""

    def __init__(
        self,
        weight: np.ndarray,
        bits: np.ndarray,
        left: np.ndarray,
        right: np.ndarray,
        rows: np.ndarray,
        *,
        most_rows: int = MOST_ROWS,
        most_sets: int = 0,
    ) -> None:
        self._rows, self._weight = rows, int(weight.sum())
        merged_weight, merged, _ = merged_classes(weight, bits[:, rows])
        self._kept = merged_weight @ merged
        self.levels: Levels | FrequentLevels = (
            Levels(merged_weight, merged, left[rows], right[rows])
            if len(rows) <= most_rows
            else FrequentLevels(merged_weight, merged, most_sets=most_sets)
        )

    def least(self, slope: np.ndarray, saved: np.ndarray | None) -> int:
        """The bound of `LevelSpans.least` on these rows alone; arguments are of all rows of the block."""
        paid = slope[self._rows]
        cap = self._weight * paid + 1 if saved is None else saved[self._rows]
        return int(cap.sum()) + least_total(self.levels, self._weight, paid, cap + paid * self._kept)


def ends_of(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are left-anchored, and which right-anchored; two bool arrays."""
    left = np.array([row.left for row in rows], dtype=bool)
    return left, np.array([row.right for row in rows], dtype=bool)


def _groups(bits: np.ndarray, left: np.ndarray, right: np.ndarray, most_rows: int) -> list[np.ndarray]:
    """Rows in groups of limited size that fit together pairwise, large groups first."""
    share = bits.T.astype(np.int64) @ bits > 0
    fits = share | (left[:, np.newaxis] & left) | (right[:, np.newaxis] & right)
    rest = list(range(len(left)))
    groups = []
    while rest:
        group: list[int] = []
        for row in sorted(rest, key=lambda r: -int(fits[r, rest].sum())):
            if len(group) < most_rows and fits[row, group].all():
                group.append(row)
        groups.append(np.array(sorted(group)))
        rest = [row for row in rest if row not in group]
    return groups
