"""A stretch of a block's classes put into the best order of all, exactly, the rest held fast: a large neighbourhood.

A row that keeps classes on both sides of the stretch covers it whatever happens, and classes that only such rows tell
apart are one: long stretches become small.
"""

from __future__ import annotations

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.spans.exact.placed_sets import cheapest_sequence

_GROWTH = 1.5  # factor: by which a window grows until it has too many kinds of classes; by hand


def best_window(rows: BlockRows, sequence: np.ndarray, begin: int, *, max_classes: int, deadline: float) -> np.ndarray:
    """Reorder the longest stretch that begins at some class and has few enough classes after merging.

    Parameters
    ----------
    rows
        The block.
    sequence
        int, shape (num_classes,): the classes from left to right.
    begin
        Where the stretch begins.
    max_classes
        How many classes may remain; time and memory double with each.
    deadline
        A `time.perf_counter` reading.

    Returns
    -------
    np.ndarray
        A sequence that costs no more; the given one if the deadline passed.

    Examples
    --------
    >>> bits = np.array([[1, 0], [0, 1], [1, 1], [1, 0]], dtype=bool)
    >>> free = np.zeros(2, dtype=bool)
    >>> rows = BlockRows(np.ones(4, dtype=int), bits, np.ones(2, dtype=int), free, free)
    >>> best = best_window(rows, np.arange(4), 0, max_classes=9, deadline=np.inf)
    >>> rows.cost(np.arange(4)), rows.cost(best)
    (6, 5)
    """
    kept, weight = rows.paying_bits[sequence], rows.weight[sequence]
    before = rows.left | kept[:begin].any(axis=0)
    end = min(len(sequence), begin + max_classes)
    while end < len(sequence):
        longer = min(len(sequence), begin + int((end - begin) * _GROWTH) + 1)
        if len(_merged(rows, kept, weight, before, begin, longer)[0].weight) > max_classes:
            break
        end = longer
    own, parts = _merged(rows, kept, weight, before, begin, end)
    best = cheapest_sequence(own, deadline=deadline)
    if best is None:
        return sequence
    stretch = sequence[begin:end][best.unmerged(parts).sequence]
    return np.concatenate([sequence[:begin], stretch, sequence[end:]])


def _merged(
    rows: BlockRows, kept: np.ndarray, weight: np.ndarray, before: np.ndarray, begin: int, end: int
) -> tuple[BlockRows, list[np.ndarray]]:
    """The rows that depend on the order of a stretch, and its classes as these rows tell them apart."""
    after = rows.right | kept[end:].any(axis=0)
    chosen = np.flatnonzero(kept[begin:end].any(axis=0) & ~(before & after))
    return BlockRows(weight[begin:end], kept[begin:end], rows.slope, before, after).only(chosen)
