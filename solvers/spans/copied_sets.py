"""Least total of capped lines over one block: every subset of rows is priced, the others pay their caps.

Where rows share no class, more and more of them are settled (`copied_sets_search`) until the best set is known.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from problems import Order, Problem
from solvers.common.block_rows import BlockRows, order_of, span_blocks
from solvers.common.clock import time_now
from solvers.common.rows import span_rows
from solvers.spans.disjoint_rows.copied_sets_search import SettledSearch
from solvers.spans.disjoint_rows.path_for_all_sets import ChainSubsets, num_pairs
from solvers.spans.exact.pair_of_chains import sums

MOST_ROWS = 16  # rows: of a block whose sets of copied accesses are all priced: 65,536 sets

_MOST_PAIRS = 160_000_000  # pairs: of sets whose prices are kept: 640 MB
_PAIRS_PER_SECOND = 8_000_000  # pairs: priced in a second (estimate); by hand


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
        left = max(0.0, self._deadline - time_now())
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
        """The least of cost and extra over all sets of rows, or a bound on it, and a good order of the classes."""
        search = SettledSearch(table.rows, table.meeting, extra, enough=enough, deadline=self._deadline)
        closed = search.run()
        known = table.sequence(search.subset) if search.best is None else table.unmerged(search.best.sequence)
        return search.value if closed else search.bound, known

    def _table(self, paying: np.ndarray, slope: np.ndarray) -> _Table | None:
        key = tuple(slope[self._access].tolist())
        if key not in self._tables:
            table = _Table(replace(self._block.rows, slope=slope[self._access]).only(paying), self._deadline)
            self._tables[key] = table if table.complete else None
            if len(self._tables) > 64:
                self._tables.pop(next(iter(self._tables)))
        return self._tables[key]


class _Table:
    """What every set of the rows that pay costs if all of them meet.

    Attributes
    ----------
    rows
        They, and the classes they tell apart.
    complete
        False if the deadline passed.
    meeting
        int64, shape (2^num_rows,).
    """

    def __init__(self, merged: tuple[BlockRows, list[np.ndarray]], deadline: float) -> None:
        self.rows, self._parts = merged
        unit = int(np.gcd.reduce(self.rows.slope))
        self._paths = ChainSubsets(replace(self.rows, slope=self.rows.slope // unit), deadline=deadline)
        self.complete = self._paths.complete
        if self.complete:
            self.meeting = self._paths.cost * unit

    def sequence(self, subset: int) -> np.ndarray:
        """The classes in an order for a set of rows that meet; int64, shape (num_classes,)."""
        return self.unmerged(self._paths.sequence(subset))

    def unmerged(self, sequence: np.ndarray) -> np.ndarray:
        """The classes in the order of those that the rows tell apart."""
        return np.concatenate([self._parts[s] for s in sequence])
