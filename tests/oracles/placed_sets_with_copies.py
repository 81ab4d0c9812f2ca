"""The least total excess of accesses that are read in place, and the sets of accesses that may be copied besides.

One dynamic program over sets of placed classes per block; copying is a choice of accesses that drop out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from problems import Objective, Order, Problem
from solvers.common.block_rows import BlockRows
from solvers.common.rows import Row, class_bits, merged_classes, span_rows
from solvers.spans.exact.placed_sets import LinearOrder, cheapest_sequence


class LinearRest:
    """The least total excess of a set of accesses that are all read in place: one DP per block.

    Parameters
    ----------
    problem
        The problem.
    alpha
        Price of one over-read channel; None if there may be none, then the excess is 0 or endless.
    deadline
        A `time.perf_counter` reading.

    Attributes
    ----------
    num_classes
        Per block that may be reordered, the number of classes its rows tell apart.
    """

    def __init__(self, problem: Problem, alpha: int | None, *, deadline: float = np.inf) -> None:
        self._problem = problem
        self._alpha = alpha
        self._deadline = deadline
        self._spans = span_rows(problem)
        self._size = np.array([access.channel_size for access in problem.accesses], dtype=np.int64)
        self._free = [b for b, block in enumerate(problem.blocks) if not block.pinned]
        self._rows = {b: self._spans.of_block(b) for b in self._free}
        self._own = {b: problem.classes.of_block(b) for b in self._free}
        self._weight = {b: problem.classes.weight[self._own[b]] for b in self._free}
        self._bits = {b: class_bits(problem, b, (row.reader for row in self._rows[b])) for b in self._free}
        self._solved: dict[tuple[int, tuple[int, ...]], tuple[int, np.ndarray]] = {}
        self.num_classes = [len(np.unique(self._bits[b], axis=0)) for b in self._free]

    def excess(self, rest: int) -> int | None:
        """Least cost of the accesses in the bit mask `rest`; None if the deadline passed.

        With `alpha` None it is 0 or a number too large for any cost.
        """
        inside = np.array([rest >> a & 1 for a in range(len(self._size))], dtype=bool)
        price = self._size * inside * (1 if self._alpha is None else self._alpha)
        total = int((price * self._spans.fixed).sum())
        for b in self._free:
            if self._alpha is None and total > 0:
                break
            part = self._block(b, inside)
            if part is None:
                return None
            total += part[0]
        return total if self._alpha is not None or total == 0 else 2**62

    def order(self, rest: int) -> Order:
        """The order behind the last `excess` of the same set."""
        inside = np.array([rest >> a & 1 for a in range(len(self._size))], dtype=bool)
        sequence: list[int] = []
        for b in range(len(self._problem.blocks)):
            part = self._block(b, inside) if b in self._own else None
            sequence.extend(self._problem.classes.of_block(b) if part is None else part[1])
        return Order.of_classes(self._problem, sequence)

    def _block(self, b: int, inside: np.ndarray) -> tuple[int, np.ndarray] | None:
        """Least excess and class sequence of one block for the rows of some accesses; remembered."""
        chosen = tuple(i for i, row in enumerate(self._rows[b]) if inside[row.access])
        if (b, chosen) not in self._solved:
            rows = [self._rows[b][i] for i in chosen]
            weight, bits, parts = merged_classes(self._weight[b], self._bits[b][:, list(chosen)])
            best = self._cheapest(rows, weight, bits)
            if best is None:
                return None
            slope = self._slopes(rows)
            excess = best.cost - int((slope * (weight @ bits)).sum())
            self._solved[b, chosen] = excess, self._own[b][np.concatenate([parts[s] for s in best.sequence])]
        return self._solved[b, chosen]

    def _cheapest(self, rows: list[Row], weight: np.ndarray, bits: np.ndarray) -> LinearOrder | None:
        left = np.array([row.left for row in rows], dtype=bool)
        right = np.array([row.right for row in rows], dtype=bool)
        own = BlockRows(weight, bits, self._slopes(rows), left, right)
        return cheapest_sequence(own, deadline=self._deadline)

    def _slopes(self, rows: list[Row]) -> np.ndarray:
        price = 1 if self._alpha is None else self._alpha
        return np.array([price * self._size[row.access] for row in rows], dtype=np.int64)


def copied_subsets(
    problem: Problem, objective: Objective, members: tuple[int, ...] | None = None
) -> Iterator[tuple[int, int]]:
    """Subsets of accesses to copy, as (copy cost, bit mask of the other members), in order of cost.

    Parameters
    ----------
    problem, objective
        Give the price of copying each access; without `gamma` nothing is copied.
    members
        The accesses to choose from; default all.
    """
    chosen = range(len(problem.accesses)) if members is None else members
    everything = sum(1 << a for a in chosen)
    yield 0, everything
    if objective.gamma is None or not everything:
        return
    accesses = problem.accesses
    price = {a: objective.gamma * accesses[a].channel_size * accesses[a].num_kept for a in chosen}
    by_price = sorted(chosen, key=price.__getitem__)
    heap = [(price[by_price[0]], 0, 1 << by_price[0])]
    while heap:
        cost, i, copied = heapq.heappop(heap)
        yield cost, everything & ~copied
        if i + 1 < len(by_price):
            here, following = by_price[i], by_price[i + 1]
            step = price[following]
            heapq.heappush(heap, (cost + step, i + 1, copied | 1 << following))
            heapq.heappush(heap, (cost + step - price[here], i + 1, copied & ~(1 << here) | 1 << following))
