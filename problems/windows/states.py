"""The 3^m states of a word in progress: every access is unopened, open or closed.

A word is a path from the state with all accesses unopened to the one with all closed. It passes one state per cell.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np


class States:
    """All states of `num_bits` accesses. They are numbered so that every event leads to a higher number.

    Attributes
    ----------
    num_bits
        Number of accesses.
    open
        Per state the cell: the accesses that are open, as bits.
    next
        Shape (states, accesses): the state after the next event of an access; `end` + 1 where it is closed.
    end
        The last state, in which all are closed. The first state is 0.
    """

    def __init__(self, num_bits: int) -> None:
        self.num_bits = num_bits
        digits = np.arange(3**num_bits)[:, np.newaxis] // 3 ** np.arange(num_bits) % 3
        levels = digits.sum(axis=1)
        order = np.argsort(levels, kind="stable")
        number = np.empty(len(order) + 1, dtype=np.int64)
        number[order] = np.arange(len(order))
        number[-1] = len(order)
        self._digits = digits[order].astype(np.int8)
        self.end = len(order) - 1
        self.open = (self._digits == 1) @ (1 << np.arange(num_bits)) if num_bits else np.zeros(1, dtype=np.int64)
        after = order[:, np.newaxis] + 3 ** np.arange(num_bits)
        self.next = number[np.where(self._digits == 2, len(order), after)].astype(np.int32)
        starts = np.searchsorted(levels[order], np.arange(2 * num_bits + 2))
        self._levels = [slice(a, b) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist())]

    @cached_property
    def highest(self) -> np.ndarray:
        """Per state the highest access that is not closed; -1 in the last state."""
        places = np.where(self._digits < 2, np.arange(self.num_bits), -1)
        return places.max(axis=1, initial=-1)

    def most_ahead(self, gains: np.ndarray) -> np.ndarray:
        """Per state the largest sum of the gains of the cells of a path from it to the end, its own cell included.

        Parameters
        ----------
        gains
            Per cell its gain, shape (cells,).

        Returns
        -------
        np.ndarray
            Shape (states + 1,); the last entry is minus infinity.
        """
        most = np.full(self.end + 2, -np.inf)
        most[self.end] = gains[0]
        for level in self._levels[-2::-1]:
            most[level] = gains[self.open[level]] + most[self.next[level]].max(axis=1)
        return most

    def least_ahead(self, table: np.ndarray) -> np.ndarray:
        """Per state and channel the least value of a cell that is yet to come, its own included.

        Parameters
        ----------
        table
            Shape (cells, channels).

        Returns
        -------
        np.ndarray
            Shape (states, channels).
        """
        least = np.full((self.end + 2, table.shape[1]), np.inf)
        least[self.end] = table[0]
        for level in self._levels[-2::-1]:
            least[level] = table[self.open[level]]
            for bit in range(self.num_bits):
                np.minimum(least[level], least[self.next[level, bit]], out=least[level])
        return least[:-1]

    def best_path(self, most: np.ndarray) -> list[int]:
        """The word of bits along a path that `most_ahead` found."""
        events, state = [], 0
        while state != self.end:
            bit = int(np.argmax(most[self.next[state]]))
            events.append(bit)
            state = int(self.next[state, bit])
        return events


@lru_cache(maxsize=4)
def states_of(num_bits: int) -> States:
    """The states of a number of accesses; made once."""
    return States(num_bits)
