"""Changes where blocks begin and end: constants, those that depend on one class, and those that depend on two.

A row changes where it is kept on one side and not on the other, with zeros in front of and behind every access.
"""

from __future__ import annotations

import numpy as np

from problems import Problem


class RunBorders:
    """The borders of all blocks of a problem.

    Attributes
    ----------
    constant
        Changes that no order avoids.
    first, last
        Per block int64 of shape (num_classes,): changes in front of a class that comes first, and behind one that comes
        last, where what stands there is known. Zeros if the block is pinned.
    links
        Two unpinned blocks in direct succession to the readers (indices) that read them so, of the first one.
    """

    def __init__(self, problem: Problem) -> None:
        self.constant = 0
        sizes = [len(problem.classes.of_block(b)) for b in range(len(problem.blocks))]
        self.first = [np.zeros(size, dtype=np.int64) for size in sizes]
        self.last = [np.zeros(size, dtype=np.int64) for size in sizes]
        self.links: dict[tuple[int, int], list[int]] = {}
        nothing = np.zeros(1, dtype=bool)
        for r, reader in enumerate(problem.readers):
            kept = kept_classes(problem, r)
            if reader.slot == 0:
                self._one(problem, r, kept, nothing, self.first)
            if r + 1 < len(problem.readers) and problem.readers[r + 1].access == reader.access:
                self._two(problem, r, kept)
            else:
                self._one(problem, r, kept, nothing, self.last)

    def _one(self, problem: Problem, r: int, kept: np.ndarray, other: np.ndarray, side: list[np.ndarray]) -> None:
        """Changes between reader r's block and something that is known."""
        block = problem.readers[r].block
        if problem.blocks[block].pinned:
            self.constant += int(kept[0 if side is self.first else -1] != other[0])
        else:
            side[block] += kept != other[0]

    def _two(self, problem: Problem, r: int, kept: np.ndarray) -> None:
        """Changes between reader r's block and the next one."""
        tail, head = problem.readers[r].block, problem.readers[r + 1].block
        following = kept_classes(problem, r + 1)
        if problem.blocks[tail].pinned:
            self._one(problem, r + 1, following, kept[-1:], self.first)
        elif problem.blocks[head].pinned:
            self._one(problem, r, kept, following[:1], self.last)
        else:
            self.links.setdefault((tail, head), []).append(r)


def kept_classes(problem: Problem, r: int) -> np.ndarray:
    """Which classes of its block reader r keeps; bool, shape (num_classes,)."""
    return problem.classes.signature[problem.classes.of_block(problem.readers[r].block), r]
