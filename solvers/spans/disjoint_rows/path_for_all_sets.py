"""One shortest path for all sets of rows: what any of them cost together when all rows meet, or some are settled.

The chains of theorem 3 are run from their common point outwards: a set of rows that are closed already grows on either
side. Where a chain ends does not matter on the way, so that the path to the pair (S, S) is the best for the rows S
alone, the others being ignored (copied). One run prices all sets (docs/model.md, theorem 4).

Around a skeleton of settled rows the others meet all rows. They open, in any order, in the rise to the first meeting
and close in the fall from the last one; everything between costs a constant more with each of them. So the chains are
run outwards from these two meetings, and end at a pair of sets for each choice of other rows (theorem 7).
"""

from __future__ import annotations

import math

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.clock import WORK_OF_PAIR, time_now
from solvers.spans.disjoint_rows.interval_orders import IntervalOrder
from solvers.spans.disjoint_rows.partial_relations import Skeleton
from solvers.spans.exact.pair_of_chains import Lattice, lattice, sums, sums_inside

NEVER = 2**50  # cost: of what cannot be; sums of a few thousand fit 64 bits

_MOST_TABLES = 256  # tables: remembered of sets that were missed; by hand
_LATE = 1.5  # factor: by which a path may seem to run late before it is given up; by hand
_JUDGED_AFTER = 0.1  # share: of the time after which a path is judged; earlier its speed is not known; by hand


def num_pairs(slope: np.ndarray) -> int:
    """Pairs of sets that `ChainSubsets` would visit."""
    return math.comb(2 * len(slope), len(slope)) if len(set(slope.tolist())) == 1 else 1 << 2 * len(slope)


class ChainSubsets:
    """Least cost of every subset of the rows of one block, if its rows share classes pairwise.

    Parameters
    ----------
    rows
        The block; no row is anchored, every row pays.
    deadline
        A `time.perf_counter` reading.

    Attributes
    ----------
    complete
        False if the deadline passed; then there are no results.
    cost
        int64, shape (2^num_rows,): entry S, a bit mask, is the least cost of the rows S. It is proven where every
        two rows of S share a class; elsewhere it is that of the best order in which their spans meet.

    Examples
    --------
    >>> bits = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> subsets = ChainSubsets(BlockRows(np.array([1, 2, 3]), bits, np.array([1, 1, 1]), free, free))
    >>> subsets.cost.tolist(), subsets.sequence(0b011).tolist()
    ([0, 3, 5, 8, 4, 7, 9, 13], [0, 1, 2])
    """

    def __init__(self, rows: BlockRows, *, deadline: float = np.inf) -> None:
        self._paths = SettledPaths(rows, deadline=deadline)
        path = _Path(self._paths, Skeleton(IntervalOrder()), rows.num_rows)
        cost = path.run()
        self.complete = cost is not None
        if cost is not None:
            self.cost = cost
        self._best, self._lattice = path.best, path.chains[0]

    def sequence(self, subset: int) -> np.ndarray:
        """The classes from left to right in an order that has ``cost[subset]``; int64, shape (num_classes,)."""
        chains = self._chains_equal(subset) if self._paths.equal else self._chains(subset)
        prices = []
        for chain in chains:
            masks = np.array(chain, dtype=np.int64)
            missed = self._paths.signature[:, np.newaxis] & masks == 0
            prices.append(np.where(missed, self._paths.slope[masks], -1).max(axis=1))
        ends = np.where(prices[0] >= prices[1], -1 - prices[0], 1 + prices[1])
        return np.argsort(ends, kind="stable")

    def _chains_equal(self, subset: int) -> tuple[list[int], list[int]]:
        """The sets of both chains on a best path to (subset, subset)."""
        layers, before = self._lattice.layers, self._lattice.before
        p = q = int(np.searchsorted(layers[subset.bit_count()], subset))
        chains: tuple[list[int], list[int]] = ([subset], [subset])
        for k in range(subset.bit_count(), 0, -1):
            own, other = before[k][p], before[k][q]
            table = self._best[k - 1, k - 1][np.ix_(own, other)]
            i, j = np.unravel_index(int(table.argmax()), table.shape)
            p, q = int(own[i]), int(other[j])
            chains[0].append(int(layers[k - 1][p]))
            chains[1].append(int(layers[k - 1][q]))
        return chains

    def _chains(self, subset: int) -> tuple[list[int], list[int]]:
        """As `_chains_equal`, where one chain grows at a time."""
        zero = self._paths.missed(np.ones(len(self._paths.signature), dtype=bool)).astype(np.int64)
        size = subset.bit_count()
        at, layer = [int(np.searchsorted(self._lattice.layers[size], subset))] * 2, [size, size]
        chains: tuple[list[int], list[int]] = ([subset], [subset])
        while any(layer):
            here = int(self._best[layer[0], layer[1]][at[0], at[1]])
            for side in (0, 1):
                i, j = layer[side], layer[1 - side]
                if i == 0 or (i - 1, j) not in self._best:
                    continue
                own, other = chains[side][-1], chains[1 - side][-1]
                choices = self._lattice.before[i][at[side]]
                smaller = self._lattice.layers[i - 1][choices]
                lost = zero[smaller] - zero[smaller | other] - zero[own] + zero[own | other]
                values = self._best[i - 1, j][choices, at[1 - side]] + self._paths.slope[smaller] * lost
                if int(values.max()) == here:
                    k = int(values.argmax())
                    at[side], layer[side] = int(choices[k]), i - 1
                    chains[side].append(int(smaller[k]))
                    break
        return chains


class SettledPaths:
    """Bounds on the cost of all sets of rows of one block around skeletons.

    They are exact unless several settled rows open or close in one place between the first and the last meeting.

    Parameters
    ----------
    rows
        The block; no row is anchored, every row pays.
    deadline
        A `time.perf_counter` reading.

    Examples
    --------
    >>> bits = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 1]], dtype=bool)
    >>> free = np.zeros(3, dtype=bool)
    >>> paths = SettledPaths(BlockRows(np.array([4, 1, 1, 4, 2]), bits, np.array([1, 1, 1]), free, free))
    >>> prices = paths.prices(Skeleton(IntervalOrder((0, 1), (0, 1))))
    >>> int(prices[0b011]), int(prices[0b111]), int(prices[0b101]) == NEVER
    (10, 14, True)
    """

    def __init__(self, rows: BlockRows, *, deadline: float = np.inf) -> None:
        self._num, self.weight, self.deadline = rows.num_rows, rows.weight.astype(np.int64), deadline
        self.signature = rows.signature
        self.slope = sums(rows.slope.astype(np.int64))
        self.equal = len(set(rows.slope.tolist())) == 1
        self.reach = int(rows.slope.max(initial=0))
        self._lattices: dict[int, Lattice] = {}
        self._missed: dict[bytes, np.ndarray] = {}
        most = int(rows.weight.sum()) * int(rows.slope.sum())
        self.dtype = np.int32 if most < 2**30 else np.int64

    def prices(self, skeleton: Skeleton, *, most: int | None = None) -> np.ndarray | None:
        """Bounds for the sets of at most `most` rows that contain the settled ones; None out of time.

        Returns
        -------
        np.ndarray
            int64, shape (2^num_rows,); `NEVER` for other sets.
        """
        return _Path(self, skeleton, self._num if most is None else most).run()

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


class _Pace:
    """Whether a path will end in time, judged by how fast it got so far.

    Parameters
    ----------
    total
        Pairs of sets to visit.
    deadline
        A `time.perf_counter` reading.
    """

    def __init__(self, total: int, deadline: float) -> None:
        self._total, self._deadline, self._done = total, deadline, 0
        self._begun = time_now()

    def hopeless(self, pairs: int) -> bool:
        """Whether the deadline has passed, or will long have before the end; so many pairs are visited next."""
        now = time_now(WORK_OF_PAIR * pairs)
        if now >= self._deadline:
            return True
        spent, left = now - self._begun, self._deadline - now
        late = self._done > 0 and spent * (self._total - self._done) > _LATE * self._done * left
        self._done += pairs
        return late and spent > _JUDGED_AFTER * (spent + left)


_Missed = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Weight of some classes that fit left, right, on both sides, and keep no row of a set, for every set."""


class _Path:
    """The path around one skeleton. Heights count from the slope of the rows that are not settled.

    A class lies at the cheapest of the place between the meetings, the last set on the left that misses it, and the
    last one on the right; it can lie on a side if its settled rows are all in the meeting there.

    Attributes
    ----------
    best
        By layers of both chains: what pairs of sets have earned at most. Without settled rows all of them are kept;
        then both sides are alike.
    """

    def __init__(self, paths: SettledPaths, skeleton: Skeleton, most: int) -> None:
        self._paths, self._skeleton = paths, skeleton
        settled = skeleton.rows
        others = ((1 << int(paths.slope.size).bit_length() - 1) - 1) & ~settled
        self._most = min(most - settled.bit_count(), others.bit_count())
        self._ends = skeleton.first, skeleton.last
        self._sizes = [end.bit_count() for end in self._ends]
        self.chains = paths.chains(others | skeleton.first), paths.chains(others | skeleton.last)
        part, place = np.unique(paths.signature & settled, return_inverse=True)
        self._between = skeleton.heights(part, paths.slope)[place.reshape(-1)]
        self._fits = [paths.signature & settled & ~end == 0 for end in self._ends]
        self._others = paths.chains(others).layers
        self._alike = settled == 0
        self.best: dict[tuple[int, int], np.ndarray] = {}
        self._both: dict[tuple[int, int], dict[int, np.ndarray]] = {}

    def run(self) -> np.ndarray | None:
        """Bounds for all sets, as `SettledPaths.prices` returns them."""
        return self._run_equal() if self._paths.equal else self._run()

    def _run_equal(self) -> np.ndarray | None:
        """Equal slopes: both chains grow together, and at each height spare the classes that one of them misses."""
        paths, unit = self._paths, self._paths.reach
        between = self._between // unit
        cost = np.full(len(paths.slope), NEVER)
        constant = int(paths.weight @ between)
        tables: dict[int, _Missed] = {}
        best = np.zeros((1, 1), dtype=paths.dtype)
        heights = range(-max(self._sizes), self._most + 1)
        at = [[max(0, height + size) for size in self._sizes] for height in heights]
        sets = [[chain.layers[layer] for chain, layer in zip(self.chains, own)] for own in at]
        pace = _Pace(sum(len(first) * len(second) for first, second in sets), paths.deadline)
        for height, layers, (first, second) in zip(heights, at, sets):
            if pace.hopeless(len(first) * len(second)):
                return None
            if height > heights[0]:
                for chain, layer in zip(self.chains, layers):
                    if layer:
                        best = _largest_before(best, chain.before[layer])
                    best = np.ascontiguousarray(best.T)
                begun = min(0, height - 1)
                if begun not in tables:
                    tables[begun] = self._missed(between >= -begun)
                left, right, either = tables[begun]
                best += left[first][:, np.newaxis] + right[second] - either[first[:, np.newaxis] | second]
            if self._alike:
                self.best[height, height] = best
            if height >= 0:
                place = self._finished(height, best)
                cost[self._others[height] | self._skeleton.rows] = int(paths.weight.sum()) * height + constant - place
        return np.where(cost < NEVER, cost * unit, NEVER)

    def _missed(self, classes: np.ndarray) -> _Missed:
        left, right = self._fits
        return (
            self._paths.missed(classes & left),
            self._paths.missed(classes & right),
            self._paths.missed(classes & left & right),
        )

    def _finished(self, size: int, best: np.ndarray) -> np.ndarray:
        """Entries of a table of layers where both chains have closed the same sets of so many other rows."""
        at = [
            np.searchsorted(chains.layers[size + more], self._others[size] | end)
            for chains, more, end in zip(self.chains, self._sizes, self._ends, strict=True)
        ]
        return best[at[0], at[1]].astype(np.int64)

    def _run(self) -> np.ndarray | None:
        """Any slopes: a set that grows earns its height for the classes that only it missed and now meets.

        Steps in the order of heights earn most. Heights below the place between the meetings do not count.
        """
        paths, slope = self._paths, self._paths.slope
        heights = [
            [slope[layer] - int(slope[end]) for layer in chains.layers[: self._most + size + 1]]
            for chains, end, size in zip(self.chains, self._ends, self._sizes, strict=True)
        ]
        fits = self._fits[0] | self._fits[1]
        floors = np.unique(self._between[fits])[::-1]
        self._floors = [-int(floor) for floor in floors]
        self._tables = [self._missed(fits & (self._between == floor)) for floor in floors]
        self._tables += [self._missed(fits & (self._between >= floor)) for floor in floors]
        nowhere = int((paths.weight * self._between)[~fits].sum())
        everything = paths.missed(np.ones(len(fits), dtype=bool)).astype(np.int64)
        cost = np.full(len(slope), NEVER)
        pairs = sum(len(own) for own in heights[0]) * sum(len(own) for own in heights[1])
        pace = _Pace(pairs // 2 if self._alike else pairs, paths.deadline)
        best = self.best
        least, most = ([[int(own(layer)) for layer in side] for side in heights] for own in (np.min, np.max))
        for i, own in enumerate(heights[0]):
            for j, other in enumerate(heights[1][: i + 1] if self._alike else heights[1]):
                if pace.hopeless(len(own) * len(other)):
                    return None
                if (i and least[0][i] - most[1][j] > paths.reach) or (j and least[1][j] - most[0][i] > paths.reach):
                    continue
                steps = [np.zeros((1, 1), dtype=paths.dtype)] if i == j == 0 else []
                if (i - 1, j) in best:
                    steps.append(self._grown(0, i, j, best[i - 1, j], heights[0][i - 1]))
                if (i, j - 1) in best:
                    steps.append(self._grown(1, i, j, best[i, j - 1].T, heights[1][j - 1]).T)
                if steps:
                    best[i, j] = steps[0] if len(steps) == 1 else np.maximum(*steps)
                    if self._alike and i != j:
                        best[j, i] = np.ascontiguousarray(best[i, j].T)
                size = i - self._sizes[0]
                if size >= 0 and size == j - self._sizes[1] and (i, j) in best:
                    rows = self._others[size] | self._skeleton.rows
                    height = slope[self._others[size]]
                    spared = self._finished(size, best[i, j]) + height * everything[rows]
                    cost[rows] = int(paths.weight.sum()) * height + nowhere - spared
            for j in range(len(heights[1])):
                self._both.pop((i - 1, j), None)
                if not self._alike:
                    best.pop((i - 1, j), None)
        return cost

    def _grown(self, side: int, i: int, j: int, table: np.ndarray, height: np.ndarray) -> np.ndarray:
        """Best value when the chain of a side, along the first axis, has just grown to its layer.

        Classes are grouped by what they earn at least, lowest first: a table of each group, and behind these one of
        it and those before.
        """
        before = self.chains[side].before[(i, j)[side]]
        old = (i - 1, j) if side == 0 else (i, j - 1)
        earned, lost = table.copy(), []
        lowest = int(height.min())
        low = sum(floor <= lowest for floor in self._floors)
        joined = [(height, len(self._floors) + low - 1)] if low else []
        for values, k in joined + [(np.maximum(height, self._floors[k]), k) for k in range(low, len(self._floors))]:
            worth = values.astype(table.dtype)[:, np.newaxis]
            earned += worth * self._alone(side, *old, k)
            lost.append((worth, self._alone(side, i, j, k)))
        largest: np.ndarray | None = None
        for k in range(before.shape[1]):
            trial = earned[before[:, k]]
            for worth, alone in lost:
                trial -= worth[before[:, k]] * alone
            largest = trial if largest is None else np.maximum(largest, trial, out=largest)
        assert largest is not None
        return largest

    def _alone(self, side: int, i: int, j: int, k: int) -> np.ndarray:
        """Weight missed by the sets of one side, along the first axis, and met by those of the other; of table k."""
        sets = self.chains[0].layers[i], self.chains[1].layers[j]
        known = self._both.setdefault((i, j), {})
        if k not in known:
            known[k] = self._tables[k][2][sets[0][:, np.newaxis] | sets[1]]
        both = known[k] if side == 0 else np.ascontiguousarray(known[k].T)
        alone: np.ndarray = self._tables[k][side][sets[side]][:, np.newaxis] - both
        return alone


def _largest_before(table: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Largest entry over the predecessors along the first axis."""
    largest = table[before[:, 0]]
    for k in range(1, before.shape[1]):
        np.maximum(largest, table[before[:, k]], out=largest)
    return largest
