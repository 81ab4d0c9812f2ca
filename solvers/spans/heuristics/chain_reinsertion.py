"""Several rows of a chain taken out and put back at the best places of all, exactly: a large neighbourhood.

The other rows keep their relative order and the other chain stays. A set of open rows is then a number of rows that
stay and a subset of those that were taken out, so that a DP over few sets looks at (n choose w) w! chains.
"""

from __future__ import annotations

import numpy as np

from solvers.spans.heuristics.chain_moves import ChainPair

MAX_CELLS = 400_000  # numbers: in the table of a reinsertion: about 10 rows of 24, 8 of 40 (measured: 5 to 20 ms)


def most_reinserted(num_rows: int, num_other: int, *, max_cells: int = MAX_CELLS) -> int:
    """How many rows of a chain may be taken out together.

    Parameters
    ----------
    num_rows, num_other
        Rows of the chain and of the other one.
    max_cells
        Most numbers in the table.

    Examples
    --------
    >>> most_reinserted(24, 24), most_reinserted(5, 5)
    (10, 5)
    """
    most = 0
    while most < num_rows and (num_rows - most) * 2 ** (most + 1) * (num_other + 1) <= max_cells:
        most += 1
    return most


def reinserted(pair: ChainPair, side: int, taken: np.ndarray) -> tuple[int, np.ndarray]:
    """Put rows of one chain back where they cost least.

    Parameters
    ----------
    pair
        The chains; they are left as they are.
    side
        Which chain.
    taken
        int: the rows to be moved, each once; time and memory double with each.

    Returns
    -------
    tuple
        The least price, and a chain that has it.
    """
    chain = pair.chains[side]
    staying = chain[~np.isin(chain, taken)]
    table = _Table(pair, side, staying, taken)
    return table.price, table.chain()


class _Table:
    """The DP: rows of the tables are numbers of staying rows, columns subsets of the taken ones."""

    def __init__(self, pair: ChainPair, side: int, staying: np.ndarray, taken: np.ndarray) -> None:
        self._staying, self._taken = staying, taken
        inside = self._inside(pair, side)
        other = pair.levels[1 - side]
        slope = pair.slope
        added = _subset_sums(slope[taken])
        level = pair.levels[side][0] + np.concatenate([[0.0], np.cumsum(slope[staying])])[:, np.newaxis] + added
        paid = np.minimum(level[:, :, np.newaxis], other)
        covered = np.einsum("jmo,jmo->jm", inside, paid)
        self._from_staying = covered[1:] - np.einsum("jmo,jmo->jm", inside[:-1], paid[1:])
        self._from_taken = np.stack(
            [covered - _without(inside, paid, bit) for bit in range(len(taken))] or [np.zeros((0, 0))]
        )
        self._fill(float(covered[0, 0]))
        self.price = int(self._value[-1, -1])

    def chain(self) -> np.ndarray:
        """A chain of least price."""
        j, mask = self._value.shape[0] - 1, self._value.shape[1] - 1
        back: list[int] = []
        while j or mask:
            here = self._value[j, mask]
            if j and self._value[j - 1, mask] + self._from_staying[j - 1, mask] == here:
                j -= 1
                back.append(int(self._staying[j]))
                continue
            for bit, row in enumerate(self._taken.tolist()):
                before = mask & ~(1 << bit)
                if before != mask and self._value[j, before] + self._from_taken[bit, j, mask] == here:
                    mask = before
                    back.append(row)
                    break
        return np.array(back[::-1], dtype=np.int64)

    def _inside(self, pair: ChainPair, side: int) -> np.ndarray:
        """Weight of the classes inside each set of rows, by their depth in the other chain."""
        num, num_taken, num_other = len(self._staying), len(self._taken), len(pair.levels[1 - side])
        last = (pair.bits[:, self._staying] * np.arange(1, num + 1)).max(axis=1, initial=0)
        mask = pair.bits[:, self._taken] @ (1 << np.arange(num_taken))
        cell = ((last << num_taken) + mask) * num_other + pair.depth[1 - side]
        inside = np.bincount(cell, pair.weight, (num + 1) * num_other << num_taken).reshape(num + 1, -1, num_other)
        for j in range(1, num + 1):
            inside[j] += inside[j - 1]
        for bit in range(num_taken):
            halves = inside.reshape(num + 1, -1, 2, 1 << bit, num_other)
            halves[:, :, 1] += halves[:, :, 0]
        return inside

    def _fill(self, start: float) -> None:
        """Least price up to each set; subsets by size."""
        size = np.bitwise_count(np.arange(1 << len(self._taken)))
        by_size = [np.flatnonzero(size == k) for k in range(len(self._taken) + 1)]
        self._value = value = np.full((len(self._staying) + 1, len(size)), np.inf)
        for j in range(len(value)):
            if j:
                value[j] = value[j - 1] + self._from_staying[j - 1]
            else:
                value[0, 0] = start
            for masks in by_size[1:]:
                for bit in range(len(self._taken)):
                    own = masks[masks >> bit & 1 == 1]
                    through = value[j, own ^ (1 << bit)] + self._from_taken[bit, j, own]
                    value[j, own] = np.minimum(value[j, own], through)


def _subset_sums(amounts: np.ndarray) -> np.ndarray:
    sums = np.zeros(1)
    for amount in amounts.tolist():
        sums = np.concatenate([sums, sums + amount])
    return sums


def _without(inside: np.ndarray, paid: np.ndarray, bit: int) -> np.ndarray:
    """What the classes inside each set less one row would pay at the level of the whole set; 0 for sets without it."""
    rows, masks, num_other = inside.shape
    shape = (rows, masks >> bit + 1, 2, 1 << bit, num_other)
    before, now = inside.reshape(shape)[:, :, 0], paid.reshape(shape)[:, :, 1]
    result = np.zeros((rows, masks >> bit + 1, 2, 1 << bit))
    result[:, :, 1] = np.einsum("jamo,jamo->jam", before, now)
    return result.reshape(rows, masks)
