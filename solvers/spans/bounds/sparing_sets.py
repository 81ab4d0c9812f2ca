"""The sets of so many rows that spare more than a given weight: a search over rows, many branches at a time.

A set of rows spares a class if none of its rows keeps it. A branch has some rows, may still take others, and looks at
the classes that its rows spare so far: of those only the ones count that enough other rows spare as well, and of the
rows only those that leave enough of these classes. Each rule makes the other stricter (cores of bipartite graphs, as in
searches for large bicliques; Zhang et al., "On finding bicliques in bipartite graphs", BMC Bioinformatics 15, 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.common.clock import time_now

_MOST_CELLS = 1 << 22  # numbers: of one batch of branches: a bound on memory; by hand
_MOST_BRANCHES = 1024  # branches: looked at together; by hand
_SWEEPS = 2  # sweeps: over rows and classes of a batch, in search of branches that cannot win; by hand
_LARGEST_SINGLE = 2**24  # value: up to which float32 holds whole numbers exactly, 2^24


@dataclass(frozen=True, eq=False)
class _Branches:
    """Some branches: packed bits, a row each; all of them have so many rows still to take."""

    classes: np.ndarray
    free: np.ndarray
    taken: np.ndarray
    need: int


class SparingSets:
    """All sets of `size` rows that spare more than `above`, as far as they are found.

    Parameters
    ----------
    spared
        bool, shape (num_classes, num_rows): the classes that a row does not keep.
    value
        int64, shape (num_classes,), not negative: what it counts that a class is spared; sums below 2^53.
    size
        Rows of a set, at least 1.
    above
        Sets that spare more are of interest; at least 0.
    most_sets
        The search ends as soon as it has more sets.

    Attributes
    ----------
    done
        The search has ended.

    Examples
    --------
    >>> spared = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1]], dtype=bool)
    >>> sets = SparingSets(spared, np.array([3, 2, 1, 5]), 2, 4, most_sets=10)
    >>> sets.run(deadline=np.inf)
    >>> sets.complete, sets.members.astype(int).tolist(), sets.values.tolist()
    (True, [[0, 1, 1], [1, 1, 0], [1, 0, 1]], [6, 5, 5])
    """

    def __init__(self, spared: np.ndarray, value: np.ndarray, size: int, above: int, *, most_sets: int) -> None:
        useful = (value > 0) & (spared.sum(axis=1) >= size)
        kind = np.float32 if int(value.sum()) < _LARGEST_SINGLE else np.float64
        self._spared = spared[useful].astype(kind)
        self._kind = kind
        self._by_row = np.ascontiguousarray(self._spared.T)
        self._has = self._by_row > 0
        self._value = value[useful].astype(kind)
        self._ones = np.ones(len(self._value), dtype=kind)
        self._above, self._size, self._num, self._most_sets = above, size, spared.shape[1], most_sets
        self._width = max(1, min(_MOST_BRANCHES, _MOST_CELLS // (1 + self._num * (len(self._value) + self._num))))
        self._members, self._values, self._num_sets = [np.zeros((0, self._num), dtype=bool)], [np.zeros(0)], 0
        self._waiting = [self._root()] if self._num >= size and len(self._value) else []

    @property
    def done(self) -> bool:
        """Nothing is left to do, or there are too many sets."""
        return not self._waiting or self._num_sets > self._most_sets

    @property
    def complete(self) -> bool:
        """Whether these are all the sets there are."""
        return not self._waiting and self._num_sets <= self._most_sets

    @property
    def members(self) -> np.ndarray:
        """The sets, those that spare most first; bool, shape (num_sets, num_rows)."""
        return np.concatenate(self._members)[self._best_first()]

    @property
    def values(self) -> np.ndarray:
        """What each of them spares; int64, shape (num_sets,)."""
        return np.rint(np.concatenate(self._values)[self._best_first()]).astype(np.int64)

    def run(self, *, deadline: float) -> None:
        """Go on, depth first and a bundle of branches at a time, until it is done or the deadline passes."""
        while not self.done and time_now() < deadline:
            self._waiting += self._grown(self._waiting.pop())

    def _best_first(self) -> np.ndarray:
        return np.argsort(-np.concatenate(self._values), kind="stable")

    def _root(self) -> _Branches:
        everything = (np.ones((1, n), dtype=bool) for n in (len(self._value), self._num))
        classes, free = (np.packbits(own, axis=1) for own in everything)
        return _Branches(classes, free, np.zeros_like(free), self._size)

    def _grown(self, branches: _Branches) -> list[_Branches]:
        """One row more; whole sets are put aside."""
        classes = np.unpackbits(branches.classes, axis=1, count=len(self._value)).astype(bool)
        free = np.unpackbits(branches.free, axis=1, count=self._num).astype(bool)
        taken = np.unpackbits(branches.taken, axis=1, count=self._num).astype(bool)
        need = branches.need
        left = np.zeros((0, self._num))
        for _ in range(_SWEEPS):
            classes &= free.astype(self._kind) @ self._by_row >= need
            worth = classes * self._value
            alive = worth @ self._ones > self._above
            if not alive.all():
                classes, free, taken, worth = classes[alive], free[alive], taken[alive], worth[alive]
            left = worth @ self._spared
            fewer = free & (left > self._above)
            same = np.array_equal(fewer, free)
            alive = fewer.sum(axis=1) >= need
            classes, free, taken, worth = classes[alive], fewer[alive], taken[alive], worth[alive]
            left = left[alive]
            if same or not len(free):
                break
        whole = free.sum(axis=1) == need
        if whole.any():
            spared = free[whole].astype(self._kind) @ self._by_row >= need
            self._keep(taken[whole] | free[whole], classes[whole] & spared)
            classes, free, taken, worth, left = (own[~whole] for own in (classes, free, taken, worth, left))
        return self._children(classes, free, taken, worth, left, need) if len(free) else []

    def _children(
        self,
        classes: np.ndarray,
        free: np.ndarray,
        taken: np.ndarray,
        worth: np.ndarray,
        left: np.ndarray,
        need: int,
    ) -> list[_Branches]:
        """Take one of the free rows, the one that leaves least first, and never again one that came before it."""
        size = free.sum(axis=1)
        order = np.argsort(np.where(free, left, np.inf), axis=1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(self._num)[np.newaxis], axis=1)
        parent, place = np.nonzero(np.arange(self._num) <= (size - need)[:, np.newaxis])
        row = order[parent, place]
        free = free[parent] & (rank[parent] > place[:, np.newaxis])
        if need > 1:
            free &= (worth[parent] * self._by_row[row]) @ self._spared > self._above
            alive = free.sum(axis=1) >= need - 1
            parent, row, free = parent[alive], row[alive], free[alive]
        rest, taken = classes[parent] & self._has[row], taken[parent]
        taken[np.arange(len(row)), row] = True
        if need == 1:
            self._keep(taken, rest)
            return []
        packed = [np.packbits(bits, axis=1) for bits in (rest, free, taken)]
        cuts = range(0, len(row), self._width)
        classes, free, taken = packed
        return [
            _Branches(classes[k : k + self._width], free[k : k + self._width], taken[k : k + self._width], need - 1)
            for k in cuts
        ]

    def _keep(self, members: np.ndarray, classes: np.ndarray) -> None:
        value = classes @ self._value
        good = value > self._above
        self._members.append(members[good])
        self._values.append(value[good].astype(np.float64))
        self._num_sets += int(np.count_nonzero(good))
