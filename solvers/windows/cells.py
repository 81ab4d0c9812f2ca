"""V_c(C) of the cells that a method asks for, looked up in a table of all cells or computed when needed."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from problems.windows.problem import WindowProblem
from solvers.windows.expansion import Expansion

TABLE_BYTES = 2**28  # bytes: most that a table of the values of all cells takes; by hand
TABLE_BITS = 12  # accesses: most that are not pinned for such a table; by hand


class CellValues:
    """The values of cells. A cell is a whole number: it holds access ``bits[i]`` where its bit i is 1.

    Attributes
    ----------
    problem
        The problem.
    bits
        The accesses that are not pinned.
    always
        Per channel the cost that every word offers: it is not stored, or held by the pinned accesses only.
    """

    def __init__(self, problem: WindowProblem) -> None:
        self.problem = problem
        self.expansion = Expansion(problem)
        self.bits = self.expansion.bits
        self.always = np.minimum(problem.dropped, self._computed(np.zeros(1, dtype=np.int64))[0])

    @property
    def has_table(self) -> bool:
        """Whether there is a `table`: if not too many accesses are free."""
        cells = 2 ** len(self.bits)
        return len(self.bits) <= TABLE_BITS and 8 * cells * self.problem.num_channels <= TABLE_BYTES

    @cached_property
    def table(self) -> np.ndarray:
        """V_c(C) of all cells, shape (cells, channels)."""
        table = np.empty((2 ** len(self.bits), self.problem.num_channels))
        for own, values in self.expansion.chunks(np.arange(self.problem.num_channels)):
            table[:, own] = values.T
        return table

    def of(self, cells: np.ndarray) -> np.ndarray:
        """V_c(C) of some cells, shape (cells, channels)."""
        return self.table[cells] if self.has_table else self._computed(cells)

    def word_of(self, events: list[int]) -> tuple[int, ...]:
        """A word of bits as a word of accesses."""
        return tuple(self.bits[bit] for bit in events)

    def events_of(self, word: tuple[int, ...]) -> list[int]:
        """A word of accesses as a word of bits."""
        return [self.bits.index(access) for access in word]

    def _computed(self, cells: np.ndarray) -> np.ndarray:
        held = np.ones((len(cells), self.problem.num_accesses), dtype=bool)
        held[:, list(self.bits)] = cells[:, np.newaxis] >> np.arange(len(self.bits)) & 1
        return self.problem.values(held)


def cells_of(events: list[int]) -> np.ndarray:
    """The cells of a word of bits, shape (events + 1,).

    Examples
    --------
    >>> cells_of([0, 1, 0, 1]).tolist()
    [0, 1, 3, 2, 0]
    """
    toggles = np.array([0, *(1 << bit for bit in events)], dtype=np.int64)
    return np.bitwise_xor.accumulate(toggles)


def value_of(values: CellValues, events: list[int]) -> float:
    """The value of a word: every channel in its best cell."""
    return float(np.minimum(values.of(cells_of(events)).min(axis=0), values.always).sum())
