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
from solvers.rows import span_rows


@dataclass(frozen=True, eq=False)
class Component:
    """A group of accesses that can be ordered on its own.

    Attributes
    ----------
    accesses
        Their indices, ascending.
    problem
        These accesses alone; all stored channels of the whole are there.
    """

    accesses: tuple[int, ...]
    problem: Problem

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


def components(problem: Problem) -> list[Component]:
    """The groups of accesses that matter to each other; accesses of constant cost are in none.

    Blocks with anchored rows, and pinned ones, hold all accesses that read them together.

    Examples
    --------
    >>> from problems.generators import disjoint_masks
    >>> [component.accesses for component in components(disjoint_masks(6, 3))]
    [(0,), (1,), (2,)]
    """
    spans = span_rows(problem)
    links: list[tuple[int, int]] = []
    moved: set[int] = set()
    num = len(problem.accesses)
    for b in range(len(problem.blocks)):
        rows = spans.of_block(b)
        stored = problem.stored[b]
        kept = {row.reader: problem.reads[row.reader][stored] for row in rows}
        rows = [row for row in rows if not kept[row.reader].all()]
        moved.update(row.access for row in rows)
        if any(row.left or row.right for row in rows):
            links.extend((num + b, row.access) for row in rows)
    offset = num + len(problem.blocks)
    for b in range(len(problem.blocks)):
        rows = [row for row in spans.of_block(b) if row.access in moved]
        stored = problem.stored[b]
        for row in rows:
            kept = problem.reads[row.reader][stored]
            if not kept.all():
                links.extend((row.access, offset + int(k)) for k in np.flatnonzero(kept))
        offset += len(stored)
    if not moved:
        return []
    first, second = np.array(links).T
    graph = coo_array((np.ones(len(links)), (first, second)), shape=(offset, offset))
    label = connected_components(graph, directed=False)[1][:num]
    chosen = np.array(sorted(moved))
    groups = [tuple(chosen[label[chosen] == own].tolist()) for own in dict.fromkeys(label[chosen].tolist())]
    if len(groups) == 1 and len(groups[0]) == num:
        return [Component(groups[0], problem)]
    return [Component(group, problem.restricted(group)) for group in groups]


def joined(problem: Problem, parts: list[tuple[Component, Order]]) -> Order:
    """An order of the whole: in every block the channels of one component after those of another.

    Channels that no component keeps come last; pinned blocks stay as they are. Where rows are anchored, a block
    belongs to one component, and its order is taken as it is.
    """
    if len(parts) == 1 and parts[0][0].problem is problem:
        return parts[0][1]
    spans = span_rows(problem)
    channels = []
    for b, block in enumerate(problem.blocks):
        stored = problem.stored[b]
        if block.pinned:
            channels.append(stored)
            continue
        left_over = np.ones(len(stored), dtype=bool)
        own: list[np.ndarray] = []
        whole: np.ndarray | None = None
        for component, order in parts:
            rows = [row for row in spans.of_block(b) if row.access in component.accesses]
            if not rows:
                continue
            sequence = order.channels[b]
            if any(row.left or row.right for row in rows):
                whole = sequence
            kept = np.zeros(len(stored), dtype=bool)
            for row in rows:
                kept |= problem.reads[row.reader][stored]
            chosen = sequence[kept[sequence] & left_over[sequence]]
            left_over[chosen] = False
            own.append(chosen)
        own.append(np.flatnonzero(left_over))
        channels.append(stored[whole if whole is not None else np.concatenate(own)])
    return Order(channels)
