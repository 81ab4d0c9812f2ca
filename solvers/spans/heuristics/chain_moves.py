"""Two chains of one block, and every move of one row within its chain priced at once.

From the left end rows open one after another, from the right end too, and each class lies at the cheaper of the first
sets of open rows that contain all its rows. Where every two rows share a class no order is cheaper than the best pair
of chains (docs/model.md); elsewhere the price of the chains bounds that of the order they give.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_matrix

from solvers.common.block_rows import BlockRows

_MOST_KICKS = 3  # moves: of a kick, at most; by hand


class ChainPair:
    """Two chains and their price: a `solvers.common.climbing.Climber`.

    Parameters
    ----------
    rows
        The block.
    chains
        Two int arrays: the rows that are not open from the start, in the order in which they open from the left, and
        those that are not open until the end, in the order in which they open from the right.

    Attributes
    ----------
    chains
        The chains as they are.
    movable
        Per side the rows of the chain, ascending.
    price
        Cost of the classes at their places, an upper bound on the cost of `sequence`.
    """

    def __init__(self, rows: BlockRows, chains: tuple[np.ndarray, np.ndarray]) -> None:
        self._rows = rows
        self.bits = rows.paying_bits
        self.weight = rows.weight.astype(np.float64)
        self.slope = rows.slope.astype(np.float64)
        self._base = [float(self.slope[anchored].sum()) for anchored in (rows.left, rows.right)]
        self.movable = [np.sort(chain) for chain in chains]
        self._mass = [self.bits[:, own] * self.weight[:, np.newaxis] for own in self.movable]
        self.chains = [chains[0].copy(), chains[1].copy()]
        self.levels: list[np.ndarray] = [np.zeros(0)] * 2
        self.depth: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * 2
        self._second: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * 2
        for side in (0, 1):
            self._measure(side)
        self.price = self._total()

    @classmethod
    def of_sequence(cls, rows: BlockRows, sequence: np.ndarray) -> ChainPair:
        """The chains in which the rows open from both ends of an order of the classes."""
        bits = rows.bits[sequence]
        first, last = bits.argmax(axis=0), bits[::-1].argmax(axis=0)
        opening, closing = np.flatnonzero(~rows.left), np.flatnonzero(~rows.right)
        return cls(
            rows,
            (
                opening[np.argsort(first[opening], kind="stable")],
                closing[np.argsort(last[closing], kind="stable")],
            ),
        )

    @property
    def num_parts(self) -> int:
        """Two neighbourhoods: one chain, the other chain."""
        return 2

    def improve(self, part: int) -> bool:
        """Make the best move within one chain if it lowers the price; says whether it does."""
        if len(self.chains[part]) < 2:
            return False
        prices = self.prices(part)
        k, i = np.unravel_index(int(prices.argmin()), prices.shape)
        if prices[k, i] >= self.price:
            return False
        self.move(part, int(self.movable[part][i]), int(k))
        return True

    def kick(self, rng: np.random.Generator) -> None:
        """Move one to three rows, in one chain or in both, to random places."""
        for _ in range(int(rng.integers(1, _MOST_KICKS + 1))):
            both = rng.random() < 0.5
            sides = (0, 1) if both else (int(rng.integers(2)),)
            row = int(rng.integers(self._rows.num_rows))
            for side in sides:
                if row in self.chains[side]:
                    self.move(side, row, int(rng.integers(len(self.chains[side]))))

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """The chains, for `restore` and for another `ChainPair`."""
        return self.chains[0], self.chains[1]

    def restore(self, state: tuple[np.ndarray, np.ndarray]) -> None:
        """Return to an earlier state."""
        for side in (0, 1):
            self.replace(side, state[side])

    def replace(self, side: int, chain: np.ndarray) -> None:
        """Take another order of the rows of one chain."""
        if chain is not self.chains[side]:
            self.chains[side] = chain
            self._measure(side)
            self.price = self._total()

    def move(self, side: int, row: int, k: int) -> None:
        """Take a row out of a chain and put it back with k rows before it."""
        chain = self.chains[side]
        rest = chain[chain != row]
        self.replace(side, np.concatenate([rest[:k], [row], rest[k:]]))

    def prices(self, side: int) -> np.ndarray:
        """Price after each move of one row within a chain.

        Returns
        -------
        np.ndarray
            float64 of whole numbers, shape (n, n) for a chain of n rows: entry (k, i) is the price if row
            ``movable[side][i]`` is taken out and put back with k rows before it.
        """
        own, other = self.levels[side], self.levels[1 - side]
        num = len(own) - 1
        slope = self.slope[self.movable[side]]
        place = np.argsort(self.chains[side])
        passed = np.arange(num)[:, np.newaxis] > place
        levels = np.where(passed, own[1:, np.newaxis] - slope, own[:-1, np.newaxis])[:, np.newaxis]
        low = np.minimum(levels, other[:, np.newaxis])
        high = np.minimum(levels + slope, other[:, np.newaxis])
        everything = np.bincount(
            self.depth[side] * len(other) + self.depth[1 - side], self.weight, (num + 1) * len(other)
        ).reshape(num + 1, len(other), 1)
        behind, last = self._keeping(side, place)
        without = np.where(passed[:, np.newaxis], everything[1:], everything[:-1]) - behind
        keeping = behind + last

        lifted, stays = np.einsum("koi,koi->ki", keeping, high), np.einsum("koi,koi->ki", without, high)
        moved = np.cumsum(np.einsum("koi,koi->ki", without, low) - stays, axis=0)
        moved += (stays + lifted).sum(axis=0)
        moved[1:] -= np.cumsum(lifted, axis=0)[:-1]
        for k in range(1, num):
            keeping[k] += keeping[k - 1]
        moved[1:] += np.einsum("koi,koi->ki", keeping[:-1], high[1:])
        return moved

    def sequence(self) -> np.ndarray:
        """The classes from left to right; int, shape (num_classes,)."""
        price = [self.levels[side][self.depth[side]] for side in (0, 1)]
        most = self._rows.num_rows + 2
        place = np.where(price[0] <= price[1], self.depth[0] - most, most - self.depth[1])
        return np.argsort(place, kind="stable")

    def _measure(self, side: int) -> None:
        """Levels of the chain, and for every class the largest and second largest rank of its rows, from 1."""
        chain = self.chains[side]
        self.levels[side] = self._base[side] + np.concatenate([[0.0], np.cumsum(self.slope[chain])])
        ranks = self.bits[:, chain] * np.arange(1, len(chain) + 1)
        self.depth[side] = ranks.max(axis=1, initial=0)
        ranks[ranks == self.depth[side][:, np.newaxis]] = 0
        self._second[side] = ranks.max(axis=1, initial=0)

    def _keeping(self, side: int, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of the classes that row i keeps, by their depth without it and by their depth in the other chain.

        Two arrays of shape (n, m, n), rows last: the classes that a row behind i keeps too, and those that i is the
        last to open. `place` is the rank of every row in the chain, from 0.
        """
        num, num_other = len(place), len(self.levels[1 - side])
        opened = np.flatnonzero(self.depth[side])
        depth, there, weight = self.depth[side][opened] - 1, self.depth[1 - side][opened], self.weight[opened]
        cells = csc_matrix(
            (np.ones(len(opened)), depth * num_other + there, np.arange(len(opened) + 1)),
            shape=(num * num_other, len(opened)),
        )
        behind = (cells @ self._mass[side][opened]).reshape(num, num_other, num)
        final = np.argsort(place)
        diagonal = np.bincount(depth * num_other + there, weight, num * num_other).reshape(num, num_other)
        behind[np.arange(num), :, final] -= diagonal
        cell = (self._second[side][opened] * num_other + there) * num + final[depth]
        last = np.bincount(cell, weight, num * num_other * num).reshape(behind.shape)
        return behind, last

    def _total(self) -> int:
        here = [self.levels[side][self.depth[side]] for side in (0, 1)]
        return int(np.minimum(*here) @ self.weight)
