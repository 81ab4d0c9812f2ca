"""Losses of all cells at once: a channel's loss is a bilinear form in products of two writers and of two readers.

With w_t and r_j = 1 where a cell holds writer t and reader j, a pair is whole if ``w_t r_j = 1``. So the loss is a
polynomial whose monomials are ``w_t w_t' r_j r_j'``. Its coefficients form one matrix per channel, between products of
writers and products of readers. Two matrix products give the losses of all cells.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from problems.windows.losses import chunks
from problems.windows.problem import Role, WindowProblem


class Expansion:
    """V_c(C) of all cells C, in chunks of channels.

    Attributes
    ----------
    bits
        The accesses that are not pinned: writers first, then readers. Cell x holds ``bits[i]`` where bit i of x is 1.
    """

    def __init__(self, problem: WindowProblem) -> None:
        self._problem = problem
        sides = [
            [a for a, access in enumerate(problem.accesses) if access.role is role]
            for role in (Role.WRITER, Role.READER)
        ]
        free = [[a for a in side if not problem.pinned[a]] for side in sides]
        self.bits = (*free[0], *free[1])
        self._held = [_subsets(side, own) for side, own in zip(sides, free)]
        self._prices = [held.astype(float) @ problem.channel_prices[side] for side, held in zip(sides, self._held)]
        products = [np.triu_indices(len(side)) for side in sides]
        self._products = [
            (held[:, first] & held[:, second]).astype(float) for held, (first, second) in zip(self._held, products)
        ]
        self._matrices, self._constant = _coefficients(problem, sides)

    @property
    def num_cells(self) -> int:
        """Number of cells, 2 to the number of `bits`."""
        return len(self._held[0]) * len(self._held[1])

    def chunks(self, channels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Channels and their values, chunk by chunk.

        Parameters
        ----------
        channels
            Which channels, whole numbers.

        Yields
        ------
        tuple of np.ndarray
            Channels of a chunk, and their V_c(C), shape (channels of the chunk, cells).
        """
        writers, readers = self._products
        for part in chunks(len(channels), 8 * 2 * self.num_cells):
            own = channels[part]
            ones = [np.ones((len(own), len(held), 1)) for held in self._held]
            inner = readers @ self._matrices[own].transpose(0, 2, 1)
            rest = self._prices[1].T[own, :, np.newaxis] + self._constant[own, np.newaxis, np.newaxis]
            left = np.concatenate([inner, rest, ones[1]], axis=2)
            outer = np.broadcast_to(writers, (len(own), *writers.shape))
            right = np.concatenate([outer, ones[0], self._prices[0].T[own, :, np.newaxis]], axis=2)
            values = np.matmul(left, right.transpose(0, 2, 1)).reshape(len(own), self.num_cells)
            values[np.ix_(self._problem.full[own], np.arange(self.num_cells - 1))] = np.inf
            yield own, values


def _subsets(side: list[int], free: list[int]) -> np.ndarray:
    """All subsets of the free accesses of a side, with its pinned ones: Boolean, shape (subsets, side)."""
    numbers = np.arange(2 ** len(free))[:, np.newaxis]
    held = np.ones((len(numbers), len(side)), dtype=bool)
    held[:, [side.index(a) for a in free]] = numbers >> np.arange(len(free)) & 1
    return held


def _coefficients(problem: WindowProblem, sides: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Per channel the matrix (products of two writers, products of two readers), and the constant."""
    losses = problem.losses
    place = [{a: i for i, a in enumerate(side)} for side in sides]
    own = np.array([(place[0][t], place[1][j]) for t, j in problem.pairs.tolist()], dtype=np.int64).reshape(-1, 2)
    counts = [len(side) for side in sides]
    sizes = [count * (count + 1) // 2 for count in counts]
    number = [_pair_numbers(count) for count in counts]

    def monomial(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        writer = number[0][own[first, 0], own[second, 0]]
        return writer * sizes[1] + number[1][own[first, 1], own[second, 1]]

    flat = np.zeros((sizes[0] * sizes[1], problem.num_channels))
    twice = np.where(losses.rows == losses.columns, 1.0, 2.0)[:, np.newaxis] * losses.moments
    np.add.at(flat, monomial(losses.rows, losses.columns), twice)
    sums = np.zeros((losses.num_pairs, problem.num_channels))
    np.add.at(sums, losses.rows, twice)
    np.add.at(sums, losses.columns, twice)
    pairs = np.arange(losses.num_pairs)
    np.subtract.at(flat, monomial(pairs, pairs), sums)
    matrices = np.ascontiguousarray(flat.T).reshape(problem.num_channels, sizes[0], sizes[1])
    return matrices, losses.total


def _pair_numbers(count: int) -> np.ndarray:
    """The number of an unordered pair of `count` things, in the order of ``triu_indices``; symmetric."""
    numbers = np.zeros((count, count), dtype=np.int64)
    first, second = np.triu_indices(count)
    numbers[first, second] = numbers[second, first] = np.arange(len(first))
    return numbers
