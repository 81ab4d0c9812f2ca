"""Least weighted sum of excesses, for any price per access: each block by the exact method that suits it.

The sets of placed classes for few classes, the pair of chains where rows meet, and otherwise branch and bound on which
rows do. A block that none of them reaches leaves the sum open.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from problems import Order, Problem
from solvers.common.block_rows import BlockRows, span_blocks
from solvers.common.clock import time_now
from solvers.common.rows import merged_classes, span_rows
from solvers.spans.bounds.levels_of_problem import LevelSpans
from solvers.spans.disjoint_rows.branching import search_meetings
from solvers.spans.disjoint_rows.path_for_relations import cheapest_chains
from solvers.spans.exact.pair_of_chains import MAX_ROWS, num_states
from solvers.spans.exact.placed_sets import LinearOrder, cheapest_sequence

_FEW_CLASSES = 12  # classes: up to which placed sets come first: 4096 sets; by hand
_MOST_CLASSES = 20  # classes: up to which placed sets come before meetings: 1 GB; 18 took 0.2 s (2026-11-28)
_MOST_ROWS = 12  # rows: up to which the pair of chains is taken without counting its states; by hand
_MOST_ROWS_FEW_APART = 16  # rows: of branching on which rows meet; by hand
_STATES_A_SET = 4  # states: of a path in the time that a set of placed classes takes (estimate)
_FEW_APART = 8  # pairs: of rows apart up to which branching on them is tried; by hand
_MOST_STATES = 700_000_000  # states: of a path, however much time there is, four minutes; by hand
_STATES_PER_SECOND = 3_000_000  # states: of a path in a second (estimate); by hand


class Method(Protocol):
    """Puts the rows of a block that pay in order."""

    def __call__(self, rows: BlockRows, *, deadline: float) -> LinearOrder | None:
        """An order of the classes and its cost, or a bound on the least one; None if the deadline passed."""


@dataclass(frozen=True, eq=False)
class LeastSum:
    """A least sum of costs.

    Attributes
    ----------
    cost
        Its value, proven, or a bound on it: no order has a smaller sum.
    order
        A good order, which has it unless the bound is not tight.
    """

    cost: int
    order: Order


class LinearSpans:
    """All least sums of a problem; remembers the blocks it has solved.

    Parameters
    ----------
    problem
        The problem.
    deadline
        A `time.perf_counter` reading.
    """

    def __init__(self, problem: Problem, *, deadline: float = np.inf) -> None:
        self._problem = problem
        self._deadline = deadline
        self._max_states = min(_MOST_STATES, _STATES_PER_SECOND * max(0.0, deadline - time_now()))
        spans = span_rows(problem)
        self.fixed = spans.fixed
        self._blocks = {block.block: block for block in span_blocks(problem, spans)}
        self._solved: dict[tuple[int, tuple[int, ...]], tuple[int, np.ndarray]] = {}

    @property
    def large(self) -> list[int]:
        """The blocks that many rows read."""
        return [b for b, own in self._blocks.items() if own.rows.num_rows > _MOST_ROWS]

    @property
    def num_classes(self) -> list[int]:
        """For every block that some row reads, how many classes its rows tell apart."""
        return [len(merged_classes(own.rows.weight, own.rows.bits)[0]) for own in self._blocks.values()]

    def unsolvable(self, prices: np.ndarray) -> list[int]:
        """The blocks that no method solves exactly with such prices (int, shape (num_accesses,))."""
        return [b for b in self._blocks if self._method(self._paying(b, self._slopes(b, prices))[0]) is None]

    def least(
        self, prices: np.ndarray, known: Order, levels: LevelSpans | None = None, bounded: Collection[int] = ()
    ) -> LeastSum | None:
        """The least sum of price times excess, or a bound on it; None if the deadline passed or a block has no method.

        Parameters
        ----------
        prices
            int64, shape (num_accesses,), not negative.
        known
            Its part is taken for blocks that are bounded.
        levels, bounded
            Bounds for the blocks `bounded`; the others should not be `unsolvable`.
        """
        total = int(prices @ self.fixed)
        channels = list(known.channels)
        for b in self._blocks:
            slope = self._slopes(b, prices)
            if b in bounded:
                assert levels is not None
                total += levels.least(b, slope)
                continue
            part = self._block(b, slope)
            if part is None:
                return None
            total += part[0]
            channels[b] = np.concatenate([self._problem.classes.members[s] for s in part[1]])
        return LeastSum(total, Order(channels))

    def _slopes(self, b: int, prices: np.ndarray) -> np.ndarray:
        return prices[self._blocks[b].access]

    def _paying(self, b: int, slope: np.ndarray) -> tuple[BlockRows, list[np.ndarray]]:
        """The rows of a block that pay, their slopes without a common factor, and the parts of merged classes."""
        paying = np.flatnonzero(slope)
        unit = max(1, int(np.gcd.reduce(slope)))
        return replace(self._blocks[b].rows, slope=slope // unit).only(paying)

    def _method(self, rows: BlockRows) -> Method | None:
        """How the rows of a block that pay are put in order, None if no method can."""
        num, num_classes = rows.num_rows, len(rows.weight)
        if num_classes <= _FEW_CLASSES:
            return cheapest_sequence
        few = num - min(rows.left.sum(), rows.right.sum()) <= MAX_ROWS
        if few and rows.meet and num_states(rows) <= self._max_states:
            return cheapest_chains
        if num_classes <= _MOST_CLASSES and _STATES_A_SET << num_classes <= self._max_states:
            return cheapest_sequence
        if num <= _MOST_ROWS:
            return _searched
        if num > _MOST_ROWS_FEW_APART or num_states(rows) > self._max_states:
            return None
        return _searched if np.count_nonzero(~rows.share) // 2 <= _FEW_APART else None

    def _block(self, b: int, slope: np.ndarray) -> tuple[int, np.ndarray] | None:
        """Least sum over the rows of one block, and its classes in order; None out of time or without a method."""
        key = b, tuple(slope.tolist())
        if key not in self._solved:
            rows, parts = self._paying(b, slope)
            method = self._method(rows)
            best = None if method is None else method(rows, deadline=self._deadline)
            if best is None:
                return None
            unit = max(1, int(np.gcd.reduce(slope)))
            sequence = self._blocks[b].own[best.unmerged(parts).sequence]
            self._solved[key] = (best.cost - int(rows.needed.sum())) * unit, sequence
        return self._solved[key]


def _searched(rows: BlockRows, *, deadline: float) -> LinearOrder | None:
    """Branch and bound over which rows meet; its cost is a bound if time runs out."""
    if time_now() >= deadline:
        return None
    found = search_meetings(rows, deadline=deadline)
    if found.best is None:
        return LinearOrder(found.bound, np.arange(len(rows.weight)))
    # The bound leaves out sequences no better than the one known, which therefore bounds them as well.
    return LinearOrder(min(found.best.cost, found.bound), found.best.sequence)
