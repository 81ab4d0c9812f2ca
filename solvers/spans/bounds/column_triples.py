"""Three classes of which each lies apart from a chain of rows that joins the other two: some row must over-read.

Whatever the order, one of the three lies between the other two, and the chain that joins these covers it without
keeping it. Tucker (1972, "A structure theorem for the consecutive 1's property") calls the three asteroidal: a 0/1
matrix has the consecutive-ones property exactly if it has no such three.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from solvers.common.clock import WORK_OF_PAIR, time_now

_SWEEPS = 3  # sweeps: over all rows, that make chains longer; by hand
_NEVER = 1e6  # price: of a row that keeps the class it should lie apart from; by hand
_SLACK = 0.01  # share: of 1, that the price of three classes must lie below it; by hand
_LEAST_PRICE = 1e-3  # price: that every row costs, so that chains are short; by hand


@dataclass(frozen=True)
class Triple:
    """Three classes with their chains.

    Attributes
    ----------
    classes
        Three indices of classes; the start of the block is the number of classes, its end one more.
    chains
        For each of them the rows of a chain that joins the other two, none of which keeps it; empty for an end of the
        block, which never lies between.
    """

    classes: tuple[int, int, int]
    chains: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def cells(self) -> set[tuple[int, int]]:
        """Classes and the rows apart from them: one of these rows covers its class, whatever the order."""
        return {(s, row) for s, chain in zip(self.classes, self.chains, strict=True) for row in chain}


class TripleSearch:
    """Looks for the cheapest triples of one block.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_rows): which rows keep each class.
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end.

    Examples
    --------
    >>> triangle, free = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=bool), np.zeros(3, dtype=bool)
    >>> for triple in TripleSearch(triangle, free, free).found(np.zeros((3, 3)), np.zeros(3), most=10):
    ...     print(triple, sorted(triple.cells))
    Triple(classes=(0, 1, 2), chains=((2,), (1,), (0,))) [(0, 2), (1, 1), (2, 0)]
    """

    def __init__(self, bits: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        self._num, num_rows = bits.shape
        ends = np.stack([left, right])
        self._keeps = np.concatenate([bits, ends])
        self._places = np.flatnonzero(np.concatenate([np.ones(self._num, dtype=bool), ends.any(axis=1)]))
        kept = self._keeps.astype(np.float32)
        meet = kept.T @ kept > 0
        self._keepers = [np.flatnonzero(own) for own in self._keeps]
        self._meets = [np.flatnonzero(meet[row] & (np.arange(num_rows) != row)) for row in range(num_rows)]

    def found(self, cell_price: np.ndarray, row_price: np.ndarray, *, most: int) -> Iterator[Triple]:
        """Triples whose rows cost less than 1 together, cheapest first: for every two classes the best third.

        Parameters
        ----------
        cell_price
            float, shape (num_classes, num_rows): of a row that covers a class which it does not keep.
        row_price
            float, shape (num_rows,): of a row wherever it is in a chain.
        most
            Triples at most.
        """
        price = np.full(self._keeps.shape, _LEAST_PRICE, dtype=np.float32)
        price[: self._num] += cell_price + row_price
        price[self._keeps] = _NEVER
        chains = self._chains(price[: self._num])
        joined = self._joined(chains)
        total = joined + joined.transpose(2, 0, 1) + joined.transpose(1, 2, 0)
        place = np.arange(len(self._places))
        total[~((place[:, None, None] < place[:, None]) & (place[:, None] < place))] = _NEVER
        for own in _cheapest(total, most):
            first, second, third = (int(self._places[k]) for k in np.unravel_index(own, total.shape))
            yield Triple(
                (first, second, third),
                (
                    self._chain(chains, first, second, third),
                    self._chain(chains, second, third, first)[::-1],  # in the direction whose price was added up
                    self._chain(chains, third, first, second),
                ),
            )

    def _chains(self, price: np.ndarray) -> np.ndarray:
        """Price of the cheapest chain from row to row apart from each class; shape (num_classes, num_rows, num_rows).

        Each row of a chain shares a class with the next; both its ends are counted. Some long chains are found in one
        direction only.
        """
        num_rows = price.shape[1]
        chains = np.full((self._num, num_rows, num_rows), _NEVER, dtype=np.float32)
        own = np.arange(num_rows)
        chains[:, own, own] = price
        for _ in range(_SWEEPS):
            before = chains.sum()
            for row, others in enumerate(self._meets):
                if len(others):
                    longer = chains[:, :, others].min(axis=2) + price[:, row, np.newaxis]
                    np.minimum(chains[:, :, row], longer, out=chains[:, :, row])
            time_now(WORK_OF_PAIR * self._num * num_rows * sum(map(len, self._meets)))
            if chains.sum() == before:
                break
        return chains

    def _joined(self, chains: np.ndarray) -> np.ndarray:
        """Price of the cheapest chain from class to class apart from each class, over the places; 0 apart from ends."""
        by_place = [self._keepers[s] for s in self._places]
        num = len(self._places)
        from_class = np.stack([chains[:, rows].min(axis=1, initial=_NEVER) for rows in by_place], axis=1)
        joined = np.zeros((num, num, num), dtype=np.float32)
        for v, rows in enumerate(by_place):
            joined[: self._num, :, v] = from_class[:, :, rows].min(axis=2, initial=_NEVER)
        time_now(WORK_OF_PAIR * num * num * sum(map(len, by_place)))
        return joined

    def _chain(self, chains: np.ndarray, apart: int, first: int, last: int) -> tuple[int, ...]:
        """The rows of the cheapest chain from class `first` to class `last` apart from class `apart`."""
        if apart >= self._num:
            return ()
        price, starts, ends = chains[apart], self._keepers[first], self._keepers[last]
        i, j = divmod(int(price[starts[:, np.newaxis], ends].argmin()), len(ends))
        start, row = int(starts[i]), int(ends[j])
        chain = [row]
        while row != start:
            others = self._meets[row]
            row = int(others[price[start, others].argmin()])
            chain.append(row)
        return tuple(reversed(chain))


def _cheapest(total: np.ndarray, most: int) -> np.ndarray:
    """Where in a cube the least number of some line along an axis is below 1, as flat indices, least numbers first."""
    places = np.indices(total.shape[:2]).reshape(2, -1)
    found = []
    for axis in range(3):
        index = list(places)
        index.insert(axis, total.argmin(axis=axis).ravel())
        found.append(np.ravel_multi_index(tuple(index), total.shape))
    every = np.unique(np.concatenate(found))
    price = total.ravel()[every]
    every, price = every[price < 1 - _SLACK], price[price < 1 - _SLACK]
    cheapest: np.ndarray = every[np.argsort(price, kind="stable")[:most]]
    return cheapest
