"""Least weighted sum of excesses, for any price per access: each block by the exact method that suits it.

The sets of placed classes for few classes, the pair of chains where rows meet, and otherwise branch and bound on which
rows do. A block that none of them reaches leaves the sum open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems import Order, Problem
from solvers.chain_path import cheapest_chains, num_states, rows_meet
from solvers.linear_order import LinearOrder, cheapest_sequence
from solvers.meeting_search import search_meetings
from solvers.rows import Row, class_bits, merged_classes, span_rows

_FEW_CLASSES = 12
_MOST_CLASSES = 18
_MOST_ROWS = 12


@dataclass(frozen=True, eq=False)
class LeastSum:
    """The least sum for some prices.

    Attributes
    ----------
    cost
        Its value, proven.
    order
        An order that has it.
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
    max_states
        Most states of a path or a DP.
    """

    def __init__(self, problem: Problem, *, deadline: float = np.inf, max_states: int = 700_000_000) -> None:
        self._problem = problem
        self._deadline = deadline
        self._max_states = max_states
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

    def solvable(self, prices: np.ndarray) -> bool:
        """Whether every block can be solved exactly with these prices (int, shape (num_accesses,))."""
        return all(self._method(b, self._slopes(b, prices)) is not None for b in self._blocks)

    def least(self, prices: np.ndarray) -> LeastSum | None:
        """The least sum of price times excess; None if the deadline passed.

        Parameters
        ----------
        prices
            int64, shape (num_accesses,), not negative; `solvable` must hold.
        """
        total = int(prices @ self.fixed)
        sequence: list[int] = []
        for b in range(len(self._problem.blocks)):
            if b not in self._blocks:
                sequence.extend(self._problem.classes.of_block(b))
                continue
            part = self._block(b, self._slopes(b, prices))
            if part is None:
                return None
            total += part[0]
            sequence.extend(part[1])
        return LeastSum(total, Order.of_classes(self._problem, sequence))

    def _slopes(self, b: int, prices: np.ndarray) -> np.ndarray:
        return prices[[row.access for row in self._blocks[b][0]]]

    def _method(self, b: int, slope: np.ndarray) -> str | None:
        """How a block is solved: ``sets``, ``chains``, ``meetings``, or None."""
        rows, _, weight, bits = self._blocks[b]
        paying = np.flatnonzero(slope)
        _, merged, _ = merged_classes(weight, bits[:, paying])
        left, right = (np.array([getattr(rows[i], end) for i in paying], dtype=bool) for end in ("left", "right"))
        if len(merged) <= _FEW_CLASSES:
            return "sets"
        if rows_meet(merged, left, right) and num_states(slope[paying], left, right) <= self._max_states:
            return "chains"
        if len(merged) <= _MOST_CLASSES and 1 << len(merged) <= self._max_states:
            return "sets"
        return "meetings" if len(paying) <= _MOST_ROWS else None

    def _block(self, b: int, slope: np.ndarray) -> tuple[int, np.ndarray] | None:
        """Least sum over the rows of one block, and its classes in order."""
        key = b, tuple(slope.tolist())
        if key not in self._solved:
            rows, own, weight, bits = self._blocks[b]
            paying = np.flatnonzero(slope)
            merged_weight, merged, parts = merged_classes(weight, bits[:, paying])
            left, right = (np.array([getattr(rows[i], end) for i in paying], dtype=bool) for end in ("left", "right"))
            unit = int(np.gcd.reduce(slope[paying])) if len(paying) else 1
            best = _METHODS[self._method(b, slope) or "sets"](
                merged_weight, merged, slope[paying] // unit, left, right, deadline=self._deadline
            )
            if best is None:
                return None
            needed = int((slope[paying] * (merged_weight @ merged)).sum())
            sequence = own[np.concatenate([parts[s] for s in best.sequence])]
            self._solved[key] = best.cost * unit - needed, sequence
        return self._solved[key]


def _searched(
    weight: np.ndarray, bits: np.ndarray, slope: np.ndarray, left: np.ndarray, right: np.ndarray, *, deadline: float
) -> LinearOrder | None:
    found = search_meetings(weight, bits, slope, left, right, deadline=deadline)
    return found.best if found.complete else None


_METHODS = {"sets": cheapest_sequence, "chains": cheapest_chains, "meetings": _searched}
