"""The cheapest sequence of weighted classes when every two rows share one: a shortest path over pairs of chains.

Spans that meet pairwise have a common point. Left of it rows only open, right of it they only close, so that an order
is two growing chains of open rows, one from each end, and a class lies at the cheaper of the first sets of the two
that contain all its rows (docs/model.md, theorem 3).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from solvers.spans.exact.placed_sets import LinearOrder

MAX_ROWS = 20  # rows: of a chain: a million sets with their predecessors


def rows_meet(bits: np.ndarray, left: np.ndarray, right: np.ndarray) -> bool:
    """Whether every two rows that are not anchored at the same end share a class: the condition of the method.

    Examples
    --------
    >>> free = np.zeros(2, dtype=bool)
    >>> rows_meet(np.array([[1, 0], [0, 1]], dtype=bool), free, free)
    False
    >>> rows_meet(np.array([[1, 0], [0, 1]], dtype=bool), np.ones(2, dtype=bool), free)
    True
    """
    share = bits.T.astype(np.float32) @ bits.astype(np.float32) > 0
    same_end = np.logical_or(left[:, np.newaxis] & left, right[:, np.newaxis] & right)
    return bool((share | same_end | np.eye(len(left), dtype=bool)).all())


def num_states(slope: np.ndarray, left: np.ndarray, right: np.ndarray) -> int:
    """States of the path that `cheapest_chains` would visit."""
    opening, closing = len(slope) - int(left.sum()), len(slope) - int(right.sum())
    if len(set(slope.tolist())) > 1:
        return 1 << (opening + closing)
    first, last = len(slope) - opening, len(slope) - closing
    return sum(
        (math.comb(opening, k - first) if k >= first else 1) * (math.comb(closing, k - last) if k >= last else 1)
        for k in range(len(slope) + 1)
    )


def cheapest_chains(
    weight: np.ndarray,
    bits: np.ndarray,
    slope: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    *,
    deadline: float = np.inf,
) -> LinearOrder | None:
    """The sequence of least cost, proven; None if the deadline passed first.

    Parameters
    ----------
    weight
        int, shape (num_classes,): widths.
    bits
        bool, shape (num_classes, num_rows): which rows meet each class; `rows_meet` must hold.
    slope
        int, shape (num_rows,), above 0: what a row pays per unit of covered width.
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end; no row is both.
    deadline
        A `time.perf_counter` reading.

    Examples
    --------
    >>> bits = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> best = cheapest_chains(np.array([1, 2, 3]), bits, np.array([1, 1]), free, free)
    >>> best.cost, best.sequence.tolist()
    (8, [2, 1, 0])
    """
    signature = bits.astype(np.int64) @ (np.int64(1) << np.arange(bits.shape[1], dtype=np.int64))
    path = _Path(weight, signature, slope, left, right, deadline)
    return path.solve_equal() if len(set(slope.tolist())) == 1 else path.solve()


@dataclass(frozen=True, eq=False)
class Lattice:
    """The sets of a chain that grows from its anchored rows, by the number of rows added.

    Attributes
    ----------
    layers
        Per layer an int64 array of sets, as bit masks of rows.
    before
        Per layer an int array, shape (size of the layer, number of predecessors): indices into the layer before.
    """

    layers: tuple[np.ndarray, ...]
    before: tuple[np.ndarray, ...]


def lattice(anchored: np.ndarray) -> Lattice:
    """All sets that contain the anchored rows (bool, shape (num_rows,))."""
    free = np.flatnonzero(~anchored)
    base = np.int64(sum(1 << r for r in np.flatnonzero(anchored).tolist()))
    layers, before = _subsets(len(free))
    place = np.int64(1) << free.astype(np.int64)
    spread = [base + ((layer[:, np.newaxis] >> np.arange(len(free)) & 1) * place).sum(axis=1) for layer in layers]
    return Lattice(tuple(spread), before)


@lru_cache(maxsize=32)
def _subsets(num: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Subsets of `num` things by size, and for each the indices of its subsets with one thing less."""
    masks = np.arange(1 << num, dtype=np.int64)
    size = np.bitwise_count(masks)
    index = np.zeros(1 << num, dtype=np.int64)
    layers, before = [], []
    for k in range(num + 1):
        layer = masks[size == k]
        index[layer] = np.arange(len(layer))
        member = np.nonzero(layer[:, np.newaxis] >> np.arange(num) & 1)[1].reshape(len(layer), k)
        before.append(index[layer[:, np.newaxis] ^ (np.int64(1) << member)])
        layers.append(layer)
    return tuple(layers), tuple(before)


class _Path:
    """One shortest path; the two chains are sides 0 (from the left) and 1 (from the right)."""

    def __init__(
        self,
        weight: np.ndarray,
        signature: np.ndarray,
        slope: np.ndarray,
        left: np.ndarray,
        right: np.ndarray,
        deadline: float,
    ) -> None:
        self._num = len(slope)
        self._weight, self._signature, self._deadline = weight, signature, deadline
        self._slope = sums(slope.astype(np.int64))
        self._inside = sums_inside(weight, signature, self._num)
        self._sides = tuple(_Side(lattice(anchored), self._inside, self._slope) for anchored in (left, right))
        most = int(weight.sum()) * int(slope.sum())
        self._dtype = np.int32 if most < 2**30 else np.int64

    def solve(self) -> LinearOrder | None:
        """Any slopes: one chain advances at a time and pays for what it newly covers at the slope of its new set.

        Taking the cheaper of two covering sets needs them in the order of their slopes; another order overestimates,
        so the least over all interleavings is exact. Two chains that advance in that order never differ by more
        than the largest slope, and other pairs of layers are left out.
        """
        first, second = self._sides
        reach = int(self._slope[1 << np.arange(self._num)].max())
        best: dict[tuple[int, int], np.ndarray] = {(0, 0): np.zeros((1, 1), dtype=self._dtype)}
        alone: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        for i in range(len(first)):
            for j in range(len(second)):
                if time.perf_counter() >= self._deadline:
                    return None
                if first.least[i] - second.most[j] > reach or second.least[j] - first.most[i] > reach:
                    continue
                alone[i, j] = self._covered_alone(i, j)
                if (i, j) == (0, 0):
                    continue
                cost: np.ndarray | None = None
                if (i - 1, j) in best:
                    cost = first.advanced(i, best[i - 1, j], alone[i - 1, j][0], alone[i, j][0])
                if (i, j - 1) in best:
                    other = second.advanced(j, best[i, j - 1].T, alone[i, j - 1][1].T, alone[i, j][1].T).T
                    cost = other if cost is None else np.minimum(cost, other)
                if cost is not None:
                    best[i, j] = cost
            for j in range(len(second)):
                alone.pop((i - 1, j), None)
        return self._walk(best)

    def _covered_alone(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight covered by the first chain's set and not the second's, and the reverse; shape (sets, sets)."""
        first, second = self._sides
        both = self._both(first.sets[i], second.sets[j])
        return first.covered[i][:, np.newaxis] - both, second.covered[j][np.newaxis] - both

    def _both(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Weight covered by both of two sets; the start that comes before the anchored rows covers nothing."""
        common = self._inside[first[:, np.newaxis] & second].astype(self._dtype)
        return np.where((first[:, np.newaxis] < 0) | (second < 0), self._dtype(0), common)

    def _walk(self, best: dict[tuple[int, int], np.ndarray]) -> LinearOrder:
        """Go back along a shortest path and lay the classes down as they are covered."""
        first, second = self._sides
        i, j, p, q = len(first) - 1, len(second) - 1, 0, 0
        cost = int(best[i, j][0, 0])
        steps: list[tuple[int, int]] = []
        while i or j:
            here = int(best[i, j][p, q])
            for side, pair in enumerate(((i - 1, j), (i, j - 1))):
                if pair not in best:
                    continue
                own = self._sides[side]
                at, position, mask = (i, p, second.sets[j][q]) if side == 0 else (j, q, first.sets[i][p])
                choices = own.before[at][position]
                gained = self._alone(own.sets[at][position], mask) - self._alone(own.sets[at - 1][choices], mask)
                table = best[pair] if side == 0 else best[pair].T
                values = table[choices, q if side == 0 else p] + own.slope[at][position] * gained
                if int(values.min()) == here:
                    steps.append((side, int(own.sets[at][position])))
                    chosen = int(choices[int(values.argmin())])
                    i, j = pair
                    p, q = (chosen, q) if side == 0 else (p, chosen)
                    break
        steps += [(side, int(own.sets[0][0])) for side, own in enumerate((first, second))]
        return LinearOrder(cost, self._sequence(steps[::-1]))

    def _alone(self, own: np.ndarray, other: int) -> np.ndarray:
        """Weight covered by some sets of one chain and not by one set of the other."""
        own = np.asarray(own)
        covered = np.where(own < 0, 0, self._inside[own])
        both = np.where((own < 0) | (other < 0), 0, self._inside[own & other])
        return covered - both

    def _sequence(self, steps: list[tuple[int, int]]) -> np.ndarray:
        """The classes from left to right: each goes inwards from the end whose chain covers it first."""
        ends: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        waiting = np.ones(len(self._weight), dtype=bool)
        for side, mask in steps:
            if mask < 0:
                continue
            covered = waiting & (self._signature & ~np.int64(mask) == 0)
            ends[side].append(np.flatnonzero(covered))
            waiting &= ~covered
        return np.concatenate([*ends[0], *ends[1][::-1]]).astype(np.int64)

    def solve_equal(self) -> LinearOrder | None:
        """Equal slopes: both chains grow together, and a class costs the number of sets before it is covered."""
        rows = self._num
        sides = [_levels(side, rows) for side in self._sides]
        best: list[np.ndarray] = []
        for k in range(rows + 1):
            sets, before = zip(*(side[k] for side in sides))
            if k == 0:
                reached = np.zeros((1, 1), dtype=self._dtype)
            else:
                reached = best[-1]
                for axis in (0, 1):
                    reached = self._least_before(reached, before[axis], axis)
                    if time.perf_counter() >= self._deadline:
                        return None
            if k < rows:
                reached = reached + self._uncovered(sets[0], sets[1])
            best.append(reached)
        steps: list[tuple[int, int]] = []
        p = q = 0
        for k in range(rows, 0, -1):
            choices = [sides[side][k][1][at] for side, at in ((0, p), (1, q))]
            table = best[k - 1][np.ix_(*choices)]
            steps += [(1, int(sides[1][k][0][q])), (0, int(sides[0][k][0][p]))]
            i, j = np.unravel_index(int(table.argmin()), table.shape)
            p, q = int(choices[0][i]), int(choices[1][j])
        steps += [(side, int(sides[side][0][0][0])) for side in (0, 1)]
        return LinearOrder(int(best[-1][0, 0]) * int(self._slope[1]), self._sequence(steps[::-1]))

    def _least_before(self, table: np.ndarray, before: np.ndarray, axis: int) -> np.ndarray:
        """Least entry over the predecessors along an axis."""
        turned = table if axis == 0 else np.ascontiguousarray(table.T)
        least = turned[before[:, 0]]
        for k in range(1, before.shape[1]):
            np.minimum(least, turned[before[:, k]], out=least)
        return least if axis == 0 else np.ascontiguousarray(least.T)

    def _uncovered(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Weight covered by neither of two sets; shape (sets, sets)."""
        missed: np.ndarray = int(self._weight.sum()) - np.where(first < 0, 0, self._inside[first])
        covered: np.ndarray = np.where(second < 0, 0, self._inside[second])
        return missed.astype(self._dtype)[:, np.newaxis] - covered.astype(self._dtype) + self._both(first, second)


class _Side:
    """One chain's lattice with what its sets cover and cost; an anchored chain may start late.

    Attributes
    ----------
    sets, before
        As in `Lattice`; where rows are anchored, a set -1 that covers nothing comes before the first.
    covered, slope
        Per layer, weight of the classes inside each set, and sum of its rows' slopes.
    least, most
        Per layer, the least and largest slope a chain may have reached while it is there.
    """

    def __init__(self, own: Lattice, inside: np.ndarray, slope: np.ndarray) -> None:
        late = bool(own.layers[0][0])
        nothing = [np.array([-1], dtype=np.int64)] if late else []
        self.sets = [*nothing, *own.layers]
        self.before = list(own.before)
        if late:
            self.before = [own.before[0], np.zeros((1, 1), dtype=np.int64), *own.before[1:]]
        self.covered = [np.where(sets < 0, 0, inside[sets]) for sets in self.sets]
        self.slope = [np.where(sets < 0, 0, slope[sets]) for sets in self.sets]
        self.least = [int(own_slope.min()) for own_slope in self.slope]
        self.most = [int(own_slope.max()) for own_slope in self.slope]
        if late:
            self.most[0] = self.most[1]

    def __len__(self) -> int:
        return len(self.sets)

    def advanced(self, layer: int, table: np.ndarray, alone_before: np.ndarray, alone: np.ndarray) -> np.ndarray:
        """Least cost after the chain, along the first axis, reaches a layer."""
        before, slope = self.before[layer], self.slope[layer].astype(table.dtype)[:, np.newaxis]
        least: np.ndarray | None = None
        for k in range(before.shape[1]):
            trial = table[before[:, k]] - slope * alone_before[before[:, k]]
            least = trial if least is None else np.minimum(least, trial, out=least)
        assert least is not None
        return least + slope * alone


def _levels(side: _Side, rows: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per number of open rows, the sets and predecessors of a chain; -1 as long as fewer than its anchored are open."""
    anchored = rows + 2 - len(side)
    if side.sets[0][0] == 0:
        return list(zip(side.sets, side.before))
    late = np.array([-1], dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    return [late] * anchored + list(zip(side.sets[1:], side.before[1:]))


def sums(values: np.ndarray) -> np.ndarray:
    """Sum of the values in every subset; shape (2^n,)."""
    sums = np.zeros(1, dtype=np.int64)
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def sums_inside(weight: np.ndarray, signature: np.ndarray, num_rows: int) -> np.ndarray:
    """Weight of the classes whose rows all lie in a set, for every set of rows; shape (2^num_rows,)."""
    inside = np.zeros(1 << num_rows, dtype=weight.dtype)
    np.add.at(inside, signature, weight)
    for row in range(num_rows):
        pairs = inside.reshape(-1, 2, 1 << row)
        pairs[:, 1] += pairs[:, 0]
    return inside
