"""Least total of capped lines over one block: every subset of rows is priced, the others pay their caps.

Where rows share no class, the price of a set of rows is bounded by those of its subsets, and computed by itself
(`meeting_search`) if it might be the least.
"""

from __future__ import annotations

import time

import numpy as np

from problems import Order, Problem
from solvers.common.rows import class_bits, merged_classes, span_rows
from solvers.spans.chain_path import sums
from solvers.spans.chain_subsets import ChainSubsets, num_pairs
from solvers.spans.linear_order import cheapest_sequence
from solvers.spans.meeting_search import search_meetings

MOST_ROWS = 16
"""Rows whose subsets are priced at once."""

_MOST_PAIRS = 700_000_000
_PAIRS_PER_SECOND = 10_000_000
_FEW_CLASSES = 12


class SubsetSpans:
    """All least totals of one free block; remembers what depends on the slopes alone.

    Parameters
    ----------
    problem
        All accesses read channels of one block only, which is not pinned, and may read fixed channels besides.
    deadline
        A `time.perf_counter` reading.
    """

    def __init__(self, problem: Problem, *, deadline: float = np.inf) -> None:
        spans = span_rows(problem)
        self._problem, self._deadline = problem, deadline
        self._block = spans.rows[0].block
        self._access = np.array([row.access for row in spans.rows])
        self._fixed = spans.fixed
        self._own = problem.classes.of_block(self._block)
        self._weight = problem.classes.weight[self._own]
        self._bits = class_bits(problem, self._block, (row.reader for row in spans.rows))
        self._kept = self._weight @ self._bits
        self._share = self._bits.T.astype(np.int64) @ self._bits > 0
        self._tables: dict[tuple[int, ...], _Table | None] = {}

    def solvable(self, slope: np.ndarray) -> bool:
        """Whether the rows that pay are few enough (slope: int64, shape (num_accesses,))."""
        paying = slope[self._access]
        left = max(0.0, self._deadline - time.perf_counter())
        return num_pairs(paying[paying > 0]) <= min(_MOST_PAIRS, _PAIRS_PER_SECOND * left)

    def least(self, constant: np.ndarray, slope: np.ndarray, cap: np.ndarray) -> tuple[int, Order] | None:
        """A bound on the total and a good order, exact unless a set of rows could not be priced.

        Parameters
        ----------
        constant, slope, cap
            int64, shape (num_accesses,): an access pays ``min(constant + slope * excess, cap)``.
        """
        floor = constant + slope * self._fixed
        rest = np.ones(len(constant), dtype=bool)
        rest[self._access] = False
        total = int(np.minimum(floor, cap)[rest].sum())
        paying = np.flatnonzero(slope[self._access])
        idle = np.setdiff1d(np.arange(len(self._access)), paying)
        total += int(np.minimum(floor, cap)[self._access[idle]].sum())
        table = self._table(paying, slope)
        if table is None:
            return None
        access = self._access[paying]
        read = sums(floor[access] - slope[access] * self._kept[paying])
        copied = sums(cap[access])
        while True:
            totals = table.cost + read + (copied[-1] - copied)
            best = int(totals.argmin())
            if table.exact[best]:
                break
            known = int(totals[table.exact].min())
            part = table.smallest_open(best)
            enough = int(table.cost[best]) + known - int(totals[best]) if part == best else None
            if not table.refine(part, enough=enough):
                break
        sequence = self._own[table.sequence(best)]
        order = Order.of_classes(
            self._problem,
            [
                s
                for b in range(len(self._problem.blocks))
                for s in (sequence if b == self._block else self._problem.classes.of_block(b))
            ],
        )
        return total + int(totals[best]), order

    def _table(self, paying: np.ndarray, slope: np.ndarray) -> _Table | None:
        key = tuple(slope[self._access].tolist())
        if key not in self._tables:
            table = _Table(
                self._weight,
                self._bits[:, paying],
                slope[self._access[paying]],
                self._share[np.ix_(paying, paying)],
                self._deadline,
            )
            self._tables[key] = table if table.complete else None
            if len(self._tables) > 64:
                self._tables.pop(next(iter(self._tables)))
        return self._tables[key]


class _Table:
    """Price of every subset of the rows that pay, or a bound on it.

    Attributes
    ----------
    complete
        False if the deadline passed.
    cost
        int64, shape (2^num_rows,).
    exact
        bool, same shape: whether the cost is proven; otherwise it is a bound.
    """

    def __init__(
        self, weight: np.ndarray, bits: np.ndarray, slope: np.ndarray, share: np.ndarray, deadline: float
    ) -> None:
        self._bits, self._weight, self._slope, self._deadline = bits, weight, slope, deadline
        unit = int(np.gcd.reduce(slope)) if len(slope) else 1
        merged_weight, merged, self._parts = merged_classes(weight, bits)
        self._paths = ChainSubsets(merged_weight, merged, slope // unit, deadline=deadline)
        self.complete = self._paths.complete
        if not self.complete:
            return
        self.cost = self._paths.cost * unit
        self.exact = _sets_that_meet(share)
        self._lower = np.where(self.exact, self.cost, 0)
        self._orders: dict[int, np.ndarray] = {}
        self._bound_others()

    def smallest_open(self, subset: int) -> int:
        """A smallest part of a subset that is not exact: cheap to price, and it bounds the subset and many others."""
        while True:
            smaller = subset & ~(1 << np.flatnonzero(subset >> np.arange(len(self._slope)) & 1))
            open_ones = smaller[~self.exact[smaller]]
            if not len(open_ones):
                return subset
            subset = int(open_ones[self.cost[open_ones].argmin()])

    def refine(self, subset: int, *, enough: int | None) -> bool:
        """Price one subset exactly, or prove that it costs enough; False if the deadline passed first.

        Its bound is raised in either case.
        """
        chosen = np.flatnonzero(subset >> np.arange(len(self._slope)) & 1)
        weight, bits, parts = merged_classes(self._weight, self._bits[:, chosen])
        free = np.zeros(len(chosen), dtype=bool)
        if len(weight) <= _FEW_CLASSES:
            best = cheapest_sequence(weight, bits, self._slope[chosen], free, free, deadline=self._deadline)
            if best is None:
                return False
            bound = best.cost
        else:
            found = search_meetings(
                weight, bits, self._slope[chosen], free, free, deadline=self._deadline, enough=enough
            )
            best, bound = found.best, found.bound
            if not found.complete:
                self.cost[subset] = self._lower[subset] = max(bound, int(self._lower[subset]))
                return False
        self.cost[subset] = self._lower[subset] = max(bound, int(self._lower[subset]))
        if best is not None and best.cost == bound:
            self.exact[subset] = True
            self._orders[subset] = np.concatenate([parts[s] for s in best.sequence])
        self._bound_others()
        return True

    def sequence(self, subset: int) -> np.ndarray:
        """The classes in an order for a subset; int64, shape (num_classes,)."""
        if subset in self._orders:
            return self._orders[subset]
        return np.concatenate([self._parts[s] for s in self._paths.sequence(subset)])

    def _bound_others(self) -> None:
        """Bound the sets that are not exact by their subsets with one row less.

        Each row appears in all of these but one, so that the sum of their prices is at most size - 1 times the
        price; and no row is covered less than it keeps.
        """
        if self.exact.all():
            return
        num = len(self._slope)
        masks = np.arange(1 << num)
        size = np.bitwise_count(masks)
        kept = self._slope * (self._weight @ self._bits)
        for k in range(2, num + 1):
            sets = masks[(size == k) & ~self.exact]
            smaller = sets[:, np.newaxis] & ~(1 << np.arange(num))
            inside = smaller != sets[:, np.newaxis]
            prices = np.where(inside, self.cost[smaller], 0)
            average = -(-prices.sum(axis=1) // (k - 1))
            by_one = np.where(inside, prices + kept, 0).max(axis=1)
            self._lower[sets] = np.maximum(self._lower[sets], np.maximum(average, by_one))
            self.cost[sets] = self._lower[sets]


def _sets_that_meet(share: np.ndarray) -> np.ndarray:
    """Which sets of rows share pairwise; bool, shape (2^num_rows,)."""
    num = len(share)
    masks = np.arange(1 << num)
    meet = np.ones(1 << num, dtype=bool)
    for i in range(num):
        for j in range(i):
            if not share[i, j]:
                both = (1 << i) | (1 << j)
                meet &= masks & both != both
    return meet
