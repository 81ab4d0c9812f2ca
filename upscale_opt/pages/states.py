"""What an order does to every stored channel of a segment, for pictures: what is counted stands apart from the rest."""

from __future__ import annotations

import numpy as np

from problems import AccessCost, Evaluation, Order, Problem
from problems.bundles import occupants
from problems.objectives import COPY, OVER_READ, PIECES, VIEW

UNREAD, DROPPED, KEPT = "unread", "dropped", "kept"
STATES = (UNREAD, DROPPED, VIEW, KEPT, OVER_READ, PIECES, COPY)
"""Of a channel, for one access: in a block that the access does not read; dropped and not read; part of a view;
kept, within an over-read; dropped but read all the same (this is what an over-read costs); joined; copied.
"""
COUNTED = (OVER_READ, PIECES, COPY)
"""The states that cost something."""


def states(problem: Problem, order: Order, evaluation: Evaluation) -> np.ndarray:
    """Index into `STATES` of every access and stored position; int8, shape (num_accesses, num_stored).

    Blocks stand side by side, each in its place in the order. An access that reads a block twice has the more costly
    state.

    Parameters
    ----------
    problem, order
        The segment and an order of it.
    evaluation
        The order's evaluation (`problems.evaluate`), which has the ways of reading.

    Examples
    --------
    >>> from problems import Access, Block, evaluate
    >>> kept = np.array([True, False, True])
    >>> problem = Problem((Block("x", 3),), (Access("a", (0,), kept), Access("b", (0,), ~kept)))
    >>> order = Order.identity(problem)
    >>> [[STATES[own] for own in row] for row in states(problem, order, evaluate(problem, order, "span"))]
    [['kept', 'over-read', 'kept'], ['dropped', 'view', 'dropped']]
    """
    starts = block_starts(problem, order)
    arranged = problem.arranged(order.arrangement) if order.arrangement else problem
    found = np.full((len(problem.accesses), problem.num_stored), STATES.index(UNREAD), dtype=np.int8)
    for a, (access, cost) in enumerate(zip(arranged.accesses, evaluation.accesses, strict=True)):
        first = arranged.first_readers[a]
        blocks = list(enumerate(access.blocks, start=first))
        kept = np.concatenate([arranged.reads[reader][order[b]] for reader, b in blocks])
        columns = np.concatenate([starts[b] + np.arange(len(order[b])) for _, b in blocks])
        np.maximum.at(found[a], columns, _of_access(kept, cost))
    return found


def _of_access(kept: np.ndarray, cost: AccessCost) -> np.ndarray:
    """States of the positions of one access's input; int8."""
    own = KEPT if cost.mode == OVER_READ else cost.mode
    found = np.where(kept, STATES.index(own), STATES.index(DROPPED)).astype(np.int8)
    if cost.mode == OVER_READ:
        within = found[cost.start : cost.start + cost.span]
        within[within == STATES.index(DROPPED)] = STATES.index(OVER_READ)
    return found


def counted(cost: AccessCost) -> str:
    """What an access is charged for, in a word or two. For an over-read, its additional channels. Empty for a view.

    Examples
    --------
    >>> counted(AccessCost("a", "over-read", 0, 12, 8, 3, 4)), counted(AccessCost("a", "copy", 0, 12, 8, 3, 8))
    ('+4', '8 copied')
    """
    return {
        OVER_READ: f"+{cost.span - cost.kept:,}",
        COPY: f"{cost.kept:,} copied",
        PIECES: f"{cost.runs:,} pieces",
    }.get(cost.mode, "")


def block_starts(problem: Problem, order: Order) -> list[int]:
    """The first column of every block. Blocks stand side by side, each in its place in the order."""
    occupant = occupants(len(problem.blocks), problem.bundles, order.arrangement)
    widths = np.array([len(order[b]) for b in occupant])
    starts = np.empty(len(occupant), dtype=np.int64)
    starts[occupant] = np.cumsum(widths) - widths
    return starts.tolist()
