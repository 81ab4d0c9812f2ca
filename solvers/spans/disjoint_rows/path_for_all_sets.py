"""One shortest path for all sets of rows around a skeleton: what they cost at least if some rows are settled so.

Rows that are not settled meet all others. They open, in any order, in the rise to the first meeting and close in the
fall from the last one; everything between costs a constant more with each of them. So the two chains are run outwards
from the first and the last meeting as in `chain_subsets`, and end at a pair of sets for each choice of such rows
(docs/model.md, theorem 7).
"""

from __future__ import annotations

import time

import numpy as np

from solvers.spans.disjoint_rows.partial_relations import Skeleton
from solvers.spans.exact.pair_of_chains import Lattice, lattice, sums, sums_inside

NEVER = 2**50  # cost: of what cannot be; sums of a few thousand fit 64 bits

_MOST_TABLES = 256  # tables: remembered of sets that were missed; by hand


class SettledPaths:
    """Bounds on the cost of all sets of rows of one block around skeletons.

    They are exact unless several settled rows open or close in one place between the first and the last meeting.

    Parameters
    ----------
    weight
        int, shape (num_classes,): widths.
    bits
        bool, shape (num_classes, num_rows): which rows meet each class; no row is anchored.
    slope
        int, shape (num_rows,), above 0: what a row pays per unit of covered width.
    deadline
        A `time.perf_counter` reading.

    Examples
    --------
    >>> from solvers.spans.disjoint_rows.interval_orders import IntervalOrder
    >>> bits = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 1]], dtype=bool)
    >>> paths = SettledPaths(np.array([4, 1, 1, 4, 2]), bits, np.array([1, 1, 1]))
    >>> prices = paths.prices(Skeleton(IntervalOrder((0, 1), (0, 1))))
    >>> int(prices[0b011]), int(prices[0b111]), int(prices[0b101]) == NEVER
    (10, 14, True)
    """

    def __init__(self, weight: np.ndarray, bits: np.ndarray, slope: np.ndarray, *, deadline: float = np.inf) -> None:
        self._num, self.weight, self.deadline = bits.shape[1], weight.astype(np.int64), deadline
        self.signature = bits.astype(np.int64) @ (np.int64(1) << np.arange(self._num, dtype=np.int64))
        self.slope = sums(slope.astype(np.int64))
        self._equal = len(set(slope.tolist())) == 1
        self.reach = int(slope.max(initial=0))
        self._lattices: dict[int, Lattice] = {}
        self._missed: dict[bytes, np.ndarray] = {}
        most = int(weight.sum()) * int(slope.sum())
        self.dtype = np.int32 if most < 2**30 else np.int64

    def prices(self, skeleton: Skeleton, *, most: int | None = None) -> np.ndarray | None:
        """Bounds for the sets of at most `most` rows that contain the settled ones; None out of time.

        Returns
        -------
        np.ndarray
            int64, shape (2^num_rows,); `NEVER` for other sets.
        """
        path = _Path(self, skeleton, self._num if most is None else most)
        return path.run_equal() if self._equal else path.run()

    def chains(self, rows: int) -> Lattice:
        """The sets of some rows."""
        if rows not in self._lattices:
            outside = (rows >> np.arange(self._num) & 1) == 0
            base = (1 << self._num) - 1 - rows
            own = lattice(outside)
            self._lattices[rows] = Lattice(tuple(layer - base for layer in own.layers), own.before)
        return self._lattices[rows]

    def missed(self, classes: np.ndarray) -> np.ndarray:
        """Weight of those of some classes (bool, shape (num_classes,)) that keep no row of a set, for every set."""
        key = np.packbits(classes).tobytes()
        if key not in self._missed:
            if len(self._missed) >= _MOST_TABLES:
                self._missed.clear()
            inside = sums_inside(self.weight[classes].astype(self.dtype), self.signature[classes], self._num)
            self._missed[key] = np.ascontiguousarray(inside[::-1])
        return self._missed[key]


class _Path:
    """The path around one skeleton. Heights count from the slope of the rows that are not settled.

    A class lies at the cheapest of the place between the meetings, the last set on the left that misses it, and the
    last one on the right; it can lie on a side if its settled rows are all in the meeting there.
    """

    def __init__(self, paths: SettledPaths, skeleton: Skeleton, most: int) -> None:
        self._paths, self._skeleton = paths, skeleton
        settled = skeleton.rows
        others = ((1 << int(paths.slope.size).bit_length() - 1) - 1) & ~settled
        self._most = min(most - settled.bit_count(), others.bit_count())
        self._ends = skeleton.first, skeleton.last
        self._chains = paths.chains(others | skeleton.first), paths.chains(others | skeleton.last)
        part, place = np.unique(paths.signature & settled, return_inverse=True)
        self._between = skeleton.heights(part, paths.slope)[place.reshape(-1)]
        self._fits = [paths.signature & settled & ~end == 0 for end in self._ends]
        self._others = paths.chains(others).layers

    def run_equal(self) -> np.ndarray | None:
        """Equal slopes: both chains grow together, and at each height spare the classes that one of them misses."""
        paths, unit = self._paths, self._paths.reach
        between = self._between // unit
        ends = [end.bit_count() for end in self._ends]
        cost = np.full(len(paths.slope), NEVER)
        constant = int(paths.weight @ between)
        tables: dict[int, tuple[np.ndarray, ...]] = {}
        best = np.zeros((1, 1), dtype=paths.dtype)
        for height in range(-max(ends), self._most + 1):
            if height > -max(ends):
                if time.perf_counter() >= paths.deadline:
                    return None
                layers = [max(0, height + end) for end in ends]
                for side in (0, 1):
                    if layers[side]:
                        best = _largest_before(best, self._chains[side].before[layers[side]])
                    best = np.ascontiguousarray(best.T)
                begun = min(0, height - 1)
                if begun not in tables:
                    tables[begun] = self._missed(between >= -begun)
                first, second = (self._chains[side].layers[layers[side]] for side in (0, 1))
                left, right, either = tables[begun]
                best += left[first][:, np.newaxis] + right[second] - either[first[:, np.newaxis] | second]
            if height >= 0:
                place = self._finished(height, best)
                cost[self._others[height] | self._skeleton.rows] = int(paths.weight.sum()) * height + constant - place
        return np.where(cost < NEVER, cost * unit, NEVER)

    def _missed(self, classes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Weight of some classes that fit left, right, on both sides, and keep no row of a set, for every set."""
        left, right = self._fits
        return tuple(self._paths.missed(classes & fits) for fits in (left, right, left & right))

    def _finished(self, size: int, best: np.ndarray) -> np.ndarray:
        """Entries of a table of layers where both chains have closed the same sets of so many other rows."""
        layers = [size + end.bit_count() for end in self._ends]
        at = [
            np.searchsorted(chains.layers[layer], self._others[size] | end)
            for chains, layer, end in zip(self._chains, layers, self._ends, strict=True)
        ]
        return best[at[0], at[1]].astype(np.int64)

    def run(self) -> np.ndarray | None:
        """Any slopes: a set that grows earns its height for the classes that only it missed and now meets.

        Steps in the order of heights earn most. Heights below the place between the meetings do not count.
        """
        paths, slope = self._paths, self._paths.slope
        start = [int(slope[end]) for end in self._ends]
        heights = [
            [slope[layer] - low for layer in chains.layers[: self._most + end.bit_count() + 1]]
            for chains, low, end in zip(self._chains, start, self._ends, strict=True)
        ]
        fits = self._fits[0] | self._fits[1]
        floors = np.unique(self._between[fits])
        groups = [
            (-int(floor), self._missed(fits & (self._between == floor)), self._missed(fits & (self._between >= floor)))
            for floor in floors[::-1]
        ]
        nowhere = int((paths.weight * self._between)[~fits].sum())
        everything = paths.missed(np.ones(len(fits), dtype=bool)).astype(np.int64)
        cost = np.full(len(slope), NEVER)
        best: dict[tuple[int, int], np.ndarray] = {}
        for i, own in enumerate(heights[0]):
            for j, other in enumerate(heights[1]):
                if time.perf_counter() >= paths.deadline:
                    return None
                if i and own.min() - other.max() > paths.reach:
                    continue
                if j and other.min() - own.max() > paths.reach:
                    continue
                steps = [np.zeros((1, 1), dtype=paths.dtype)] if i == j == 0 else []
                if (i - 1, j) in best:
                    steps.append(self._grown(0, i, j, best[i - 1, j], heights[0][i - 1], groups))
                if (i, j - 1) in best:
                    steps.append(self._grown(1, j, i, best[i, j - 1].T, heights[1][j - 1], groups).T)
                if steps:
                    best[i, j] = steps[0] if len(steps) == 1 else np.maximum(*steps)
                size = i - self._ends[0].bit_count()
                if size >= 0 and size == j - self._ends[1].bit_count() and (i, j) in best:
                    rows = self._others[size] | self._skeleton.rows
                    height = slope[self._others[size]]
                    spared = self._finished(size, best[i, j]) + height * everything[rows]
                    cost[rows] = int(paths.weight.sum()) * height + nowhere - spared
            for j in range(len(heights[1])):
                best.pop((i - 1, j), None)
        return cost

    def _grown(
        self,
        side: int,
        layer: int,
        other_layer: int,
        table: np.ndarray,
        height: np.ndarray,
        groups: list[tuple[int, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]],
    ) -> np.ndarray:
        """Best value when a chain, along the first axis, has just grown to a layer.

        Classes are grouped by what they earn at least, lowest first; tables of each group, and of it and those before.
        """
        before = self._chains[side].before[layer]
        old_sets, new_sets = (self._chains[side].layers[k] for k in (layer - 1, layer))
        other = self._chains[1 - side].layers[other_layer]
        earned, lost = table.copy(), []
        lowest = int(height.min())
        low = sum(floor <= lowest for floor, _, _ in groups)
        joined = [(height, groups[low - 1][2])] if low else []
        for values, missed in joined + [(np.maximum(height, floor), group) for floor, group, _ in groups[low:]]:
            worth = values.astype(table.dtype)[:, np.newaxis]
            own, both = missed[side], missed[2]
            earned += worth * (own[old_sets][:, np.newaxis] - both[old_sets[:, np.newaxis] | other])
            lost.append((worth, own[new_sets][:, np.newaxis] - both[new_sets[:, np.newaxis] | other]))
        largest: np.ndarray | None = None
        for k in range(before.shape[1]):
            trial = earned[before[:, k]]
            for worth, alone in lost:
                trial -= worth[before[:, k]] * alone
            largest = trial if largest is None else np.maximum(largest, trial, out=largest)
        assert largest is not None
        return largest


def _largest_before(table: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Largest entry over the predecessors along the first axis."""
    largest = table[before[:, 0]]
    for k in range(1, before.shape[1]):
        np.maximum(largest, table[before[:, k]], out=largest)
    return largest
