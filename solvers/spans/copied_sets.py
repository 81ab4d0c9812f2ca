"""Least total of capped lines over one block: every subset of rows is priced, the others pay their caps.

Where rows share no class, the price of a set of rows is bounded by those of its subsets, and computed by itself
(`search_meetings`) if it might be the least.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np

from problems import Order, Problem
from solvers.common.block_rows import BlockRows, order_of, span_blocks
from solvers.common.rows import span_rows
from solvers.spans.disjoint_rows.branching import search_meetings
from solvers.spans.disjoint_rows.copied_sets_search import SettledSearch, bound_by_parts
from solvers.spans.disjoint_rows.path_for_all_sets import ChainSubsets, num_pairs
from solvers.spans.exact.pair_of_chains import sums
from solvers.spans.exact.placed_sets import cheapest_sequence

MOST_ROWS = 16  # rows: of a block whose sets of copied accesses are all priced: 65,536 sets

_MOST_PAIRS = 160_000_000  # pairs: of sets whose prices are kept: 640 MB
_PAIRS_PER_SECOND = 8_000_000  # pairs: priced in a second (estimate); by hand
_FEW_CLASSES = 12  # classes: up to which placed sets price a block at once: 4096 sets
_SETTLED_SHARE = 0.6  # share: of the time for relations of rows settled at once; by hand


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
        self._problem, self._deadline, self._fixed = problem, deadline, spans.fixed
        (self._block,) = span_blocks(problem, spans)
        self._access = self._block.access
        self._kept = self._block.rows.weight @ self._block.rows.bits
        self._tables: dict[tuple[int, ...], _Table | None] = {}

    def solvable(self, slope: np.ndarray) -> bool:
        """Whether the rows that pay are few enough (slope: int64, shape (num_accesses,))."""
        paying = slope[self._access]
        left = max(0.0, self._deadline - time.perf_counter())
        return num_pairs(paying[paying > 0]) <= min(_MOST_PAIRS, _PAIRS_PER_SECOND * left)

    def least(
        self, constant: np.ndarray, slope: np.ndarray, cap: np.ndarray, *, enough: int
    ) -> tuple[int, Order] | None:
        """A bound on the total and a good order, exact unless out of time or the total is `enough` or more.

        Parameters
        ----------
        constant, slope, cap
            int64, shape (num_accesses,): an access pays ``min(constant + slope * excess, cap)``.
        enough
            Larger totals are of no interest.
        """
        floor = constant + slope * self._fixed
        rest = np.ones(len(constant), dtype=bool)
        rest[self._access] = False
        total = int(np.minimum(floor, cap)[rest].sum())
        paying = np.flatnonzero(slope[self._access])
        idle = np.setdiff1d(np.arange(len(self._access)), paying)
        total += int(np.minimum(floor, cap)[self._access[idle]].sum())
        if not len(paying):
            return total, order_of(self._problem, {})
        table = self._table(paying, slope)
        if table is None:
            return None
        access = self._access[paying]
        read = sums(floor[access] - slope[access] * self._kept[paying])
        copied = sums(cap[access])
        bound, sequence = self._best(table, read + (copied[-1] - copied), enough - total)
        return total + bound, order_of(self._problem, {self._block.block: self._block.own[sequence]})

    def _best(self, table: _Table, extra: np.ndarray, enough: int) -> tuple[int, np.ndarray]:
        """The least of cost and extra over all sets of rows, or a bound on it, and a good order of the classes.

        By the rows that do not meet all others as long as that is promising, then by sets of rows.
        """
        now = time.perf_counter()
        share = (self._deadline - now) * _SETTLED_SHARE if math.isfinite(self._deadline) else math.inf
        search = table.settled(extra, enough=enough, deadline=now + share)
        closed = search.run()
        known = table.sequence(search.subset) if search.best is None else table.unmerged(search.best.sequence)
        if closed:
            return search.value, known
        while True:
            totals = table.cost + extra
            best = int(totals.argmin())
            if table.exact[best]:
                return int(totals[best]), table.sequence(best)
            value = min(search.value, int(totals[table.exact].min()))
            if int(totals[best]) >= value:
                return value, known
            part = table.smallest_open(best)
            limit = int(table.cost[best]) + value - int(totals[best]) if part == best else None
            if not table.refine(part, enough=limit):
                return max(search.bound, int((table.cost + extra).min())), known

    def _table(self, paying: np.ndarray, slope: np.ndarray) -> _Table | None:
        key = tuple(slope[self._access].tolist())
        if key not in self._tables:
            table = _Table(replace(self._block.rows, slope=slope[self._access]).only(paying), self._deadline)
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

    def __init__(self, merged: tuple[BlockRows, list[np.ndarray]], deadline: float) -> None:
        self._rows, self._parts = merged
        self._deadline = deadline
        unit = int(np.gcd.reduce(self._rows.slope))
        self._paths = ChainSubsets(replace(self._rows, slope=self._rows.slope // unit), deadline=deadline)
        self.complete = self._paths.complete
        if not self.complete:
            return
        self._meeting = self._paths.cost * unit
        self.cost = self._meeting.copy()
        self.exact = _sets_that_meet(self._rows.share)
        self._lower = np.where(self.exact, self.cost, 0)
        self._orders: dict[int, np.ndarray] = {}
        self._bound_others()

    def smallest_open(self, subset: int) -> int:
        """A smallest part of a subset that is not exact: cheap to price, and it bounds the subset and many others."""
        while True:
            smaller = subset & ~(1 << self._members(subset))
            open_ones = smaller[~self.exact[smaller]]
            if not len(open_ones):
                return subset
            subset = int(open_ones[self.cost[open_ones].argmin()])

    def refine(self, subset: int, *, enough: int | None) -> bool:
        """Price one subset exactly, or prove that it costs enough; False if the deadline passed first.

        Its bound is raised in either case.
        """
        rows, parts = self._rows.only(self._members(subset))
        if len(rows.weight) <= _FEW_CLASSES:
            best = cheapest_sequence(rows, deadline=self._deadline)
            if best is None:
                return False
            bound = best.cost
        else:
            found = search_meetings(rows, deadline=self._deadline, enough=enough)
            best, bound = found.best, found.bound
            if not found.complete:
                self.cost[subset] = self._lower[subset] = max(bound, int(self._lower[subset]))
                return False
        self.cost[subset] = self._lower[subset] = max(bound, int(self._lower[subset]))
        if best is not None and best.cost == bound:
            self.exact[subset] = True
            self._orders[subset] = self.unmerged(best.unmerged(parts).sequence)
        self._bound_others()
        return True

    def sequence(self, subset: int) -> np.ndarray:
        """The classes in an order for a subset; int64, shape (num_classes,)."""
        if subset in self._orders:
            return self._orders[subset]
        return self.unmerged(self._paths.sequence(subset))

    def unmerged(self, sequence: np.ndarray) -> np.ndarray:
        """The classes in the order of those that the rows tell apart."""
        return np.concatenate([self._parts[s] for s in sequence])

    def settled(self, extra: np.ndarray, *, enough: int, deadline: float) -> SettledSearch:
        """A search for the least of cost and extra (int64, shape (2^num_rows,))."""
        return SettledSearch(self._rows, self._meeting, extra, enough=enough, deadline=deadline)

    def _members(self, subset: int) -> np.ndarray:
        """The rows of a set."""
        return np.flatnonzero(subset >> np.arange(self._rows.num_rows) & 1)

    def _bound_others(self) -> None:
        """Bound the sets that are not exact by their subsets with one row less."""
        if self.exact.all():
            return
        bound_by_parts(self._lower, self.exact, self._rows.needed)
        self.cost = np.where(self.exact, self.cost, self._lower)


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
