"""The best set of rows to pay for when the others are copied, whatever the rows share: more and more settled rows.

While all rows meet one path prices every set (`ChainSubsets`), for every relation of settled rows another one does.
Once the relations of k settled rows are done, sets in which no more than k rows can be settled are, and larger ones are
bounded by their parts. So are relations: those that are too dear already are not priced, or left out with all that
contain them (docs/model.md, theorem 7).
"""

from __future__ import annotations

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.clock import time_now
from solvers.spans.disjoint_rows.interval_orders import IntervalOrder, renumbered
from solvers.spans.disjoint_rows.partial_relations import SettledOrders, Skeleton, rest_of
from solvers.spans.disjoint_rows.path_for_all_sets import NEVER, SettledPaths
from solvers.spans.disjoint_rows.path_for_relations import cheapest_meetings
from solvers.spans.exact.placed_sets import LinearOrder

_MOST_PRICES = 1 << 24  # prices: that are kept: a bound on memory; by hand


class SettledSearch:
    """The search; `run` goes on until it is closed or the deadline passes.

    Parameters
    ----------
    rows
        The block; no row is anchored, every row pays.
    meeting
        int64, shape (2^num_rows,): the least cost of every set of rows if all its rows meet.
    extra
        int64, same shape: what the rows outside each set cost, and constants.
    enough
        Larger totals are of no interest.
    deadline
        A `time.perf_counter` reading.

    Attributes
    ----------
    value
        The least total known, or `enough` if that is less.
    subset
        The best set of rows known.
    best
        An order of the classes with the cost of this set; None if it is that of `meeting`.
    bound
        No set has a smaller total.
    num_paths
        Relations priced by a path.

    Examples
    --------
    >>> bits = np.array([[1, 0], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> rows = BlockRows(np.array([5, 4]), bits, np.array([1, 1]), free, free)
    >>> search = SettledSearch(rows, np.array([0, 5, 4, 14]), np.array([30, 20, 20, 10]))
    >>> search.run(), search.value, search.subset, search.best.sequence.tolist()
    (True, 19, 3, [0, 1])
    """

    def __init__(
        self,
        rows: BlockRows,
        meeting: np.ndarray,
        extra: np.ndarray,
        *,
        enough: int | None = None,
        deadline: float = np.inf,
    ) -> None:
        self._rows, self._deadline, self._kept = rows, deadline, rows.needed
        self._meeting, self._extra = meeting, extra
        self._paths = SettledPaths(rows, deadline=deadline)
        self._num = rows.num_rows
        place = np.int64(1) << np.arange(self._num, dtype=np.int64)
        apart = (~rows.share * place).sum(axis=1)
        self._orders = SettledOrders(apart.tolist())
        self._masks = np.arange(len(meeting), dtype=np.int64)
        self._size = np.bitwise_count(self._masks).astype(np.int64)
        self._settled = np.zeros(len(meeting), dtype=np.int64)
        for row, others in enumerate(apart.tolist()):
            self._settled += (self._masks >> row & 1 == 1) & (self._masks & others != 0)
        self._tables: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
        self._room = _MOST_PRICES
        self._least = meeting.copy()
        self._lower = np.zeros(len(meeting), dtype=np.int64)
        self._matters = np.zeros(len(meeting), dtype=bool)
        self.subset = int((meeting + extra).argmin())
        self.value = int((meeting + extra)[self.subset])
        if enough is not None:
            self.value = min(self.value, enough)
        self.best: LinearOrder | None = None
        self.bound = 0
        self.num_paths = 0

    def run(self) -> bool:
        """Settle more and more rows; whether the best set is proven."""
        for level in range(2, self._num + 2):
            exact = self._settled < level
            lower = np.where(exact, self._least, 0)
            bound_by_parts(lower, exact, self._kept)
            self._lower, totals = lower, lower + self._extra
            self.bound = max(self.bound, min(int(totals.min()), self.value))
            if self.bound == self.value:
                return True
            self._matters = ~exact & (totals < self.value)
            above = self._matters.copy()
            _spread(above, np.logical_or, down=True)
            rest = totals.copy()
            _spread(rest, np.minimum, down=False)
            for rows in self._masks[(self._size == level) & (self._settled == level) & above].tolist():
                if not self._settle(rows, int(rest[~rows]) - int(self._extra[0])):
                    return False
        return False

    def _settle(self, rows: int, rest: int) -> bool:
        """Price the relations of exactly these settled rows; False out of time.

        The other rows cost at least `rest` by themselves: relations too dear for that are not built upon.
        """
        sets = self._masks[self._masks & rows == rows]
        parts = _Parts(rows, sets, self._size[sets], self._num)
        kept = []
        for order in self._orders.of(rows):
            if time_now() >= self._deadline or self._room < len(sets):
                return False
            least = self._bound(order, parts)
            if least is None:
                continue
            if not self._price(order, parts.sets, least):
                return False
            if int(least[0]) + int(self._extra[rows]) + rest < self.value:
                self._tables[rows, order.before] = least
                self._room -= len(sets)
                kept.append(order)
        self._orders.keep(rows, kept)
        return True

    def _bound(self, order: IntervalOrder, parts: _Parts) -> np.ndarray | None:
        """Bounds on the sets under a relation, by the sets with one row less; None if it need not be looked at.

        As in `bound_by_parts`; without one of the settled rows the relation is another one.
        """
        total = np.zeros(len(parts.sets), dtype=np.int64)
        least = np.zeros(len(parts.sets), dtype=np.int64)
        for row in order.rows:
            part = rest_of(order, row)
            settled = sum(1 << r for r in part.rows)
            table = self._tables.get((settled, part.before)) if settled else self._meeting
            if table is None:
                return None
            cost = table[parts.place(row, settled)]
            total += cost
            np.maximum(least, cost + self._kept[row], out=least)
        for own, smaller, count in parts.steps:
            inside = smaller != own[:, np.newaxis]
            cost = np.where(inside, least[smaller], 0)
            average = -(-(total[own] + cost.sum(axis=1)) // (count - 1))
            most = np.where(inside, cost + self._kept[parts.added], 0).max(axis=1, initial=0)
            least[own] = np.maximum(np.maximum(least[own], average), most)
        return np.maximum(least, self._lower[parts.sets])

    def _price(self, order: IntervalOrder, sets: np.ndarray, least: np.ndarray) -> bool:
        """Raise the bounds under a relation that might be the best one for a set that matters; False out of time.

        No set is left with a total below the best known one: orders that would have it are looked for.
        """
        useful = self._matters[sets] & (least + self._extra[sets] < self.value)
        if useful.any():
            most = int(self._size[sets[useful]].max())
            prices = self._paths.prices(Skeleton(order), most=most)
            if prices is None:
                return False
            self.num_paths += 1
            prices = prices[sets]
            np.maximum(least, prices, out=least, where=prices < NEVER)
        while True:
            totals = least + self._extra[sets]
            k = int(totals.argmin())
            if int(totals[k]) >= self.value:
                break
            found = self._order(int(sets[k]), order)
            if found is None:
                return False
            least[k] = max(int(least[k]), found.cost)
            if found.cost + int(self._extra[sets[k]]) < self.value:
                self.value = found.cost + int(self._extra[sets[k]])
                self.subset, self.best = int(sets[k]), found
        self._least[sets] = np.minimum(self._least[sets], least)
        return True

    def _order(self, subset: int, order: IntervalOrder) -> LinearOrder | None:
        """The cheapest order of a set of rows under a relation, the rows that are not settled meeting all others."""
        rows = np.flatnonzero(subset >> np.arange(self._num) & 1)
        before = dict.fromkeys(rows.tolist(), 0) | dict(zip(order.rows, order.before, strict=True))
        own, parts = self._rows.only(rows)
        relation = renumbered(IntervalOrder(tuple(before), tuple(before.values())), rows)
        found = cheapest_meetings(own, relation, deadline=self._deadline)
        return None if found is None else found.unmerged(parts)


class _Parts:
    """The sets that contain some settled rows, and where the sets with one row less are found.

    Attributes
    ----------
    sets
        int64: the sets, ascending.
    added
        The rows that are not settled.
    steps
        By number of added rows: the sets, shape (num_sets,), those without each of the added rows, shape
        (num_sets, num_added), as indices (of the set itself if it lacks the row), and the number of rows.
    """

    def __init__(self, rows: int, sets: np.ndarray, size: np.ndarray, num: int) -> None:
        self._rows, self._num = rows, num
        self.sets = sets
        self.added = np.flatnonzero((rows >> np.arange(num) & 1) == 0)
        self.steps = []
        index = np.arange(len(sets))
        for count in range(rows.bit_count(), num + 1):
            own = index[size == count]
            bit = np.int64(1) << np.arange(len(self.added))
            self.steps.append((own, own[:, np.newaxis] & ~bit, count))
        self._places: dict[tuple[int, int], np.ndarray] = {}

    def place(self, row: int, settled: int) -> np.ndarray:
        """Index of each set without a settled row among the sets that contain the rows settled then."""
        if (row, settled) not in self._places:
            masks = np.arange(1 << self._num, dtype=np.int64)
            self._places[row, settled] = np.searchsorted(masks[masks & settled == settled], self.sets & ~(1 << row))
        return self._places[row, settled]


def bound_by_parts(cost: np.ndarray, exact: np.ndarray, kept: np.ndarray) -> None:
    """Bound the sets of rows that are not exact by their subsets with one row less, in place.

    Each row appears in all of these but one, so that the sum of their prices is at most size - 1 times the price; and
    no row is covered less than it keeps.

    Parameters
    ----------
    cost
        int64, shape (2^num_rows,): costs; those that are not exact are bounds, and raised.
    exact
        bool, same shape.
    kept
        int64, shape (num_rows,): what a row pays at least.
    """
    num = len(kept)
    masks = np.arange(1 << num)
    size = np.bitwise_count(masks)
    for k in range(2, num + 1):
        sets = masks[(size == k) & ~exact]
        smaller = sets[:, np.newaxis] & ~(1 << np.arange(num))
        inside = smaller != sets[:, np.newaxis]
        prices = np.where(inside, cost[smaller], 0)
        average = -(-prices.sum(axis=1) // (k - 1))
        by_one = np.where(inside, prices + kept, 0).max(axis=1, initial=0)
        cost[sets] = np.maximum(np.maximum(cost[sets], average), by_one)


def _spread(table: np.ndarray, best: np.ufunc, *, down: bool) -> None:
    """Best entry over all sets that contain a set (down), or over all its subsets; in place."""
    for row in range(len(table).bit_length() - 1):
        halves = table.reshape(-1, 2, 1 << row)
        source, target = (1, 0) if down else (0, 1)
        best(halves[:, target], halves[:, source], out=halves[:, target])
