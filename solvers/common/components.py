"""A problem taken apart: accesses whose cost no order changes, and groups of accesses that do not touch each other.

Groups in one block are laid side by side, so that none covers channels of another. Every group is a problem of its
own with the same blocks; orders of the groups make an order of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from problems import Order, Problem
from solvers.common.rows import span_rows


@dataclass(frozen=True, eq=False)
class Read:
    """An occurrence of a block whose order makes a difference to an access.

    `kept` is bool over the stored channels; `bound` says that the ends of the block make a difference too.
    """

    access: int
    block: int
    kept: np.ndarray
    bound: bool


@dataclass(frozen=True, eq=False)
class Component:
    """A group of accesses that can be ordered on its own.

    Attributes
    ----------
    accesses
        Their indices, ascending.
    problem
        These accesses alone; all stored channels of the whole are there.
    reads
        What ties them together.
    """

    accesses: tuple[int, ...]
    problem: Problem
    reads: tuple[Read, ...] = ()

    def order_of(self, whole: Problem, order: Order) -> Order:
        """The part of an order of the whole problem that concerns the component: the same, renumbered."""
        if self.problem is whole:
            return order
        channels = []
        for stored, own in zip(whole.stored, order.channels, strict=True):
            place = np.full(int(stored.max(initial=-1)) + 1, -1, dtype=np.int64)
            place[stored] = np.arange(len(stored))
            channels.append(place[own])
        return Order(channels)


def components(problem: Problem, *, for_runs: bool = False) -> list[Component]:
    """The groups of accesses that matter to each other; accesses of constant cost are in none.

    Accesses that keep channels of several occurrences of blocks are bound to the ends of some of them: they go together
    with all accesses that read these blocks.

    Parameters
    ----------
    problem
        The problem.
    for_runs
        Costs depend on numbers of runs: blocks between the first and the last that an access reads matter too.

    Examples
    --------
    >>> from problems.generators import disjoint_masks
    >>> [component.accesses for component in components(disjoint_masks(6, 3))]
    [(0,), (1,), (2,)]
    """
    reads = _moving_reads(problem, for_runs=for_runs)
    if not reads:
        return []
    num, num_blocks = len(problem.accesses), len(problem.blocks)
    bound = {read.block for read in reads if read.bound}
    start = num + num_blocks + np.cumsum([0] + [len(stored) for stored in problem.stored])
    links = [np.array([[num + read.block], [read.access]]) for read in reads if read.block in bound]
    for read in reads:
        channels = start[read.block] + np.flatnonzero(read.kept)
        links.append(np.stack([channels, np.full(len(channels), read.access)]))
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(start[-1], start[-1]))
    label = connected_components(graph, directed=False)[1]
    moved = sorted({read.access for read in reads})
    groups = [tuple(a for a in moved if label[a] == own) for own in dict.fromkeys(label[moved].tolist())]
    if len(groups) == 1 and len(groups[0]) == num:
        return [Component(groups[0], problem)]
    return [
        Component(group, problem.restricted(group), tuple(read for read in reads if read.access in group))
        for group in groups
    ]


def _moving_reads(problem: Problem, *, for_runs: bool) -> list[Read]:
    """The occurrences of unpinned blocks of which some stored channels are kept, and some are not."""
    if for_runs:
        met = [r for r in range(len(problem.readers)) if problem.reads[r].any()]
        slots = np.bincount([problem.readers[r].access for r in met], minlength=len(problem.accesses))
        found = [(r, bool(slots[problem.readers[r].access] > 1)) for r in met]
    else:
        found = [(row.reader, row.left or row.right) for row in span_rows(problem).rows]
    reads = []
    for r, is_bound in found:
        reader = problem.readers[r]
        kept = problem.reads[r][problem.stored[reader.block]]
        if not problem.blocks[reader.block].pinned and not kept.all():
            reads.append(Read(reader.access, reader.block, kept, is_bound))
    return reads


def joined(problem: Problem, parts: list[tuple[Component, Order]]) -> Order:
    """An order of the whole: in every block the channels of one component after those of another.

    Channels that no component keeps come last; pinned blocks stay as they are. Where rows are anchored, a block
    belongs to one component, and its order is taken as it is.
    """
    if len(parts) == 1 and parts[0][0].problem is problem:
        return parts[0][1]
    channels = []
    for b, block in enumerate(problem.blocks):
        stored = problem.stored[b]
        left_over = np.ones(len(stored), dtype=bool)
        own: list[np.ndarray] = []
        for component, order in parts:
            reads = [read for read in component.reads if read.block == b]
            if not reads or block.pinned:
                continue
            kept = np.logical_or.reduce([read.kept for read in reads])
            if any(read.bound for read in reads):
                kept[:] = True
            chosen = order[b][(kept & left_over)[order[b]]]
            left_over[chosen] = False
            own.append(chosen)
        channels.append(stored[np.concatenate([*own, np.flatnonzero(left_over)])])
    return Order(channels)
