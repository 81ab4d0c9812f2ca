"""Lower bounds for many accesses: the values of cells, projected onto some of the accesses.

The projected value of a cell of some accesses is the least value of the cells that agree with it there. A word stays a
word if the other accesses are left out, and no channel's value rises. So a bound for the projected problem is a bound
for the problem. Projected onto no access it is the bound of free sets, ``sum_c min_C V_c(C)``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from problems.windows.problem import WindowProblem
from solvers.windows.expansion import Expansion

_MOST_BITS = 22  # accesses: most that are not pinned whose cells are all looked at; 34 MB of values per channel
_NUM_SAMPLED = 24  # channels: that decide which accesses a projection keeps; by hand


@dataclass(frozen=True)
class Projection:
    """Values of cells of some accesses.

    Attributes
    ----------
    table
        Lower bounds of V_c, shape (2 ** accesses kept, channels).
    always
        Per channel a lower bound of what every word offers; infinite for `full` channels.
    num_exact
        Channels for which all cells were looked at. For the others losses are bounded by 0.
    """

    table: np.ndarray
    always: np.ndarray
    num_exact: int

    @property
    def free_sets(self) -> float:
        """The bound of free sets."""
        return float(np.minimum(self.table.min(axis=0), self.always).sum())


def projected(
    problem: WindowProblem, expansion: Expansion, kept: list[int], always: np.ndarray, deadline: float
) -> Projection:
    """The values of cells, projected onto some accesses.

    Parameters
    ----------
    problem, expansion
        The problem, and its values.
    kept
        The bits of the accesses that are kept; bit i of a projected cell is that of ``kept[i]``.
    always
        Per channel what every word offers.
    deadline
        A reading of ``time.perf_counter``, in seconds. Channels that are left then have a weaker bound;
        those that lose most come first.
    """
    table = _without_losses(problem, expansion, kept)
    num_exact = 0
    if len(expansion.bits) <= _MOST_BITS:
        for own, values in expansion.chunks(np.argsort(-problem.losses.total, kind="stable")):
            if time.perf_counter() >= deadline:
                break
            table[:, own] = _minima(values, len(expansion.bits), kept).T
            num_exact += len(own)
    return Projection(table, np.where(problem.full, np.inf, np.minimum(always, table[0])), num_exact)


def accesses_to_keep(problem: WindowProblem, expansion: Expansion, count: int, always: np.ndarray) -> list[int]:
    """Bits of the accesses that the best cells of some channels agree about least."""
    size = len(expansion.bits)
    if size <= count or size > _MOST_BITS:
        return list(range(min(size, count)))
    sample = np.unique(np.linspace(0, problem.num_channels - 1, _NUM_SAMPLED).astype(np.int64))
    cells = []
    for own, values in expansion.chunks(sample):
        best = values.argmin(axis=1)
        cells.append(best[values[np.arange(len(own)), best] < always[own]])
    held = np.concatenate(cells)[:, np.newaxis] >> np.arange(size) & 1
    share = held.mean(axis=0) if len(held) else np.zeros(size)
    return sorted(np.argsort(-share * (1 - share), kind="stable")[:count].tolist())


def _minima(values: np.ndarray, size: int, kept: list[int]) -> np.ndarray:
    """Least values over the bits that are not kept, shape (channels, 2 ** kept)."""
    for bit in reversed(range(size)):
        if bit not in kept:
            halves = values.reshape(len(values), -1, 2, 1 << bit)
            values = np.minimum(halves[:, :, 0], halves[:, :, 1]).reshape(len(values), -1)
    return values


def _without_losses(problem: WindowProblem, expansion: Expansion, kept: list[int]) -> np.ndarray:
    """What projected cells cost at least if nothing is lost."""
    prices = problem.channel_prices
    bits = list(expansion.bits)
    own = [bits[bit] for bit in kept]
    others = [access for access in bits if access not in own]
    base = prices[problem.pinned].sum(axis=0) + np.minimum(prices[others], 0).sum(axis=0)
    held = (np.arange(2 ** len(own))[:, np.newaxis] >> np.arange(len(own)) & 1).astype(float)
    table = held @ prices[own] + base
    table[:-1, problem.full] = np.inf
    table[-1, problem.full] = prices.sum(axis=0)[problem.full]
    return table
