"""Runs as tours: every block's classes and ends as the nodes of a graph, changes between neighbours as lengths.

A row changes where it is kept on one side and not on the other; with zeros in front of and behind every access, changes
are twice the runs. Blocks that follow each other in an access are joined by links from last to first classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems import Order, Problem
from solvers.common.rows import class_bits


@dataclass(frozen=True, eq=False)
class BlockGraph:
    """The graph of one block that is not pinned.

    Attributes
    ----------
    block
        Its index.
    own
        int64, shape (num_classes,): its classes in the problem; they are the first nodes.
    far
        int64, shape (num_nodes, num_nodes), symmetric: changes between nodes. Behind the classes come a start and an
        end, on one edge each, or one border for both, on two edges, where they make no difference.
    """

    block: int
    own: np.ndarray
    far: np.ndarray

    @property
    def num_classes(self) -> int:
        """Number of classes; also the node of the start."""
        return len(self.own)

    @property
    def num_ends(self) -> int:
        """1 if the start is the end, else 2."""
        return len(self.far) - len(self.own)

    @property
    def degree(self) -> np.ndarray:
        """int64, shape (num_nodes,): edges of a tour at every node."""
        return np.array([2] * self.num_classes + [3 - self.num_ends] * self.num_ends, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Link:
    """Two blocks that follow each other in some access.

    Attributes
    ----------
    tail, head
        Indices into `RunGraph.blocks`; they may be the same block.
    far
        int64, shape (classes of tail, classes of head): changes between a last and a first class.
    """

    tail: int
    head: int
    far: np.ndarray


@dataclass(frozen=True, eq=False)
class RunGraph:
    """All blocks of a problem; twice the runs of an order are the constant and the lengths of its edges and links.

    Attributes
    ----------
    blocks
        Those that are not pinned.
    links
        At most one for every two of them in this succession.
    constant
        Changes that no order avoids.
    """

    problem: Problem
    blocks: tuple[BlockGraph, ...]
    links: tuple[Link, ...]
    constant: int

    @classmethod
    def of(cls, problem: Problem) -> RunGraph:
        """The graph of a problem.

        Examples
        --------
        >>> from problems.generators import disjoint_masks
        >>> graph = RunGraph.of(disjoint_masks(8, 3))
        >>> graph.blocks[0].far.tolist()
        [[0, 2, 2, 1], [2, 0, 2, 1], [2, 2, 0, 1], [1, 1, 1, 0]]
        """
        border = _Borders(problem)
        linked = {b for pair in border.links for b in pair}
        blocks = []
        constant = border.constant
        for b, block in enumerate(problem.blocks):
            own = problem.classes.of_block(b)
            bits = class_bits(problem, b, problem.readers_of(b)).astype(np.float32)
            count = np.rint(bits.sum(axis=1)).astype(np.int64)
            apart = count[:, np.newaxis] + count - 2 * np.rint(bits @ bits.T).astype(np.int64)
            if block.pinned:
                constant += int(np.diagonal(apart, 1).sum())
                continue
            first, last = border.first[b], border.last[b]
            merged = b not in linked and np.array_equal(first, last) and len(own) > 1
            ends = [first] if merged else [first, last]
            far = np.zeros((len(own) + len(ends),) * 2, dtype=np.int64)
            far[: len(own), : len(own)] = apart
            far[len(own) :, : len(own)] = ends
            far[: len(own), len(own) :] = np.transpose(ends)
            blocks.append(BlockGraph(b, own, far))
        index = {graph.block: i for i, graph in enumerate(blocks)}
        links = tuple(Link(index[b], index[c], far) for (b, c), far in border.links.items())
        return cls(problem, tuple(blocks), links, constant)

    def order(self, sequences: list[np.ndarray]) -> Order:
        """The order of one sequence of classes (nodes) per graph."""
        by_block = {graph.block: graph.own[nodes] for graph, nodes in zip(self.blocks, sequences)}
        every = [
            by_block[b] if b in by_block else self.problem.classes.of_block(b) for b in range(len(self.problem.blocks))
        ]
        return Order.of_classes(self.problem, np.concatenate(every).tolist())

    def changes(self, sequences: list[np.ndarray]) -> int:
        """The constant and the lengths for one sequence of classes (nodes) per graph: twice the runs."""
        total = self.constant
        for graph, nodes in zip(self.blocks, sequences):
            start, end = graph.num_classes, graph.num_classes + graph.num_ends - 1
            path = np.concatenate([[start], nodes, [end]])
            total += int(graph.far[path[:-1], path[1:]].sum())
        for link in self.links:
            total += int(link.far[sequences[link.tail][-1], sequences[link.head][0]])
        return total


class _Borders:
    """Changes at the borders of blocks: constants, those that depend on one class, and those that depend on two."""

    def __init__(self, problem: Problem) -> None:
        self.constant = 0
        sizes = [len(problem.classes.of_block(b)) for b in range(len(problem.blocks))]
        self.first = [np.zeros(size, dtype=np.int64) for size in sizes]
        self.last = [np.zeros(size, dtype=np.int64) for size in sizes]
        self.links: dict[tuple[int, int], np.ndarray] = {}
        for r, reader in enumerate(problem.readers):
            kept = self._kept(problem, r)
            if reader.slot == 0:
                self._one(problem, r, kept, np.zeros(1, dtype=bool), self.first)
            if r + 1 < len(problem.readers) and problem.readers[r + 1].access == reader.access:
                self._two(problem, r, kept)
            else:
                self._one(problem, r, kept, np.zeros(1, dtype=bool), self.last)

    def _kept(self, problem: Problem, r: int) -> np.ndarray:
        return problem.classes.signature[problem.classes.of_block(problem.readers[r].block), r]

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
        following = self._kept(problem, r + 1)
        if problem.blocks[tail].pinned:
            self._one(problem, r + 1, following, kept[-1:], self.first)
        elif problem.blocks[head].pinned:
            self._one(problem, r, kept, following[:1], self.last)
        else:
            change = (kept[:, np.newaxis] != following).astype(np.int64)
            self.links[tail, head] = self.links.get((tail, head), np.int64(0)) + change
