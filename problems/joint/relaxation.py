"""The Lagrangian relaxation of the joint problem: one price per width, per required sum, and per channel.

Multipliers take the width and the required sum of every access into the value, so that every channel decides for itself
which accesses keep it. What is left of the order is that an access opens once and closes once in a block. Along the
order of a block the sets of open accesses are the cells of a word (docs/joint.md). In a cell C a stored channel costs

    V_c(C) = stored price + sum over readers of its block of  open_c   if the reader is in C, else  closed_c
    open_c   = min(keep_c, drop_c + over-read price),      keep_c = price + l - m * importance_c
    closed_c = min(keep_c + copy price, drop_c),           drop_c = loss price * importance_c

with l the multiplier of the width of the access and m >= 0 that of its required sum. For all potentials nu the word's
channels together cost at least ``sum_c min(nu_c, cost if not stored) - max over words of the sum over the word's cells
C of sum_c (nu_c - V_c(C))^+``: a longest path through the states of the accesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from problems.joint.problem import JointProblem
from problems.windows.states import states_of

MOST_COUPLED = 10
"""Most readers of a block whose windows are looked at together: 3^10 states. The others choose freely."""


@dataclass(frozen=True)
class BlockReader:
    """A reader of a block: the access, and its input positions that are the block's channels."""

    access: int
    positions: slice


@dataclass(frozen=True)
class BlockTerms:
    """One block under some multipliers.

    Attributes
    ----------
    readers
        All readers of the block.
    coupled
        Those whose states are looked at: indices into `readers`, bit i of a cell is ``coupled[i]``.
    table
        V_c(C), shape (2 ** coupled, channels).
    unstored
        What a channel costs that is not stored, shape (channels,); infinite where it is always stored.
    keeps
        Boolean, shape (2, readers, channels): whether a reader that is closed, or open, keeps a channel of the cell.
    largest
        No number in the sums of the table is larger.
    """

    readers: tuple[BlockReader, ...]
    coupled: tuple[int, ...]
    table: np.ndarray
    unstored: np.ndarray
    keeps: np.ndarray
    largest: float

    def least(self, potentials: np.ndarray) -> tuple[float, np.ndarray]:
        """A bound on what the channels cost together, and the cells of a word for which it is tight.

        Parameters
        ----------
        potentials
            nu, shape (channels,).

        Returns
        -------
        tuple
            The bound, and the cells, shape (2 * coupled + 1,).
        """
        states = states_of(len(self.coupled))
        most = states.most_ahead(np.maximum(potentials - self.table, 0).sum(axis=1))
        events = states.best_path(most)
        cells = np.bitwise_xor.accumulate(np.array([0, *(1 << bit for bit in events)], dtype=np.int64))
        return float(np.minimum(potentials, self.unstored).sum() - most[0]), cells


class Relaxation:
    """The relaxation of a problem; which readers of a block are coupled is chosen once.

    Parameters
    ----------
    problem
        The problem.
    coupled
        Per block indices of readers, at most `MOST_COUPLED`. Default: those with the largest importance, up to `most`.
    most
        How many that are. Default 8.
    """

    def __init__(self, problem: JointProblem, coupled: Sequence[Sequence[int]] | None = None, *, most: int = 8) -> None:
        self.problem = problem
        if coupled is None:
            coupled = [self._largest(b, most) for b in range(len(problem.blocks))]
        self.coupled = tuple(tuple(own) for own in coupled)

    @cached_property
    def readers(self) -> tuple[tuple[BlockReader, ...], ...]:
        """Per block its readers, access by access."""
        found: list[list[BlockReader]] = [[] for _ in self.problem.blocks]
        for a, slots in enumerate(self.problem.slots):
            for b, positions in slots:
                found[b].append(BlockReader(a, positions))
        return tuple(tuple(own) for own in found)

    def terms(self, b: int, unit: int, widths: np.ndarray, sums: np.ndarray) -> BlockTerms:
        """A block under multipliers.

        Parameters
        ----------
        b
            The block.
        unit
            Prices of the problem are multiplied by it. With whole multipliers all numbers are whole.
        widths, sums
            Multipliers of widths and of required sums, shape (accesses,), in units of loss divided by `unit`.
        """
        problem, readers, coupled = self.problem, self.readers[b], self.coupled[b]
        channels = problem.blocks[b].size
        opened, closed = np.zeros((2, len(readers), channels))
        keeps = np.zeros((2, len(readers), channels), dtype=bool)
        unstored = np.zeros(channels)
        largest = float(unit * problem.stored_price)
        for r, reader in enumerate(readers):
            access = problem.accesses[reader.access]
            importance = access.importance[reader.positions].astype(np.float64)
            keep = unit * access.price + widths[reader.access] - sums[reader.access] * importance
            drop = unit * problem.loss_price * importance
            over, copy = (
                np.inf if price is None else float(unit * price * access.channel_size)
                for price in (problem.over_read_price, problem.copy_price)
            )
            opened[r], closed[r] = np.minimum(keep, drop + over), np.minimum(keep + copy, drop)
            keeps[1, r], keeps[0, r] = keep < drop + over, keep + copy < drop
            unstored += drop
            prices = [own for own in (over, copy) if np.isfinite(own)]
            largest += float(np.abs(keep).max() + np.abs(drop).max()) + sum(prices)
        free = [r for r in range(len(readers)) if r not in coupled]
        table = np.full((1, channels), float(unit * problem.stored_price))
        table += np.minimum(opened[free], closed[free]).sum(axis=0)
        for r in coupled:
            table = np.concatenate([table + closed[r], table + opened[r]])
        for r in free:
            keeps[:, r] = np.where(opened[r] < closed[r], keeps[1, r], keeps[0, r])
        unstored[problem.always_stored[b]] = np.inf
        return BlockTerms(readers, coupled, table, unstored, keeps, largest)

    def constant(self, widths: np.ndarray, sums: np.ndarray) -> float:
        """What multipliers add for widths and required sums."""
        asked = np.array([0 if own.width is None else own.width for own in self.problem.accesses])
        required = np.array([0 if own.required is None else own.required for own in self.problem.accesses])
        return float(sums @ required - widths @ asked)

    def _largest(self, b: int, most: int) -> list[int]:
        """The readers of a block with the largest importance."""
        sizes = [-int(self.problem.accesses[own.access].importance[own.positions].sum()) for own in self.readers[b]]
        return sorted(np.argsort(sizes, kind="stable")[: min(most, MOST_COUPLED)].tolist())
