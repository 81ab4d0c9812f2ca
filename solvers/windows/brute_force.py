"""All words of a few accesses: the oracle that the other methods are compared with."""

from __future__ import annotations

import numpy as np

from solvers.windows.cells import CellValues

MOST_BITS = 5  # accesses: most that are not pinned; 5 have 113 400 words


def best_of_all_words(values: CellValues) -> list[int]:
    """The best word of bits. Ties: the first one in lexicographic order.

    Parameters
    ----------
    values
        Values of cells, of at most `MOST_BITS` accesses.
    """
    best: tuple[float, list[int]] = (np.inf, [])
    size = len(values.bits)
    stack: list[tuple[list[int], int, np.ndarray]] = [([], 0, values.always)]
    while stack:
        events, cell, least = stack.pop()
        if len(events) == 2 * size:
            if (total := float(least.sum())) < best[0] or not np.isfinite(best[0]):
                best = (total, events)
            continue
        for bit in reversed(range(size)):
            if events.count(bit) < 2:
                after = cell ^ 1 << bit
                stack.append(([*events, bit], after, np.minimum(least, values.of(np.array([after]))[0])))
    return best[1]
