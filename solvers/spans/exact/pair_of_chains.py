"""The cheapest sequence of weighted classes when every two rows share one and cost the same: a shortest path.

Spans that meet pairwise have a common point. Left of it rows only open, right of it they only close, so that an order
is two growing chains of open rows, one from each end, and a class lies at the cheaper of the first sets of the two
that contain all its rows (docs/model.md, theorem 3). Where all slopes are equal both chains grow together; other slopes
are left to `solvers.spans.disjoint_rows.path_for_relations`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.clock import WORK_OF_PAIR, time_now
from solvers.spans.exact.placed_sets import LinearOrder

MAX_ROWS = 20  # rows: of a chain: a million sets with their predecessors


def num_states(rows: BlockRows) -> int:
    """States of the path that `cheapest_chains` would visit."""
    num = rows.num_rows
    opening, closing = num - int(rows.left.sum()), num - int(rows.right.sum())
    if len(set(rows.slope.tolist())) > 1:
        return 1 << (opening + closing)
    first, last = num - opening, num - closing
    return sum(
        (math.comb(opening, k - first) if k >= first else 1) * (math.comb(closing, k - last) if k >= last else 1)
        for k in range(num + 1)
    )


def equal_chains(rows: BlockRows, *, deadline: float = np.inf) -> LinearOrder | None:
    """The sequence of least cost, proven; None if the deadline (a `time.perf_counter` reading) passed first.

    A class costs the number of sets before it is covered.

    Parameters
    ----------
    rows
        A block whose rows share classes pairwise, unless they are anchored at the same end, and have equal slopes.

    Examples
    --------
    >>> bits = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> best = equal_chains(BlockRows(np.array([1, 2, 3]), bits, np.array([1, 1]), free, free))
    >>> best.cost, best.sequence.tolist()
    (8, [2, 1, 0])
    """
    num = rows.num_rows
    dtype = np.int32 if int(rows.weight.sum()) * num < 2**30 else np.int64
    inside = sums_inside(rows.weight.astype(dtype), rows.signature, num)
    sides = [_levels(anchored) for anchored in (rows.left, rows.right)]
    best = [np.zeros((1, 1), dtype=dtype)]
    for k in range(num + 1):
        (first, before_first), (second, before_second) = (side[k] for side in sides)
        if k:
            best.append(_least_before(_least_before(best[-1], before_first).T, before_second).T)
        if time_now(WORK_OF_PAIR * best[-1].size) >= deadline:
            return None
        if k < num:
            best[k] = best[k] + _uncovered(inside, first, second)
    steps: list[tuple[int, int]] = []
    at = [0, 0]
    for k in range(num, 0, -1):
        choices = [side[k][1][place] for side, place in zip(sides, at)]
        steps += [(side, int(sides[side][k][0][at[side]])) for side in (1, 0)]
        table = best[k - 1][np.ix_(*choices)]
        chosen = np.unravel_index(int(table.argmin()), table.shape)
        at = [int(own[place]) for own, place in zip(choices, chosen)]
    steps += [(side, int(sides[side][0][0][0])) for side in (0, 1)]
    return LinearOrder(int(best[-1][0, 0]) * int(rows.slope[0]), _sequence(rows, steps[::-1]))


def _levels(anchored: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per number of open rows, the sets and predecessors of a chain.

    As long as fewer rows are open than are anchored, there is the set -1, which covers nothing.
    """
    own = lattice(anchored)
    late = np.array([-1], dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    levels = [late] * int(anchored.sum()) + list(zip(own.layers, own.before))
    if anchored.any():
        levels[int(anchored.sum())] = own.layers[0], late[1]
    return levels


def _least_before(table: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Least entry over the predecessors along the first axis."""
    table = np.ascontiguousarray(table)
    least = table[before[:, 0]]
    for k in range(1, before.shape[1]):
        np.minimum(least, table[before[:, k]], out=least)
    return least


def _uncovered(inside: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Weight covered by neither of two sets; shape (sets, sets)."""
    own, other = (np.where(sets < 0, 0, inside[sets]) for sets in (first, second))
    both = inside[first[:, np.newaxis] & second]
    both[first < 0] = 0
    both[:, second < 0] = 0
    uncovered: np.ndarray = (inside[-1] - own)[:, np.newaxis] - other + both
    return uncovered


def _sequence(rows: BlockRows, steps: list[tuple[int, int]]) -> np.ndarray:
    """The classes from left to right: each goes inwards from the end whose chain covers it first."""
    ends: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    waiting = np.ones(len(rows.weight), dtype=bool)
    for side, mask in steps:
        if mask < 0:
            continue
        covered = waiting & (rows.signature & ~np.int64(mask) == 0)
        ends[side].append(np.flatnonzero(covered))
        waiting &= ~covered
    return np.concatenate([*ends[0], *ends[1][::-1]]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Lattice:
    """The sets of a chain that grows from its anchored rows, by the number of rows added.

    Attributes
    ----------
    layers
        Per layer an int64 array of sets, as bit masks of rows.
    before
        Per layer an int array, shape (size of the layer, number of predecessors): indices into the layer before.
    """

    layers: tuple[np.ndarray, ...]
    before: tuple[np.ndarray, ...]


def lattice(anchored: np.ndarray) -> Lattice:
    """All sets that contain the anchored rows (bool, shape (num_rows,))."""
    free = np.flatnonzero(~anchored)
    base = np.int64(sum(1 << r for r in np.flatnonzero(anchored).tolist()))
    layers, before = _subsets(len(free))
    place = np.int64(1) << free.astype(np.int64)
    spread = [base + ((layer[:, np.newaxis] >> np.arange(len(free)) & 1) * place).sum(axis=1) for layer in layers]
    return Lattice(tuple(spread), before)


@lru_cache(maxsize=32)
def _subsets(num: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Subsets of `num` things by size, and for each the indices of its subsets with one thing less."""
    masks = np.arange(1 << num, dtype=np.int64)
    size = np.bitwise_count(masks)
    index = np.zeros(1 << num, dtype=np.int64)
    layers, before = [], []
    for k in range(num + 1):
        layer = masks[size == k]
        index[layer] = np.arange(len(layer))
        member = np.nonzero(layer[:, np.newaxis] >> np.arange(num) & 1)[1].reshape(len(layer), k)
        before.append(index[layer[:, np.newaxis] ^ (np.int64(1) << member)])
        layers.append(layer)
    return tuple(layers), tuple(before)


def sums(values: np.ndarray) -> np.ndarray:
    """Sum of the values in every subset; shape (2^n,)."""
    sums = np.zeros(1, dtype=np.int64)
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def sums_inside(weight: np.ndarray, signature: np.ndarray, num_rows: int) -> np.ndarray:
    """Weight of the classes whose rows all lie in a set, for every set of rows; shape (2^num_rows,)."""
    inside = np.zeros(1 << num_rows, dtype=weight.dtype)
    np.add.at(inside, signature, weight)
    for row in range(num_rows):
        pairs = inside.reshape(-1, 2, 1 << row)
        pairs[:, 1] += pairs[:, 0]
    return inside
