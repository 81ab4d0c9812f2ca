"""One block as the searches for spans see it: the classes it places, the rows that cover them, and what they pay.

Arrays only, made once; the searches work on sequences of the block's classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from problems import Order, Problem
from solvers.common.rows import Spans, class_bits, merged_classes


@dataclass(frozen=True, eq=False)
class BlockRows:
    """The rows of one block and the classes they keep.

    Attributes
    ----------
    weight
        int64, shape (num_classes,): widths.
    bits
        bool, shape (num_classes, num_rows): which rows keep each class.
    slope
        int64, shape (num_rows,), not negative: what a row pays per unit of covered width.
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end.
    """

    weight: np.ndarray
    bits: np.ndarray
    slope: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.slope)

    @cached_property
    def signature(self) -> np.ndarray:
        """The rows that keep each class as a bit mask; int64, shape (num_classes,)."""
        return self.bits.astype(np.int64) @ (np.int64(1) << np.arange(self.num_rows, dtype=np.int64))

    @property
    def needed(self) -> np.ndarray:
        """What every row pays at least, for the classes it keeps; int64, shape (num_rows,)."""
        needed: np.ndarray = self.slope * (self.weight @ self.bits)
        return needed

    @property
    def paying_bits(self) -> np.ndarray:
        """The bits of the rows whose slope is not 0; the others keep nothing."""
        return self.bits & (self.slope > 0)

    @cached_property
    def share(self) -> np.ndarray:
        """Which rows share a class or are anchored at the same end; bool, shape (num_rows, num_rows)."""
        kept = self.bits.astype(np.float32)
        same_end = (self.left[:, np.newaxis] & self.left) | (self.right[:, np.newaxis] & self.right)
        share: np.ndarray = (kept.T @ kept > 0) | same_end
        return share

    @property
    def meet(self) -> bool:
        """Whether every two paying rows share a class or are anchored at the same end."""
        paying = np.flatnonzero((self.slope > 0) & self.bits.any(axis=0))
        return bool(self.share[np.ix_(paying, paying)].all())

    def only(self, rows: np.ndarray) -> tuple[BlockRows, list[np.ndarray]]:
        """Some of the rows (indices) with the classes they tell apart, and per class the indices of its parts."""
        weight, bits, parts = merged_classes(self.weight, self.bits[:, rows])
        return BlockRows(weight, bits, self.slope[rows], self.left[rows], self.right[rows]), parts

    def covered(self, sequence: np.ndarray) -> np.ndarray:
        """Width covered by every row if the classes stand in this order; int64, shape (num_rows,).

        Examples
        --------
        >>> bits = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
        >>> free = np.zeros(2, dtype=bool)
        >>> rows = BlockRows(np.array([1, 2, 3]), bits, np.array([1, 1]), free, free)
        >>> rows.covered(np.array([0, 2, 1])).tolist(), rows.cost(np.array([0, 2, 1]))
        ([6, 5], 11)
        """
        kept = self.bits[sequence]
        end = np.concatenate([[0], np.cumsum(self.weight[sequence])])
        some = kept.any(axis=0)
        first = np.where(self.left, 0, end[kept.argmax(axis=0)])
        last = np.where(self.right, end[-1], np.where(some, end[len(kept) - kept[::-1].argmax(axis=0)], 0))
        covered: np.ndarray = np.where(some | (self.left & self.right), last - first, 0)
        return covered

    def cost(self, sequence: np.ndarray) -> int:
        """Sum over rows of slope times covered width, for the classes in this order."""
        return int(self.slope @ self.covered(sequence))


@dataclass(frozen=True, eq=False)
class SpanBlock:
    """A block of a problem together with its rows.

    Attributes
    ----------
    block
        Its index.
    own
        int64, shape (num_classes,): its classes in the problem.
    access
        int64, shape (num_rows,): the access each row belongs to.
    rows
        The rows; every slope is 1.
    """

    block: int
    own: np.ndarray
    access: np.ndarray
    rows: BlockRows


def span_blocks(problem: Problem, spans: Spans) -> list[SpanBlock]:
    """The blocks whose order matters to some span."""
    blocks = []
    for b in range(len(problem.blocks)):
        rows = spans.of_block(b)
        if not rows:
            continue
        own = problem.classes.of_block(b)
        block_rows = BlockRows(
            problem.classes.weight[own],
            class_bits(problem, b, (row.reader for row in rows)),
            np.ones(len(rows), dtype=np.int64),
            np.array([row.left for row in rows], dtype=bool),
            np.array([row.right for row in rows], dtype=bool),
        )
        blocks.append(SpanBlock(b, own, np.array([row.access for row in rows], dtype=np.int64), block_rows))
    return blocks


def order_of(problem: Problem, sequences: Mapping[int, np.ndarray]) -> Order:
    """The order with the classes of some blocks (indices of the problem) in given sequences; other blocks stay.

    Examples
    --------
    >>> from problems.generators import disjoint_masks
    >>> order_of(disjoint_masks(4, 4), {0: np.array([2, 0, 1, 3])})[0].tolist()
    [2, 0, 1, 3]
    """
    every = [sequences[b] if b in sequences else problem.classes.of_block(b) for b in range(len(problem.blocks))]
    return Order.of_classes(problem, np.concatenate(every).tolist())


def class_sequence(problem: Problem, order: Order, block: int) -> np.ndarray:
    """The classes of a block, as indices into ``classes.of_block``, by the middle of their channels in an order.

    Examples
    --------
    >>> from problems.generators import disjoint_masks
    >>> problem = disjoint_masks(4, 4)
    >>> class_sequence(problem, Order([[2, 0, 1, 3]]), 0).tolist()
    [2, 0, 1, 3]
    """
    position = np.empty(problem.blocks[block].size, dtype=np.int64)
    position[order[block]] = np.arange(len(order[block]))
    classes = problem.classes
    own = classes.of_block(block)
    size = classes.weight[own]
    places = position[np.concatenate([classes.members[s] for s in own])] if len(own) else np.zeros(0)
    places = places[np.lexsort((places, np.repeat(np.arange(len(own)), size)))]
    first = np.cumsum(size) - size
    return np.argsort(places[first + (size - 1) // 2] + places[first + size // 2], kind="stable")
