"""Bundles taken apart: a problem whose orders include all of one with bundles, so that its bounds hold there too.

The blocks of a bundle that accesses read side by side become one block. Whatever place units take, and whatever order
their channels, the whole is one of the orders of that block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from problems import Block, Order, Problem


@dataclass(frozen=True, eq=False)
class Loosened:
    """A problem with bundles, and the one in which they are taken apart.

    Attributes
    ----------
    original
        The problem with bundles.
    problem
        The one without.
    accesses
        The accesses it has. Those that read the units of a bundle with something in between are left out.
    merged
        Per block of `problem`, the blocks of the original that it is made of, in the order in which they are read.
    """

    original: Problem
    problem: Problem
    accesses: tuple[int, ...]
    merged: tuple[tuple[int, ...], ...]

    def order_of(self, order: Order) -> Order:
        """An order of the original near to one of the looser problem: units by the mean place of their channels."""
        place = dict[int, np.ndarray]()
        for blocks, merged in zip(self.merged, order.channels, strict=True):
            position = np.empty(len(merged))
            position[merged] = np.arange(len(merged))
            sizes = [len(self.original.stored[b]) for b in blocks]
            for b, own in zip(blocks, np.split(position, np.cumsum(sizes)[:-1]), strict=True):
                place[b] = own
        channels = [
            stored if block.pinned else stored[np.argsort(place[b], kind="stable")]
            for b, (block, stored) in enumerate(zip(self.original.blocks, self.original.stored, strict=True))
        ]
        arrangement = []
        for bundle in self.original.bundles:
            mean = [np.mean([place[b].mean() for b in unit]) for unit in bundle.units]
            arrangement.append(np.argsort(mean, kind="stable"))
        return Order(channels, arrangement)


def loosened(problem: Problem) -> Loosened:
    """Take the bundles of a problem apart.

    Examples
    --------
    >>> from problems import Access, Bundle
    >>> blocks = Block("a", 2), Block("b", 2)
    >>> reads = Access("x", (0, 1), np.array([1, 0, 1, 0])), Access("y", (0, 1), np.array([0, 1, 0, 1]))
    >>> print(loosened(Problem(blocks, reads, bundles=(Bundle(((0,), (1,))),))).problem)
    problem: 1 block, 4 channels (4 stored), 2 accesses, 2 classes
    """
    sets = _sides(problem)
    kept = [
        a
        for a, access in enumerate(problem.accesses)
        if all(_reads_whole(access.blocks, own) for own in {sets[b] for b in access.blocks if b in sets})
    ]
    read = {b for a in kept for b in problem.accesses[a].blocks}
    own = problem.restricted(kept)
    merged: list[tuple[int, ...]] = []
    number: dict[int, int] = {}
    for b in range(len(problem.blocks)):
        blocks = sets[b] if b in sets and b in read else (b,)
        if b == blocks[0]:
            number |= dict.fromkeys(blocks, len(merged))
            merged.append(blocks)
    accesses = []
    for access in own.accesses:
        sequence = [b for b in access.blocks if b == merged[number[b]][0]]
        accesses.append(replace(access, blocks=tuple(number[b] for b in sequence)))
    looser = tuple(
        own.blocks[blocks[0]]
        if len(blocks) == 1
        else Block(own.blocks[blocks[0]].name, sum(own.blocks[b].size for b in blocks), removable=False)
        for blocks in merged
    )
    return Loosened(problem, Problem(looser, tuple(accesses), problem.name), tuple(kept), tuple(merged))


def _sides(problem: Problem) -> dict[int, tuple[int, ...]]:
    """Block of a bundle to the blocks of the bundle that some access reads side by side with it, as first read."""
    bundle_of = {b: i for i, bundle in enumerate(problem.bundles) for b in bundle.blocks}
    column_of = {b: (i, s) for i, bundle in enumerate(problem.bundles) for u in bundle.units for s, b in enumerate(u)}
    root = {b: b for b in bundle_of}

    def find(b: int) -> int:
        while root[b] != b:
            b = root[b]
        return b

    first_read: dict[int, None] = {}
    for access in problem.accesses:
        first_read |= dict.fromkeys(b for b in access.blocks if b in bundle_of)
        for b, c in zip(access.blocks, access.blocks[1:]):
            if b in bundle_of and bundle_of.get(c) == bundle_of[b]:
                root[find(c)] = find(b)
    sets: dict[int, list[int]] = {}
    for b in first_read:
        sets.setdefault(find(b), []).append(b)
    result: dict[int, tuple[int, ...]] = {}
    for blocks in sets.values():
        columns = {column_of[b] for b in blocks}
        whole = len(blocks) == sum(len(problem.bundles[i].units) for i, _ in columns)
        result |= dict.fromkeys(blocks, tuple(blocks) if whole else ())
    return result


def _reads_whole(sequence: Sequence[int], blocks: tuple[int, ...]) -> bool:
    """Whether a sequence has these blocks only in this order, all of them one after another."""
    places = np.flatnonzero(np.isin(sequence, blocks)).tolist()
    if not blocks or len(places) % len(blocks):
        return False
    return all(tuple(sequence[k : k + len(blocks)]) == blocks for k in places[:: len(blocks)])
