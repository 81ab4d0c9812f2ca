"""The order in which the rows of one block open and close, and every move of one event priced at once.

Classes are placed best for the order of events: each at the cheapest moment at which all its rows are open. This needs
no condition; where every two rows share a class `solvers.spans.heuristics.chain_moves` is the same search, faster.
"""

from __future__ import annotations

import numpy as np

from solvers.common.block_rows import BlockRows

_MOST_KICKS = 3  # moves: of a kick, at most; by hand
_NEVER = 2.0**62  # cost: of what cannot be, as a float


class EventOrder:
    """A sequence of events and its price: a `solvers.common.climbing.Climber`.

    Parameters
    ----------
    rows
        The block.
    events
        int array: row r opens (r) or closes (num_rows + r); rows that are open from the start have no opening, those
        open until the end no closing. Every class must have a moment at which all its rows are open.

    Attributes
    ----------
    events
        The sequence as it is.
    price
        Cost of the classes at their places, an upper bound on the cost of `sequence`.
    """

    def __init__(self, rows: BlockRows, events: np.ndarray) -> None:
        self._rows = rows
        self._bits = rows.paying_bits
        self._weight = rows.weight.astype(np.float64)
        self._slope = rows.slope.astype(np.float64)
        shares = rows.bits.T.astype(np.float32) @ rows.bits > 0
        self._shares = shares | np.eye(rows.num_rows, dtype=bool)
        self.events = events
        self._begin, self._end, self._levels = self._measure(events)
        self.price = self._total()

    @classmethod
    def of_sequence(cls, rows: BlockRows, sequence: np.ndarray) -> EventOrder:
        """The events in an order of the classes: a row opens just before its first class and closes after its last."""
        bits = rows.bits[sequence]
        first = bits.argmax(axis=0) * 2.0
        last = (len(bits) - 1 - bits[::-1].argmax(axis=0)) * 2.0 + 1
        time = np.concatenate([first, np.where(bits.any(axis=0), last, first + 0.5)])
        events = np.flatnonzero(~np.concatenate([rows.left, rows.right]))
        return cls(rows, events[np.argsort(time[events], kind="stable")])

    @property
    def num_parts(self) -> int:
        """One neighbourhood per event."""
        return len(self.events)

    def improve(self, part: int) -> bool:
        """Move one event to its best place if that lowers the price; says whether it does."""
        event = int(np.sort(self.events)[part])
        prices = self.prices(event)
        k = int(prices.argmin())
        if prices[k] >= self.price:
            return False
        self.move(event, k)
        return True

    def kick(self, rng: np.random.Generator) -> None:
        """Move one to three events to random places where they may be."""
        for _ in range(int(rng.integers(1, _MOST_KICKS + 1))):
            event = int(rng.choice(self.events))
            first, last = self._range(event)
            self.move(event, int(rng.integers(first, last + 1)))

    def state(self) -> np.ndarray:
        """The events, for `restore` and for another `EventOrder`."""
        return self.events

    def restore(self, state: np.ndarray) -> None:
        """Return to an earlier state."""
        if state is not self.events:
            self.events = state
            self._begin, self._end, self._levels = self._measure(state)
            self.price = self._total()

    def move(self, event: int, k: int) -> None:
        """Take an event out and put it back with k events before it."""
        rest = self.events[self.events != event]
        self.restore(np.concatenate([rest[:k], [event], rest[k:]]))

    def prices(self, event: int) -> np.ndarray:
        """Price by the number of events put before one of them.

        Returns
        -------
        np.ndarray
            float64, shape (num_events,): whole numbers, or a huge one where a class would have no place.
        """
        closes, row = divmod(event, self._rows.num_rows)
        rest = self.events[self.events != event]
        begin, end, levels = self._measure(rest)
        has, num, slope = self._bits[:, row], len(rest), self._slope[row]
        if closes:  # seen from the right, closings are openings
            begin, end, levels = num - end, num - begin, levels[::-1] - slope
        least = _range_minima(levels)
        k = np.arange(num + 1)[:, np.newaxis]

        (lo, hi), mass = _grouped(begin[~has], end[~has], self._weight[~has], num + 1)
        before = np.where(lo <= k, least[lo, np.minimum(hi, k)], _NEVER)
        after = np.where(hi > k, least[np.minimum(np.maximum(lo, k + 1), num), hi] + slope, _NEVER)
        total = np.minimum(before, after) @ mass

        (lo, hi), mass = _grouped(begin[has], end[has], self._weight[has], num + 1)
        inside = np.where(hi >= k, least[np.maximum(lo, np.minimum(k, hi)), hi] + slope, _NEVER)
        total += inside @ mass
        return total[::-1] if closes else total

    def sequence(self) -> np.ndarray:
        """The classes from left to right; int, shape (num_classes,)."""
        cell = np.arange(len(self._levels))
        allowed = (cell >= self._begin[:, np.newaxis]) & (cell <= self._end[:, np.newaxis])
        return np.argsort(np.where(allowed, self._levels, _NEVER).argmin(axis=1), kind="stable")

    def _range(self, event: int) -> tuple[int, int]:
        """Least and largest number of other events before one, so that rows that share a class are open together."""
        closes, row = divmod(event, self._rows.num_rows)
        rest = self.events[self.events != event]
        partners = np.flatnonzero(self._shares[row])
        where = np.flatnonzero(np.isin(rest, partners if closes else partners + self._rows.num_rows))
        if closes:
            return int(where.max(initial=-1)) + 1, len(rest)
        return 0, int(where.min(initial=len(rest)))

    def _measure(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First and last cell of every class, and the slope of the open rows in every cell.

        A cell lies between two events; cell j has j events before it. Events left out count as if their row were
        closed before its opening, and open after its closing.
        """
        num, num_rows = len(events), self._rows.num_rows
        rank = np.full(2 * num_rows, -1)
        rank[events] = np.arange(num)
        begin = np.where(self._bits, rank[:num_rows] + 1, 0).max(axis=1, initial=0)
        end_of_row = np.where(rank[num_rows:] < 0, num, rank[num_rows:])
        end = np.where(self._bits, end_of_row, num).min(axis=1, initial=num)
        step = np.where(events < num_rows, 1.0, -1.0) * self._slope[events % num_rows]
        base = float(self._slope[self._rows.left].sum())
        return begin, end, base + np.concatenate([[0.0], np.cumsum(step)])

    def _total(self) -> int:
        if (self._begin > self._end).any():
            return int(_NEVER)
        return int(_range_minima(self._levels)[self._begin, self._end] @ self._weight)


def _range_minima(levels: np.ndarray) -> np.ndarray:
    """Least of ``levels[i : j + 1]`` for all i <= j; float64, shape (n, n)."""
    num = len(levels)
    upper = np.where(np.tri(num, dtype=bool).T, levels, np.inf)
    least: np.ndarray = np.minimum.accumulate(upper, axis=1)
    return least


def _grouped(lo: np.ndarray, hi: np.ndarray, weight: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The different pairs (lo, hi), shape (2, number of them), and the weight of each."""
    mass = np.bincount(lo * num + hi, weight, num * num)
    cell = np.flatnonzero(mass)
    return np.array(np.divmod(cell, num)), mass[cell]
