"""Bounds from levels for all blocks of a problem: rows in groups that the level bound can take, groups added up.

The rows of a group that are not anchored at the same end share classes pairwise. What a group must pay without the
others never exceeds what its rows pay among them.
"""

from __future__ import annotations

import numpy as np

from problems import Problem
from solvers.common.block_rows import BlockRows, span_blocks
from solvers.common.clock import time_now
from solvers.common.rows import span_rows
from solvers.spans.bounds.level_search import LevelSearch
from solvers.spans.bounds.levels import least_total
from solvers.spans.bounds.levels_of_many_rows import FrequentLevels

_MOST_ROWS = 128  # rows: of a group; the least total of capped rows takes their cube; by hand
_ROWS_FOR_FREQUENT = 56  # rows: from which frequent sets are looked for first; by hand
_FREQUENT_SHARE = 0.15  # share: of the time for frequent sets; by hand
_FREQUENT_PER_SECOND = 10_000  # sets: kept per second of time; by hand
_FREQUENT_CELLS = 4_000_000  # numbers: sets times rows that are kept: a bound on memory; by hand
_MOST_SECONDS = 600.0  # seconds: that count as the time where there is no limit; by hand


class LevelSpans:
    """The levels of some blocks.

    Parameters
    ----------
    problem
        The problem.
    blocks
        Blocks that may be reordered and that some rows read.
    """

    def __init__(self, problem: Problem, blocks: list[int]) -> None:
        self._groups = {
            block.block: [_Group(block.rows, group) for group in _groups(block.rows.share)]
            for block in span_blocks(problem, span_rows(problem))
            if block.block in blocks
        }

    def improve(self, *, deadline: float) -> None:
        """Give every group its share of the time, small ones first, which may need less."""
        groups = sorted((group for own in self._groups.values() for group in own), key=lambda group: group.num_rows)
        rows = np.array([group.num_rows for group in groups], dtype=np.float64)
        for k, group in enumerate(groups):
            now = time_now()
            group.improve(deadline=now + (deadline - now) * float(rows[k] ** 2 / (rows[k:] ** 2).sum()))

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
        return sum(group.least(slope, saved) for group in self._groups[block])


class _Group:
    """Rows of a block that fit together, with their levels."""

    def __init__(self, block: BlockRows, rows: np.ndarray) -> None:
        self._rows, self.num_rows = rows, len(rows)
        self._own, _ = block.only(rows)
        self._levels = LevelSearch(self._own)

    def improve(self, *, deadline: float) -> None:
        """Bring the levels down until the deadline."""
        if self.num_rows >= _ROWS_FOR_FREQUENT:
            now = time_now()
            seconds = min(_MOST_SECONDS, deadline - now)
            most_sets = int(min(_FREQUENT_PER_SECOND * seconds, _FREQUENT_CELLS / self.num_rows))
            frequent = FrequentLevels(self._own, most_sets=max(1, most_sets))
            frequent.improve(deadline=now + _FREQUENT_SHARE * seconds)
            self._levels.lower(frequent)
        self._levels.improve(deadline=deadline)

    def least(self, slope: np.ndarray, saved: np.ndarray | None) -> int:
        """The bound of `LevelSpans.least` on these rows alone; arguments are of all rows of the block."""
        paid = slope[self._rows]
        weight = int(self._own.weight.sum())
        cap = weight * paid + 1 if saved is None else saved[self._rows]
        saved = cap + paid * (self._own.weight @ self._own.bits)
        return int(cap.sum()) + least_total(self._levels, weight, paid, saved)


def _groups(fits: np.ndarray) -> list[np.ndarray]:
    """Rows in groups that fit together pairwise (bool, shape (num_rows, num_rows)), large groups first."""
    rest = np.arange(len(fits))
    groups = []
    while len(rest):
        candidates = rest[np.argsort(-fits[np.ix_(rest, rest)].sum(axis=1), kind="stable")]
        group: list[int] = []
        while len(candidates) and len(group) < _MOST_ROWS:
            row = int(candidates[0])
            group.append(row)
            candidates = candidates[1:][fits[row, candidates[1:]]]
        groups.append(np.array(sorted(group)))
        rest = np.setdiff1d(rest, group)
    return groups
