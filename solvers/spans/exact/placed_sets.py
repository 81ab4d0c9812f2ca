"""The cheapest sequence of weighted classes when every row pays for the width it covers: a DP over placed sets.

Placing class s after the set Z costs its weight times the slopes of the rows that are open there: those that meet
Z + s (or are open from the start) and meet the complement of Z (or are open until the end). DESIGN, exact method 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.clock import WORK_OF_PAIR, time_now
from solvers.common.errors import SolverError

_LARGEST_FLOAT = 2**52  # value: up to which sums are exact in float64, with a bit to spare
_LARGEST_WHOLE = 2**62  # value: the same for int64, which has no fast products
_CACHED_CLASSES = 16  # classes: up to which the order of the sets is remembered: a bound on memory; by hand


@dataclass(frozen=True, eq=False)
class LinearOrder:
    """A cheapest sequence.

    Attributes
    ----------
    cost
        Sum over rows of slope times covered width.
    sequence
        int, shape (num_classes,): the classes from left to right.
    """

    cost: int
    sequence: np.ndarray

    def unmerged(self, parts: Sequence[np.ndarray]) -> LinearOrder:
        """The same for classes of which some were taken together: per class of this sequence its parts."""
        return LinearOrder(self.cost, np.concatenate([parts[s] for s in self.sequence]))


def cheapest_sequence(rows: BlockRows, *, deadline: float = np.inf) -> LinearOrder | None:
    """The sequence of least cost, proven; None if the deadline (a `time.perf_counter` reading) passed first.

    Time and memory grow as 2^num_classes.

    Raises
    ------
    SolverError
        If the costs do not fit the arithmetic.

    Examples
    --------
    >>> bits = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> best = cheapest_sequence(BlockRows(np.array([1, 2, 3]), bits, np.array([1, 1]), free, free))
    >>> best.cost, best.sequence.tolist()
    (8, [2, 1, 0])
    """
    weight, bits, slope, left, right = rows.weight, rows.bits, rows.slope, rows.left, rows.right
    num = len(weight)
    most = int(weight.sum()) * max(1, int(slope.sum()))
    if most > _LARGEST_WHOLE:
        raise SolverError("placed-sets: costs above 2**62 are not exact; scale channel_size, alpha or gamma down")
    number: type = np.float64 if most <= _LARGEST_FLOAT else np.int64
    never = np.inf if number is np.float64 else np.iinfo(np.int64).max
    layers, rank = _layers(num) if num <= _CACHED_CLASSES else _layers.__wrapped__(num)
    met = np.zeros((1, bits.shape[1]), dtype=bool)
    for own in bits:
        met = np.concatenate([met, met | own])
    open_somewhere = ((met | left) & (met[::-1] | right)) @ slope.astype(number)
    not_open = ~(met | left)
    opened_by = (bits * slope).T.astype(number)
    power = np.int64(1) << np.arange(num, dtype=np.int64)

    best: np.ndarray = np.zeros(1 << num, dtype=number)
    last = np.zeros(1 << num, dtype=np.int8)
    for now, after in pairwise(layers):
        if time_now(WORK_OF_PAIR * num * len(after)) >= deadline:
            return None
        open_here = open_somewhere[now, np.newaxis] + not_open[now].astype(number) @ opened_by
        placed = best[now, np.newaxis] + weight * open_here
        has = after[:, np.newaxis] & power != 0
        before = np.where(has, rank[after[:, np.newaxis] & ~power], 0)
        cost = np.where(has, placed[before, np.arange(num)], never)
        choice = cost.argmin(axis=1)
        best[after] = cost[np.arange(len(after)), choice]
        last[after] = choice
    sequence = np.zeros(num, dtype=np.int64)
    placed_set = (1 << num) - 1
    for k in reversed(range(num)):
        sequence[k] = last[placed_set]
        placed_set ^= 1 << int(sequence[k])
    return LinearOrder(round(best[-1].item()), sequence)


@lru_cache(maxsize=_CACHED_CLASSES + 1)
def _layers(num: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The subsets of `num` things by size, and the index of each in its layer."""
    count = np.zeros(1, dtype=np.int8)
    for _ in range(num):
        count = np.concatenate([count, count + np.int8(1)])
    by_size = np.argsort(count, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(count, minlength=num + 1))])
    rank = np.empty(1 << num, dtype=np.int32)
    rank[by_size] = np.arange(1 << num) - bounds[count[by_size]]
    return np.split(by_size, bounds[1:-1]), rank
