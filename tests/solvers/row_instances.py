"""Random blocks as the methods for spans see them: classes, rows, slopes and anchors."""

from __future__ import annotations

import numpy as np

from solvers.common.block_rows import BlockRows
from solvers.common.rows import merged_classes


def block_of(weight: np.ndarray, bits: np.ndarray, slope: np.ndarray | None = None) -> BlockRows:
    """A block whose rows are not anchored; every slope is 1 if none are given."""
    free = np.zeros(bits.shape[1], dtype=bool)
    return BlockRows(weight, bits, np.ones(len(free), dtype=np.int64) if slope is None else slope, free, free)


class Rows:
    """A random block: classes, rows, slopes, anchors; `block` is the same as the methods take it."""

    def __init__(self, seed: int, *, dense: bool, anchored: bool = True) -> None:
        rng = np.random.default_rng([int(dense), seed])
        num = int(rng.integers(1, 6))
        bits = rng.random((int(rng.integers(1, 11)), num)) < rng.choice([0.5, 0.7] if dense else [0.15, 0.3, 0.5])
        bits[rng.integers(len(bits), size=num), np.arange(num)] = True
        self.weight, self.bits, _ = merged_classes(rng.integers(1, 9, len(bits)), bits)
        self.slope = rng.integers(1, 5, num) if rng.random() < 0.6 else np.full(num, 3)
        self.left = (rng.random(num) < rng.choice([0, 0.3])) & anchored
        self.right = (rng.random(num) < rng.choice([0, 0.3])) & ~self.left & anchored

    @property
    def block(self) -> BlockRows:
        return BlockRows(self.weight, self.bits, self.slope, self.left, self.right)

    def cost(self, sequence: np.ndarray) -> int:
        """What a sequence of classes costs, by its definition."""
        ends = np.concatenate([[0], np.cumsum(self.weight[sequence])])
        total = 0
        for row, slope in enumerate(self.slope):
            met = np.flatnonzero(self.bits[sequence, row])
            begin = 0 if self.left[row] else ends[met[0]]
            end = ends[-1] if self.right[row] else ends[met[-1] + 1]
            total += int(slope * (end - begin))
        return total
