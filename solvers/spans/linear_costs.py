"""Least weighted sum of excesses, for any price per access: each block by the exact method that suits it.

The sets of placed classes for few classes, the pair of chains where rows meet, and otherwise the state relaxation and
branch and bound on which rows do. A block that none of them reaches leaves the sum open.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from problems import Order, Problem
from solvers.common.rows import Row, class_bits, merged_classes, span_rows
from solvers.spans.bounds.levels_of_problem import LevelSpans, ends_of
from solvers.spans.bounds.states import state_relaxation
from solvers.spans.disjoint_rows.branching import search_meetings
from solvers.spans.exact.pair_of_chains import MAX_ROWS, cheapest_chains, num_states, rows_meet
from solvers.spans.exact.placed_sets import LinearOrder, cheapest_sequence

_FEW_CLASSES = 12  # classes: up to which placed sets come first: 4096 sets; by hand
_MOST_CLASSES = 20  # classes: up to which placed sets come before meetings: 1 GB; 18 took 0.2 s (2026-11-28)
_MOST_ROWS = 12  # rows: up to which the pair of chains is taken without counting its states; by hand
_MOST_ROWS_FEW_APART = 16  # rows: of the state relaxation and of branching on which rows meet; by hand
_STATES_A_SET = 4  # states: of a path in the time that a set of placed classes takes (estimate)
_FEW_APART = 8  # pairs: of rows apart up to which branching on them is tried; by hand
_MOST_STATES = 700_000_000  # states: of a path, however much time there is, four minutes; by hand
_STATES_PER_SECOND = 3_000_000  # states: of a path in a second (estimate); by hand


@dataclass(frozen=True, eq=False)
class LeastSum:
    """The least sum for some prices.

    Attributes
    ----------
    cost
        Its value, proven, or a bound on it.
    order
        An order that has it if every block was solved.
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
        self._max_states = min(_MOST_STATES, _STATES_PER_SECOND * max(0.0, deadline - time.perf_counter()))
        spans = span_rows(problem)
        self.fixed = spans.fixed
        self._blocks: dict[int, tuple[list[Row], np.ndarray, np.ndarray, np.ndarray]] = {}
        for b in range(len(problem.blocks)):
            rows = spans.of_block(b)
            if rows:
                own = problem.classes.of_block(b)
                bits = class_bits(problem, b, (row.reader for row in rows))
                self._blocks[b] = rows, own, problem.classes.weight[own], bits
        self._solved: dict[tuple[int, tuple[int, ...]], tuple[int, np.ndarray]] = {}

    @property
    def large(self) -> list[int]:
        """The blocks that many rows read."""
        return [b for b, (rows, *_) in self._blocks.items() if len(rows) > _MOST_ROWS]

    @property
    def num_classes(self) -> list[int]:
        """For every block that some row reads, how many classes its rows tell apart."""
        return [len(merged_classes(weight, bits)[1]) for _, _, weight, bits in self._blocks.values()]

    def unsolvable(self, prices: np.ndarray) -> list[int]:
        """The blocks that no method solves exactly with such prices (int, shape (num_accesses,))."""
        return [b for b in self._blocks if self._method(b, self._slopes(b, prices)) is None]

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
        return prices[[row.access for row in self._blocks[b][0]]]

    def _method(self, b: int, slope: np.ndarray) -> str | None:
        """How a block is solved: ``sets``, ``chains``, ``meetings``, or None."""
        rows, _, weight, bits = self._blocks[b]
        paying = np.flatnonzero(slope)
        _, merged, _ = merged_classes(weight, bits[:, paying])
        left, right = ends_of([rows[i] for i in paying])
        if len(merged) <= _FEW_CLASSES:
            return "sets"
        few = len(paying) - min(left.sum(), right.sum()) <= MAX_ROWS
        if few and rows_meet(merged, left, right) and num_states(slope[paying], left, right) <= self._max_states:
            return "chains"
        if len(merged) <= _MOST_CLASSES and _STATES_A_SET << len(merged) <= self._max_states:
            return "sets"
        if len(paying) <= _MOST_ROWS:
            return "meetings"
        if len(paying) > _MOST_ROWS_FEW_APART or num_states(slope[paying], left, right) > self._max_states:
            return None
        kept = merged.astype(np.float32)
        return "meetings" if np.count_nonzero(kept.T @ kept == 0) // 2 <= _FEW_APART else None

    def _block(self, b: int, slope: np.ndarray) -> tuple[int, np.ndarray] | None:
        """Least sum over the rows of one block, and its classes in order; None out of time or without a method."""
        key = b, tuple(slope.tolist())
        method = None if key in self._solved else self._method(b, slope)
        if key not in self._solved:
            if method is None:
                return None
            rows, own, weight, bits = self._blocks[b]
            paying = np.flatnonzero(slope)
            merged_weight, merged, parts = merged_classes(weight, bits[:, paying])
            left, right = ends_of([rows[i] for i in paying])
            unit = int(np.gcd.reduce(slope[paying])) if len(paying) else 1
            best = _METHODS[method](merged_weight, merged, slope[paying] // unit, left, right, deadline=self._deadline)
            if best is None:
                return None
            needed = int((slope[paying] * (merged_weight @ merged)).sum())
            sequence = own[np.concatenate([parts[s] for s in best.sequence])]
            self._solved[key] = best.cost * unit - needed, sequence
        return self._solved[key]


def _searched(
    weight: np.ndarray, bits: np.ndarray, slope: np.ndarray, left: np.ndarray, right: np.ndarray, *, deadline: float
) -> LinearOrder | None:
    """Branch and bound over which rows meet, after the state relaxation; its cost is a bound if time runs out."""
    now = time.perf_counter()
    if now >= deadline:
        return None
    relaxed = state_relaxation(
        weight, bits, slope, left, right, deadline=now + (deadline - now) / 4 if math.isfinite(deadline) else deadline
    )
    if relaxed.optimal:
        return LinearOrder(relaxed.cost, relaxed.sequence)
    found = search_meetings(weight, bits, slope, left, right, deadline=deadline)
    best = found.best
    if best is None or relaxed.cost < best.cost:
        best = LinearOrder(relaxed.cost, relaxed.sequence)
    # Both bounds leave out sequences no better than the one known, which therefore bounds them as well.
    return LinearOrder(min(best.cost, max(found.bound, relaxed.bound)), best.sequence)


_METHODS = {"sets": cheapest_sequence, "chains": cheapest_chains, "meetings": _searched}
