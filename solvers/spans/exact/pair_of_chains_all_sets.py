"""One shortest path for all subsets of rows: what any of them cost together when every two of them share a class.

The chains of `chain_path` are run from their common point outwards: a set of rows that are closed already grows on
either side. Where a chain ends does not matter on the way, so that the path to the pair (S, S) is the best for the
rows S alone, the others being ignored (copied). One run prices all subsets (docs/model.md, theorem 4).
"""

from __future__ import annotations

import math
import time

import numpy as np

from solvers.spans.exact.pair_of_chains import lattice, sums, sums_inside

_LATE = 1.5  # factor: by which a path may seem to run late before it is given up; by hand
_JUDGED_AFTER = 0.1  # share: of the time after which a path is judged; earlier its speed is not known; by hand


def num_pairs(slope: np.ndarray) -> int:
    """Pairs of sets that `ChainSubsets` would visit."""
    return math.comb(2 * len(slope), len(slope)) if len(set(slope.tolist())) == 1 else 1 << 2 * len(slope)


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
        self._begun = time.perf_counter()

    def hopeless(self, pairs: int) -> bool:
        """Whether the deadline has passed, or will long have before the end; so many pairs are visited next."""
        now = time.perf_counter()
        if now >= self._deadline:
            return True
        spent, left = now - self._begun, self._deadline - now
        late = self._done > 0 and spent * (self._total - self._done) > _LATE * self._done * left
        self._done += pairs
        return late and spent > _JUDGED_AFTER * (spent + left)


class ChainSubsets:
    """Least cost of every subset of the rows of one block, if its rows share classes pairwise.

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
    >>> subsets = ChainSubsets(np.array([1, 2, 3]), bits, np.array([1, 1, 1]))
    >>> subsets.cost.tolist(), subsets.sequence(0b011).tolist()
    ([0, 3, 5, 8, 4, 7, 9, 13], [0, 1, 2])
    """

    def __init__(self, weight: np.ndarray, bits: np.ndarray, slope: np.ndarray, *, deadline: float = np.inf) -> None:
        num = bits.shape[1]
        self._num, self._deadline = num, deadline
        self._signature = bits.astype(np.int64) @ (np.int64(1) << np.arange(num, dtype=np.int64))
        self._weight = weight
        everything = (1 << num) - 1
        self._zero = sums_inside(weight, self._signature, num)[everything ^ np.arange(1 << num)]
        self._slope = sums(slope.astype(np.int64))
        self._equal = len(set(slope.tolist())) <= 1
        own = lattice(np.zeros(num, dtype=bool))
        self._sets, self._before = own.layers, own.before
        self._rank = np.zeros(1 << num, dtype=np.int64)
        for layer in self._sets:
            self._rank[layer] = np.arange(len(layer))
        most = int(weight.sum()) * int(slope.sum())
        self._dtype = np.int32 if most < 2**30 else np.int64
        self._best: dict[tuple[int, int], np.ndarray] = {}
        self.complete = self._run_equal(int(slope[0])) if self._equal else self._run()
        if self.complete:
            self.cost = self._slope * int(weight.sum()) - self._gains()

    def _run_equal(self, unit: int) -> bool:
        """Equal slopes: both sets grow together, and earn the weight of the classes that one of them misses."""
        pace = _Pace(num_pairs(np.ones(self._num)), self._deadline)
        for k, sets in enumerate(self._sets):
            if pace.hopeless(len(sets) ** 2):
                return False
            if k == 0:
                self._best[0, 0] = np.zeros((1, 1), dtype=self._dtype)
                continue
            reached = self._largest_before(self._best[k - 1, k - 1], self._before[k])
            reached = self._largest_before(np.ascontiguousarray(reached.T), self._before[k])
            zero = self._zero[sets].astype(self._dtype)
            self._best[k, k] = reached + unit * (zero[:, np.newaxis] + zero - self._zero_on_both(sets, sets))
        return True

    def _largest_before(self, table: np.ndarray, before: np.ndarray) -> np.ndarray:
        largest = table[before[:, 0]]
        for k in range(1, before.shape[1]):
            np.maximum(largest, table[before[:, k]], out=largest)
        return largest

    def _zero_on_both(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return self._zero[first[:, np.newaxis] | second].astype(self._dtype)

    def _run(self) -> bool:
        """Any slopes: a set that grows earns its old slope for the classes that only it missed and now meets.

        A class earns the slope of the last set that misses it, and of two such sets the larger: those steps in the
        order of slopes. Another order underestimates. The table is symmetric.
        """
        reach = int(self._slope[1 << np.arange(self._num)].max())
        slopes = [self._slope[sets] for sets in self._sets]
        alone: dict[tuple[int, int], np.ndarray] = {}
        pace = _Pace(1 << (2 * self._num - 1), self._deadline)
        for i, first in enumerate(self._sets):
            for j in range(i + 1):
                if pace.hopeless(len(first) * len(self._sets[j])):
                    return False
                if slopes[i].min() - slopes[j].max() > reach or slopes[j].min() - slopes[i].max() > reach:
                    continue
                both = self._zero_on_both(first, self._sets[j])
                alone[i, j] = self._zero[first].astype(self._dtype)[:, np.newaxis] - both
                alone[j, i] = self._zero[self._sets[j]].astype(self._dtype)[:, np.newaxis] - both.T
                if i == 0:
                    self._best[0, 0] = np.zeros((1, 1), dtype=self._dtype)
                    continue
                steps = []
                if (i - 1, j) in self._best:
                    steps.append(self._grown(i, j, alone))
                if j and (i, j - 1) in self._best:
                    steps.append(self._grown(j, i, alone).T)
                if steps:
                    self._best[i, j] = steps[0] if len(steps) == 1 else np.maximum(*steps)
                    if i != j:
                        self._best[j, i] = np.ascontiguousarray(self._best[i, j].T)
            for j in range(i):
                alone.pop((i - 1, j), None)
                alone.pop((j, i - 1), None)
        return True

    def _grown(self, i: int, j: int, alone: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
        """Best value when a set of the first side has just grown to layer i, the other being in layer j."""
        before, slope = self._before[i], self._slope[self._sets[i - 1]].astype(self._dtype)
        earned = self._best[i - 1, j] + slope[:, np.newaxis] * alone[i - 1, j]
        largest: np.ndarray | None = None
        for k in range(before.shape[1]):
            trial = earned[before[:, k]] - slope[before[:, k], np.newaxis] * alone[i, j]
            largest = trial if largest is None else np.maximum(largest, trial, out=largest)
        assert largest is not None
        return largest

    def _gains(self) -> np.ndarray:
        """What the rows of every subset save against covering everything; int64, shape (2^num_rows,)."""
        gains = np.zeros(1 << self._num, dtype=np.int64)
        for k, sets in enumerate(self._sets):
            gains[sets] = np.diagonal(self._best[k, k])
        return gains if self._equal else gains + self._slope * self._zero

    def sequence(self, subset: int) -> np.ndarray:
        """The classes from left to right in an order that has ``cost[subset]``; int64, shape (num_classes,)."""
        chains = self._chains_equal(subset) if self._equal else self._chains(subset)
        prices = []
        for chain in chains:
            masks = np.array(chain, dtype=np.int64)
            missed = self._signature[:, np.newaxis] & masks == 0
            prices.append(np.where(missed, self._slope[masks], -1).max(axis=1))
        ends = np.where(prices[0] >= prices[1], -1 - prices[0], 1 + prices[1])
        return np.argsort(ends, kind="stable")

    def _chains_equal(self, subset: int) -> tuple[list[int], list[int]]:
        """The sets of both chains on a best path to (subset, subset)."""
        p = q = int(self._rank[subset])
        chains: tuple[list[int], list[int]] = ([subset], [subset])
        for k in range(subset.bit_count(), 0, -1):
            own, other = self._before[k][p], self._before[k][q]
            table = self._best[k - 1, k - 1][np.ix_(own, other)]
            i, j = np.unravel_index(int(table.argmax()), table.shape)
            p, q = int(own[i]), int(other[j])
            chains[0].append(int(self._sets[k - 1][p]))
            chains[1].append(int(self._sets[k - 1][q]))
        return chains

    def _chains(self, subset: int) -> tuple[list[int], list[int]]:
        size = subset.bit_count()
        at, layer = [int(self._rank[subset])] * 2, [size, size]
        chains: tuple[list[int], list[int]] = ([subset], [subset])
        while any(layer):
            here = int(self._best[layer[0], layer[1]][at[0], at[1]])
            for side in (0, 1):
                i, j = layer[side], layer[1 - side]
                if i == 0 or (i - 1, j) not in self._best:
                    continue
                own, other = chains[side][-1], chains[1 - side][-1]
                choices = self._before[i][at[side]]
                smaller = self._sets[i - 1][choices]
                lost = self._zero[smaller] - self._zero[smaller | other] - self._zero[own] + self._zero[own | other]
                values = self._best[i - 1, j][choices, at[1 - side]] + self._slope[smaller] * lost
                if int(values.max()) == here:
                    k = int(values.argmax())
                    at[side], layer[side] = int(choices[k]), i - 1
                    chains[side].append(int(smaller[k]))
                    break
        return chains
