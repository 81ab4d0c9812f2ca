"""Two chains by a beam search: the path of theorem 3 where its pairs of sets are too many to visit them all.

The chains run from the common point outwards: sets U and V of rows that are closed already to the left and to the
right. After each row only those pairs are kept whose bound is least: as A* ranks them, but never going back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.clock import time_now
from solvers.spans.heuristics.chain_moves import ChainPair

MOST_ROWS = 63  # rows: of a block: sets of rows are bits of an int64

_MOST_CELLS = 1 << 22  # numbers: of one batch: a bound on memory; by hand


def beam_chains(rows: BlockRows, *, width: int, below: float = np.inf, deadline: float = np.inf) -> ChainPair | None:
    """Two chains that are good together, the best of all if no pair of sets was dropped; None if there are none.

    Parameters
    ----------
    rows
        The block, with at most `MOST_ROWS` rows. Where two rows share no class, the chains give an order all the same.
    width
        Pairs of sets kept after each row, at least 1.
    below
        Pairs of sets that no chains cheaper than this can pass are dropped.
    deadline
        A `time.perf_counter` reading; there is no result if it passes.

    Examples
    --------
    >>> bits = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> rows = BlockRows(np.array([1, 2, 3]), bits, np.array([1, 1]), free, free)
    >>> pair = beam_chains(rows, width=10)
    >>> pair.price, pair.sequence().tolist()
    (8, [2, 1, 0])
    """
    search = _Search(rows, width, below)
    beam = search.start()
    for _ in range(search.num_steps):
        if len(beam.spared) == 0 or time_now() >= deadline:
            return None
        beam = search.advanced(beam)
    if len(beam.spared) == 0:
        return None
    best = int(beam.spared.argmax())
    left, right = (beam.chains[best, side] for side in (0, 1))
    return ChainPair(rows, (left[left >= 0][::-1].astype(np.int64), right[right >= 0][::-1].astype(np.int64)))


@dataclass(eq=False)
class _Beam:
    """Pairs of sets, best or not.

    Attributes
    ----------
    closed
        int64, shape (num_pairs, 2): rows closed to the left, to the right, as bit masks.
    height
        float64, shape (num_pairs, 2): sums of their slopes.
    spared
        float64, shape (num_pairs,): sum over classes of width times the largest height at which a set can still have
        missed them. The slopes times the widths, less this, bounds the cost of all chains through the pair.
    chains
        int8, shape (num_pairs, 2, num_rows): the rows in the order in which they closed, then -1.
    """

    closed: np.ndarray
    height: np.ndarray
    spared: np.ndarray
    chains: np.ndarray

    def take(self, pairs: np.ndarray) -> _Beam:
        """Some of the pairs."""
        return _Beam(self.closed[pairs], self.height[pairs], self.spared[pairs], self.chains[pairs])


class _Search:
    """The steps of the search: one row closes at a time, on the side that is lower."""

    def __init__(self, rows: BlockRows, width: int, below: float) -> None:
        num = rows.num_rows
        self._width = width
        self._place = np.int64(1) << np.arange(num, dtype=np.int64)
        self._bits = rows.paying_bits.astype(np.float64)
        self._signature = rows.paying_bits @ self._place
        self._weight, self._slope = rows.weight.astype(np.float64), rows.slope.astype(np.float64)
        self._closing = np.stack([~rows.left, ~rows.right])
        self._final = self._closing @ self._place
        self._most = (self._closing[:, np.newaxis] & ~rows.paying_bits) @ self._slope
        self._least = self._slope.sum() * self._weight.sum() - below
        self._alike = bool((rows.left == rows.right).all())
        self.num_steps = int(self._closing.sum())

    def start(self) -> _Beam:
        """Nothing is closed."""
        chains = np.full((1, 2, len(self._place)), -1, dtype=np.int8)
        spared = self._weight @ self._most.max(axis=0)
        return _Beam(np.zeros((1, 2), dtype=np.int64), np.zeros((1, 2)), np.array([spared]), chains)

    def advanced(self, beam: _Beam) -> _Beam:
        """The best pairs with one row more."""
        done = beam.closed == self._final
        side = np.where(done[:, 0] | (~done[:, 1] & (beam.height[:, 1] < beam.height[:, 0])), 1, 0)
        spared = np.concatenate(
            [
                self._spared(beam.take(part), side[part])
                for part in np.array_split(np.arange(len(side)), 1 + len(side) * len(self._weight) // _MOST_CELLS)
            ]
        )
        own = beam.closed[np.arange(len(side)), side]
        parent, row = np.nonzero(self._closing[side] & (own[:, np.newaxis] & self._place == 0))
        closed, value, moved = beam.closed[parent], spared[parent, row], side[parent]
        closed[np.arange(len(row)), moved] |= self._place[row]
        chosen = self._chosen(closed, value)
        parent, row, moved = parent[chosen], row[chosen], moved[chosen]
        after = beam.take(parent)
        every = np.arange(len(chosen))
        after.closed, after.spared = closed[chosen], value[chosen]
        after.height[every, moved] += self._slope[row]
        after.chains[every, moved, (after.chains[every, moved] >= 0).sum(axis=1)] = row
        return after

    def _spared(self, beam: _Beam, side: np.ndarray) -> np.ndarray:
        """What may be spared after each row closes on the side given; shape (num_pairs, num_rows).

        Lower sides close first, so that a class that only the own set missed is spared up to its height.
        """
        every = np.arange(len(side))
        own, other = ((beam.closed[every, s, np.newaxis] & self._signature) == 0 for s in (side, 1 - side))
        height = beam.height[every, side, np.newaxis]
        most, most_other = self._most[side], np.maximum(self._most[1 - side], height)
        lost = np.where(other, np.maximum(most - most_other, 0), most - height)
        spared: np.ndarray = beam.spared[:, np.newaxis] - (own * lost * self._weight) @ self._bits
        return spared

    def _chosen(self, closed: np.ndarray, spared: np.ndarray) -> np.ndarray:
        """Indices of the best pairs, each pair once; mirror images are the same unless some row is anchored."""
        first, second = (closed.min(axis=1), closed.max(axis=1)) if self._alike else closed.T
        order = np.lexsort((-spared, second, first))
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
        unique = order[new]
        unique = unique[spared[unique] > self._least]
        if len(unique) > self._width:
            unique = unique[np.argsort(-spared[unique], kind="stable")[: self._width]]
        return unique
