"""Local search over words: take an access out and put it back at its best two places.

All pairs of places are tried, each exactly: with m accesses and n channels a move takes O(m^2 n) steps. A move never
makes a word worse, because the access's own places are among those tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from solvers.windows.cells import CellValues, cells_of, value_of

NUM_STARTS = 6  # words: that are built access by access in random orders; by hand
_PATIENCE = 5  # kicks: without success per access, after which the search ends; by hand
_MOST_KICKED = 3  # accesses: most that a kick takes out at once; by hand


def best_insertion(values: CellValues, events: list[int], bit: int) -> tuple[float, list[int]]:
    """The best word that a word without some access becomes when the access is added, and its value.

    Parameters
    ----------
    values
        Values of cells.
    events
        A word of bits that does not contain `bit`. Accesses that it lacks are held nowhere.
    bit
        The access to add.
    """
    cells = cells_of(events)
    without, holding = values.of(cells), values.of(cells | 1 << bit)
    prefix = np.minimum.accumulate(np.minimum(without, values.always), axis=0)
    suffix = np.minimum.accumulate(without[::-1], axis=0)[::-1]
    best, place = np.inf, (0, len(events))
    for i in range(len(cells)):
        reached = np.minimum.accumulate(holding[i:], axis=0)
        np.minimum(reached, suffix[i:], out=reached)
        np.minimum(reached, prefix[i], out=reached)
        totals = reached.sum(axis=1)
        j = int(np.argmin(totals))
        if totals[j] < best:
            best, place = float(totals[j]), (i, i + j)
    i, j = place
    return best, [*events[:i], bit, *events[i:j], bit, *events[j:]]


class WordSearch:
    """The best word so far, and the moves that improve it.

    Parameters
    ----------
    values
        Values of cells.
    rng
        The random generator. The same state gives the same words, unless time runs out.
    deadline
        A reading of ``time.perf_counter``, in seconds, at which the search ends.
    report
        Called with the value of every better word.
    """

    def __init__(
        self, values: CellValues, rng: np.random.Generator, deadline: float, report: Callable[[float], None]
    ) -> None:
        self._values, self._rng, self._deadline, self._report = values, rng, deadline, report
        self._least = values.problem.tolerance
        self.events: list[int] = []
        self.value = np.inf

    def run(self, starts: Iterable[list[int]], num_built: int = NUM_STARTS) -> None:
        """Search from some words, from built ones, then by kicks until many in a row have failed.

        Parameters
        ----------
        starts
            Words of bits, at least one.
        num_built
            How many words are built.
        """
        bits = range(len(self._values.bits))
        for start in starts:
            self._offer(value_of(self._values, start), start)
            self._offer_improved(start)
        for _ in range(num_built if len(bits) > 1 else 0):
            self._offer_improved(self._with([], bits))
        failures = 0
        while len(bits) > 2 and failures < _PATIENCE * len(bits) and not self._late:
            count = int(self._rng.integers(2, min(_MOST_KICKED, len(bits) - 1) + 1))
            taken = self._rng.choice(len(bits), size=count, replace=False).tolist()
            kicked = self._with([bit for bit in self.events if bit not in taken], taken)
            failures = 0 if self._offer_improved(kicked) else failures + 1

    @property
    def _late(self) -> bool:
        return time.perf_counter() >= self._deadline

    def _offer(self, value: float, events: list[int]) -> bool:
        improves = value < self.value - self._least or not np.isfinite(self.value)
        if improves:
            self.value, self.events = value, events
            self._report(value)
        return improves

    def _offer_improved(self, events: list[int] | None) -> bool:
        return events is not None and self._offer(*self._improved(events))

    def _with(self, events: list[int], bits: Iterable[int]) -> list[int] | None:
        """A word with more accesses, each put at its best places, in random order; None if time runs out."""
        for bit in self._rng.permutation(list(bits)).tolist():
            if self._late:
                return None
            _, events = best_insertion(self._values, events, bit)
        return events

    def _improved(self, events: list[int]) -> tuple[float, list[int]]:
        """A word that no single move improves, or the best when time runs out."""
        value = value_of(self._values, events)
        while True:
            before = value
            for bit in self._rng.permutation(len(self._values.bits)).tolist():
                if self._late:
                    return value, events
                found, moved = best_insertion(self._values, [own for own in events if own != bit], bit)
                if found < value - self._least:
                    value, events = found, moved
            if value >= before:
                return value, events
