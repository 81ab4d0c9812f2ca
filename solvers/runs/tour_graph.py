"""Runs as tours: every block's classes and ends as the nodes of a graph, changes between neighbours as lengths.

A row changes where it is kept on one side and not on the other; with zeros in front of and behind every access, changes
are twice the runs. Blocks that follow each other in an access are joined by links from last to first classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems import Order, Problem
from solvers.common.block_rows import order_of
from solvers.common.rows import class_bits
from solvers.runs.run_borders import RunBorders, kept_classes


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

    def path(self, nodes: np.ndarray) -> np.ndarray:
        """A sequence of all classes with the start in front and the end behind."""
        return np.concatenate([[self.num_classes], nodes, [len(self.far) - 1]])

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
        border = RunBorders(problem)
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
        links = tuple(
            Link(index[b], index[c], _link_changes(problem, readers)) for (b, c), readers in border.links.items()
        )
        return cls(problem, tuple(blocks), links, constant)

    def order(self, sequences: list[np.ndarray]) -> Order:
        """The order of one sequence of classes (nodes) per graph."""
        return order_of(self.problem, {graph.block: graph.own[nodes] for graph, nodes in zip(self.blocks, sequences)})

    def changes(self, sequences: list[np.ndarray]) -> int:
        """The constant and the lengths for one sequence of classes (nodes) per graph: twice the runs."""
        total = self.constant
        for graph, nodes in zip(self.blocks, sequences):
            path = graph.path(nodes)
            total += int(graph.far[path[:-1], path[1:]].sum())
        for link in self.links:
            total += int(link.far[sequences[link.tail][-1], sequences[link.head][0]])
        return total


def _link_changes(problem: Problem, readers: list[int]) -> np.ndarray:
    """Changes between last and first classes over readers of one block whose accesses read the other one next."""
    last = np.stack([kept_classes(problem, r) for r in readers], axis=1).astype(np.float32)
    first = np.stack([kept_classes(problem, r + 1) for r in readers], axis=1).astype(np.float32)
    changes = last.sum(axis=1)[:, np.newaxis] + first.sum(axis=1) - 2 * (last @ first.T)
    return np.rint(changes).astype(np.int64)
