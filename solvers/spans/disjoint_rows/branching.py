"""The cheapest sequence of weighted classes whatever rows share: branch and bound on which rows meet.

Rows are inserted one at a time. A node knows the relations between the rows inserted so far and the least cost of
these alone (`cheapest_meetings`); the others pay at least what they keep. Rows that share a class with all earlier
ones do not branch, so that they come first.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.spans.disjoint_rows.interval_orders import IntervalOrder, insertions, renumbered
from solvers.spans.disjoint_rows.path_for_relations import cheapest_meetings
from solvers.spans.exact.placed_sets import LinearOrder


@dataclass(frozen=True, eq=False)
class Searched:
    """What a search found.

    Attributes
    ----------
    bound
        No sequence costs less than this.
    best
        The best sequence known, None if there is none; it is optimal if its cost is the bound.
    num_nodes
        Relations solved.
    complete
        False if the deadline passed.
    """

    bound: int
    best: LinearOrder | None
    num_nodes: int
    complete: bool


def search_meetings(rows: BlockRows, *, deadline: float = np.inf) -> Searched:
    """The sequence of least cost, whatever rows share.

    Parameters
    ----------
    rows
        The block; every row pays.
    deadline
        A `time.perf_counter` reading.

    Examples
    --------
    >>> bits = np.array([[1, 0], [0, 0], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> found = search_meetings(BlockRows(np.array([1, 2, 3]), bits, np.array([1, 1]), free, free))
    >>> found.bound, found.best.cost, sorted(found.best.sequence.tolist())
    (4, 4, [0, 1, 2])
    """
    return _Search(rows, deadline).run()


class _Search:
    def __init__(self, rows: BlockRows, deadline: float) -> None:
        self._block, self._deadline = rows, deadline
        place = np.int64(1) << np.arange(rows.num_rows, dtype=np.int64)
        self._apart = (~rows.share * place).sum(axis=1)
        self._first, self._last = int(place[rows.left].sum()), int(place[rows.right].sum())
        self._needed = rows.needed
        self._rows = _insertion_order(rows.share, self._needed)
        self.num_nodes = 0

    def run(self) -> Searched:
        """Best first, and deeper first among equals."""
        ticket = count()
        best: LinearOrder | None = None
        heap: list[tuple[int, int, int, IntervalOrder]] = [(int(self._needed.sum()), 0, next(ticket), IntervalOrder())]
        while heap:
            bound, _, _, order = heap[0]
            if best is not None and best.cost <= bound:
                return Searched(best.cost, best, self.num_nodes, True)
            heapq.heappop(heap)
            depth = len(order.rows) + 1
            row = self._rows[depth - 1]
            for child in insertions(order, row, int(self._apart[row]), first=self._first, last=self._last):
                if self._mirrored(order, child):
                    continue
                found = self._solve(child)
                if found is None:
                    return Searched(bound, best, self.num_nodes, False)
                own = max(bound, found.cost + int(self._needed[self._rows[depth:]].sum()))
                if depth == len(self._rows):
                    if best is None or found.cost < best.cost:
                        best = found
                elif best is None or own < best.cost:
                    heapq.heappush(heap, (own, -depth, next(ticket), child))
        assert best is not None
        return Searched(best.cost, best, self.num_nodes, True)

    def _mirrored(self, order: IntervalOrder, child: IntervalOrder) -> bool:
        """Whether the mirror image of a child is searched instead; relations that are their own image have two."""
        if any(order.before) or self._first or self._last:
            return False
        return child.before[-1] > child.after(child.rows[-1])

    def _solve(self, order: IntervalOrder) -> LinearOrder | None:
        """Least cost of the rows inserted so far; with all of them, the sequence is one of all classes."""
        rows = np.array(sorted(order.rows))
        own, parts = self._block.only(rows)
        self.num_nodes += 1
        found = cheapest_meetings(own, renumbered(order, rows), deadline=self._deadline)
        return None if found is None else found.unmerged(parts)


def _insertion_order(share: np.ndarray, needed: np.ndarray) -> list[int]:
    """Rows that share with most of the earlier ones first, the dearest of these first."""
    chosen: list[int] = []
    rest = set(range(len(needed)))
    while rest:
        row = min(rest, key=lambda r: (int((~share[r, chosen]).sum()), -int(share[r].sum()), -int(needed[r]), r))
        chosen.append(row)
        rest.remove(row)
    return chosen
