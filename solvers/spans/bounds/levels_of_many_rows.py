"""Levels of more rows than all sets of them can be listed: the sets that spare most, found size by size.

A set of rows spares no more than its subsets do, so that sets grow from those that spare much (the search for frequent
item sets; Agrawal and Srikant, VLDB 1994). What the sets left out could spare is known, and counted.
"""

from __future__ import annotations

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.clock import time_now

_KEPT_SETS = 300_000  # sets: frequent ones that are kept: a bound on memory; by hand
_PAIRED_SETS = 1500  # sets: of each side that are paired; by hand
_MOST_WORDS = 20_000_000  # words: of 64 classes that pairing looks at; by hand


class FrequentLevels:
    """As `LevelSearch`, from frequent sets and without multipliers; anchors are ignored.

    Parameters
    ----------
    rows
        The rows; slopes do not matter.
    most_sets
        Sets kept of every size.

    Attributes
    ----------
    most, single
        int64, shape (num_rows,), as there.

    Examples
    --------
    >>> bits = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> levels = FrequentLevels(BlockRows(np.array([3, 2, 1, 5]), bits, np.ones(3, dtype=int), free, free))
    >>> levels.improve(deadline=np.inf)
    >>> levels.most.tolist(), levels.single.tolist()
    ([5, 0, 0], [3, 0, 0])
    """

    def __init__(self, rows: BlockRows, *, most_sets: int = _KEPT_SETS) -> None:
        weight, missed = rows.weight, ~rows.bits
        self._num, self._most_sets = rows.num_rows, most_sets
        size = missed.sum(axis=1)
        self.most = np.array([int(weight[size >= r].sum()) for r in range(1, self._num + 1)])
        self.single = self.most.copy()
        packed = np.packbits(np.repeat(missed, weight, axis=0).T, axis=1)
        padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
        self._words = np.ascontiguousarray(padded).view(np.uint64)

    def improve(self, *, deadline: float) -> None:
        """Bound size after size until the deadline."""
        words, last = self._words, np.arange(self._num)
        value = _count(words)
        left_out = 0
        for r in range(1, self._num + 1):
            if time_now() >= deadline:
                break
            self._bound(r, words, value, left_out)
            if not len(value):
                break
            words, last, value, dropped = self._grown(words, last, value)
            left_out = max(left_out, dropped)
        self.most = np.minimum.accumulate(self.most)
        self.single = np.minimum.accumulate(self.single)

    def _bound(self, r: int, words: np.ndarray, value: np.ndarray, left_out: int) -> None:
        """Bound one level: the best sets are paired exactly, the others by what they spare."""
        best = max(int(value.max(initial=0)), left_out)
        self.single[r - 1] = min(int(self.single[r - 1]), best)
        num_paired = min(_PAIRED_SETS, int((_MOST_WORDS / words.shape[1]) ** 0.5))
        top = np.argsort(-value, kind="stable")[:num_paired]
        paired = 0
        for part in np.array_split(top, max(1, len(top) // 100)):
            if len(part):
                both = _count(words[part][:, np.newaxis] & words[top])
                paired = max(paired, int((value[part][:, np.newaxis] + value[top] - both).max()))
        unpaired = left_out
        if len(value) > len(top):
            unpaired = max(unpaired, int(value[top[-1]]))
        self.most[r - 1] = min(int(self.most[r - 1]), max(paired, best + unpaired))

    def _grown(
        self, words: np.ndarray, last: np.ndarray, value: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Sets with one row more, a later one than all they have; and the most that one left out spares."""
        parents, rows, values = [], [], []
        for row in range(self._num):
            own = np.flatnonzero(last < row)
            parents.append(own)
            rows.append(np.full(len(own), row))
            values.append(_count(words[own] & self._words[row]))
        parent, added, value = np.concatenate(parents), np.concatenate(rows), np.concatenate(values)
        dropped = 0
        kept = np.flatnonzero(value > 0)
        if len(kept) > self._most_sets:
            split = np.argpartition(-value[kept], self._most_sets)
            dropped = int(value[kept[split[self._most_sets :]]].max())
            kept = kept[split[: self._most_sets]]
        return words[parent[kept]] & self._words[added[kept]], added[kept], value[kept], dropped


def _count(words: np.ndarray) -> np.ndarray:
    """Bits set along the last axis; int64."""
    return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64))
