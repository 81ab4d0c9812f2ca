"""Can some accesses all be views under one order? The checker's own consecutive-ones test, a search per block.

It is made for small sets and shares no code with the solvers. It places the classes of a block from left to right. A
row that has begun may not be interrupted. Every visited state is remembered.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from problems.problem import Problem

MAX_STATES = 50_000
"""States that the test visits per block before it gives up (about a second)."""


@dataclass(frozen=True, eq=False)
class Part:
    """The part of one access that lies in one reorderable block.

    Attributes
    ----------
    block
        Index of the block.
    kept
        bool, shape (number of stored channels,).
    from_start, to_end
        The range of the access reaches the start, or the end, of the block: it continues in the block before or after.
    """

    block: int
    kept: np.ndarray
    from_start: bool
    to_end: bool


def parts_of(problem: Problem, a: int) -> tuple[list[Part], int]:
    """Split the smallest range that access `a` reads into one part per block.

    Returns
    -------
    tuple
        The parts that depend on the order, and the number of unwanted channels in the range under every order.
    """
    first_reader = sum(len(access.blocks) for access in problem.accesses[:a])
    slots = [
        (b, problem.reads[first_reader + slot][problem.stored[b]]) for slot, b in enumerate(problem.accesses[a].blocks)
    ]
    used = [slot for slot, (_, kept) in enumerate(slots) if kept.any()]
    parts: list[Part] = []
    unwanted = 0
    for slot in range(used[0], used[-1] + 1):
        b, kept = slots[slot]
        from_start, to_end = slot > used[0], slot < used[-1]
        if (from_start and to_end) or problem.blocks[b].pinned:
            places = np.flatnonzero(kept)
            begin = 0 if from_start else int(places[0])
            end = len(kept) if to_end else int(places[-1]) + 1
            unwanted += end - begin - int(kept[begin:end].sum())
        else:
            parts.append(Part(b, kept, from_start, to_end))
    return parts, unwanted


def can_all_be_views(problem: Problem, accesses: Collection[int], *, max_states: int = MAX_STATES) -> bool | None:
    """Whether some order makes every one of the accesses a view; None if that is too hard for this test.

    Examples
    --------
    >>> from problems import Access, Block
    >>> reads = ([1, 1, 0], [0, 1, 1], [1, 0, 1])
    >>> problem = Problem((Block("x", 3),), tuple(Access(f"a{i}", (0,), np.array(k)) for i, k in enumerate(reads)))
    >>> can_all_be_views(problem, [0, 1]), can_all_be_views(problem, [0, 1, 2])
    (True, False)
    """
    by_block: dict[int, list[Part]] = {}
    for a in accesses:
        parts, unwanted = parts_of(problem, a)
        if unwanted:
            return False
        for part in parts:
            by_block.setdefault(part.block, []).append(part)
    answers = [_line_up(parts, max_states) for parts in by_block.values()]
    if False in answers:
        return False
    return None if None in answers else True


def _line_up(parts: list[Part], max_states: int) -> bool | None:
    """Whether one block's classes can be placed so that every part is one range; None if the test takes too long."""
    signatures = np.unique(np.stack([part.kept for part in parts]), axis=1)
    num = signatures.shape[1]
    rows = [sum(1 << int(s) for s in np.flatnonzero(row)) for row in signatures]
    everything = (1 << num) - 1
    waiting, seen = [0], {0}
    while waiting:
        placed = waiting.pop()
        if placed == everything:
            return True
        if len(seen) > max_states:
            return None
        fitting, unopened = everything & ~placed, 0
        for row, part in zip(rows, parts):
            begun = part.from_start or row & placed
            if not begun:
                unopened |= row
            elif part.to_end or row & ~placed:
                fitting &= row
        choices = fitting & ~unopened or fitting  # a class that opens no row can be placed here: later is no better
        for s in range(num):
            if choices >> s & 1 and placed | 1 << s not in seen:
                seen.add(placed | 1 << s)
                waiting.append(placed | 1 << s)
    return False
