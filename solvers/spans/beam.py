"""Two chains by a beam search: the path of theorem 3 where its pairs of sets are too many to visit them all.

The chains run from the common point outwards: sets U and V of rows that are closed already to the left and to the
right, of which only the best pairs are kept after each row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.spans.chain_pair import ChainPair

MOST_ROWS = 63
"""Most rows of a block: sets of rows are bits of an int64."""

_MOST_CELLS = 1 << 22


def beam_chains(rows: BlockRows, *, width: int, deadline: float = np.inf) -> ChainPair | None:
    """Two chains that are good together, the best of all if no pair of sets was dropped; None if out of time.

    Parameters
    ----------
    rows
        The block, with at most `MOST_ROWS` rows. Where two rows share no class, the chains give an order all the same.
    width
        Pairs of sets kept after each row, at least 1.
    deadline
        A `time.perf_counter` reading.

    Examples
    --------
    >>> bits = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> rows = BlockRows(np.array([1, 2, 3]), bits, np.array([1, 1]), free, free)
    >>> pair = beam_chains(rows, width=10)
    >>> pair.price, pair.sequence().tolist()
    (8, [2, 1, 0])
    """
    search = _Search(rows, width)
    beam = search.start()
    for _ in range(search.num_steps):
        if time.perf_counter() >= deadline:
            return None
        beam = search.advanced(beam)
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
        float64, shape (num_pairs,): sum over classes of width times the largest height at which a set missed them.
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

    def __init__(self, rows: BlockRows, width: int) -> None:
        num = rows.num_rows
        self._width = width
        self._place = np.int64(1) << np.arange(num, dtype=np.int64)
        self._bits = rows.paying_bits.astype(np.float64)
        self._signature = rows.paying_bits @ self._place
        self._weight, self._slope = rows.weight.astype(np.float64), rows.slope.astype(np.float64)
        self._closing = np.stack([~rows.left, ~rows.right])
        self._final = self._closing @ self._place
        self._alike = bool((rows.left == rows.right).all())
        self.num_steps = int(self._closing.sum())

    def start(self) -> _Beam:
        """Nothing is closed."""
        chains = np.full((1, 2, len(self._place)), -1, dtype=np.int8)
        return _Beam(np.zeros((1, 2), dtype=np.int64), np.zeros((1, 2)), np.zeros(1), chains)

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
        """What is spared after each row closes on the side given; shape (num_pairs, num_rows).

        Lower sides close first, so that a class which only the own set misses was spared up to its height.
        """
        every = np.arange(len(side))
        missed = [(beam.closed[every, s, np.newaxis] & self._signature) == 0 for s in (side, 1 - side)]
        low, other = (beam.height[every, s, np.newaxis] for s in (side, 1 - side))
        high = low + self._slope
        alone, both = ((missed[0] & m) * self._weight for m in (~missed[1], missed[1]))
        left_alone = alone.sum(axis=1, keepdims=True) - alone @ self._bits
        left_both = both.sum(axis=1, keepdims=True) - both @ self._bits
        rise = np.maximum(high, other) - np.maximum(low, other)
        spared: np.ndarray = beam.spared[:, np.newaxis] + (high - low) * left_alone + rise * left_both
        return spared

    def _chosen(self, closed: np.ndarray, spared: np.ndarray) -> np.ndarray:
        """Indices of the best pairs, each pair once; mirror images are the same unless some row is anchored."""
        first, second = (closed.min(axis=1), closed.max(axis=1)) if self._alike else closed.T
        order = np.lexsort((-spared, second, first))
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
        unique = order[new]
        if len(unique) > self._width:
            unique = unique[np.argsort(-spared[unique], kind="stable")[: self._width]]
        return unique
