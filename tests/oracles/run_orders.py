"""The sequence of classes with the fewest runs, for every first and last class: Held and Karp's DP.

A row starts a run at a class it keeps when it does not keep the one before. The ends matter because a run may
continue in the next block of a concatenation.
"""

from __future__ import annotations

import time

import numpy as np

_NEVER = np.int32(2**29)  # runs: of what cannot be; two of them fit an int32


class RunOrders:
    """Fewest runs inside one block, by first and last class.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_readers). Time grows as ``2^n n^3``, memory as ``4 * 2^n n^2`` bytes.
    deadline
        A `time.perf_counter` reading.

    Attributes
    ----------
    complete
        False if the deadline passed first; then there are no results.
    runs
        int, shape (num_classes, num_classes): fewest runs with the given first and last class.

    Examples
    --------
    >>> orders = RunOrders(np.array([[1, 0], [1, 1], [0, 1]], dtype=bool))
    >>> int(orders.runs.min()), orders.sequence(0, 2).tolist()
    (2, [0, 1, 2])
    """

    def __init__(self, bits: np.ndarray, *, deadline: float = np.inf) -> None:
        num = len(bits)
        self._start = bits.sum(axis=1).astype(np.int32)
        self._step = (~bits).astype(np.int32) @ bits.T.astype(np.int32)
        self._best = np.full((1 << num, num, num), _NEVER, dtype=np.int32)
        classes = np.arange(num)
        self._best[1 << classes, classes, classes] = self._start
        self.complete = False
        sets = np.arange(1 << num)
        size = np.zeros(1, dtype=np.int8)
        for _ in range(num):
            size = np.concatenate([size, size + np.int8(1)])
        for k in range(2, num + 1):
            layer = sets[size == k]
            for s in range(num):
                if time.perf_counter() >= deadline:
                    return
                own = layer[layer >> s & 1 == 1]
                before = self._best[own ^ (1 << s)]
                self._best[own, :, s] = (before + self._step[:, s]).min(axis=2)
        self.complete = True
        self.runs = self._best[-1].astype(np.int64)

    def sequence(self, first: int, last: int) -> np.ndarray:
        """A sequence of all classes with the fewest runs for these ends."""
        num = len(self._start)
        sequence, placed = [last], (1 << num) - 1
        while len(sequence) < num:
            here = sequence[-1]
            value = self._best[placed, first, here]
            placed ^= 1 << here
            total = self._best[placed, first] + self._step[:, here]
            sequence.append(int(np.flatnonzero(total == value)[0]))
        return np.array(sequence[::-1], dtype=np.int64)
