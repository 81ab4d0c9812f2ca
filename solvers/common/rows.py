"""Spans taken apart into one row per block: the common ground of the bounds and all exact methods for spans.

An access that keeps channels in one occurrence of a block only has a free row there: it covers from its first kept
channel to its last. With several, the first one met is open until the block's end, the last one from the block's
start, and whole blocks lie between. Rows of different blocks are independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from problems import Problem


@dataclass(frozen=True)
class Row:
    """The part of one access's span that depends on the order of one block.

    Attributes
    ----------
    access, reader, block
        Indices into the problem's accesses, readers and blocks; the row's kept channels are the reader's.
    left
        Open from the block's start: covers up to its last kept channel.
    right
        Open until the block's end: covers from its first kept channel on.
    """

    access: int
    reader: int
    block: int
    left: bool = False
    right: bool = False


@dataclass(frozen=True, eq=False)
class Spans:
    """The excess of every access: a constant, and its rows in the blocks that may be reordered.

    Attributes
    ----------
    rows
        The rows of blocks that are not pinned; an access has at most two.
    fixed
        int64, shape (num_accesses,): excess (span minus kept channels) that no order can change.
    """

    rows: tuple[Row, ...]
    fixed: np.ndarray

    def of_block(self, block: int) -> list[Row]:
        """The rows of one block."""
        return [row for row in self.rows if row.block == block]


def span_rows(problem: Problem) -> Spans:
    """Take the spans of a problem apart.

    Examples
    --------
    >>> from problems import Access, Block
    >>> kept = np.array([1, 0, 1, 0, 0, 1])
    >>> blocks = tuple(Block(name, 2, removable=False) for name in "xyz")
    >>> spans = span_rows(Problem(blocks, (Access("a", (0, 1, 2), kept),)))
    >>> [(row.block, row.left, row.right) for row in spans.rows], spans.fixed.tolist()
    ([(0, False, True), (2, True, False)], [1])
    """
    rows: list[Row] = []
    fixed = np.zeros(len(problem.accesses), dtype=np.int64)
    met_by_access: list[list[int]] = [[] for _ in problem.accesses]
    for r, reader in enumerate(problem.readers):
        if problem.reads[r].any():
            met_by_access[reader.access].append(r)
    for a, met in enumerate(met_by_access):
        first, last = met[0], met[-1]
        for r in range(first, last + 1):
            block = problem.readers[r].block
            kept = problem.reads[r][problem.stored[block]]
            if first < r < last:
                fixed[a] += np.count_nonzero(~kept)
                continue
            row = Row(a, r, block, left=r == last != first, right=r == first != last)
            if problem.blocks[block].pinned:
                begin = 0 if row.left else int(kept.argmax())
                end = len(kept) if row.right else len(kept) - int(kept[::-1].argmax())
                fixed[a] += np.count_nonzero(~kept[begin:end])
            else:
                rows.append(row)
    return Spans(tuple(rows), fixed)


def class_bits(problem: Problem, block: int, readers: Iterable[int]) -> np.ndarray:
    """Which of some readers keep each class of a block; bool, shape (num_classes, num_readers)."""
    return problem.classes.signature[problem.classes.of_block(block)][:, list(readers)]


def merged_classes(weight: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Merge the classes of one block that look the same to some of its rows.

    Parameters
    ----------
    weight
        int, shape (num_classes,).
    bits
        bool, shape (num_classes, num_rows): which rows keep each class.

    Returns
    -------
    tuple
        Weights and bits of the merged classes, and per merged class the indices of its parts.
    """
    if bits.shape[1] == 0:
        return weight.sum(keepdims=True), bits[:1], [np.arange(len(weight))]
    packed = np.packbits(bits, axis=1)
    _, first, group = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    total = np.bincount(group, weights=weight, minlength=len(first)).astype(np.int64)
    by_group = np.argsort(group, kind="stable")
    parts = np.split(by_group, np.cumsum(np.bincount(group))[:-1])
    return total, bits[first], parts
