"""The value of an order for any objective of `problems.objectives`.

`evaluate` computes one order, access by access. `evaluate_batch` computes the values of many orders at once, with the
same arithmetic. Every value that a solver reports is checked with this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems.conversions import items, of_kind
from problems.errors import ProblemError
from problems.objectives import COPY, OVER_READ, PIECES, VIEW, Objective, in_units, objective_named
from problems.order import Order
from problems.problem import Problem
from problems.showing.cards import evaluation_card
from problems.showing.reprs import shown_as


@dataclass(frozen=True)
class AccessCost:
    """Read mode, span, runs and cost of one access under an order.

    Attributes
    ----------
    name
        Name of the access.
    mode
        `view`, `over-read`, `pieces` or `copy`.
    start, span
        The smallest contiguous range of the stored input that holds the kept channels: its first position and
        its length, in channels.
    kept
        Number of kept channels.
    runs
        Number of maximal contiguous runs of kept channels.
    cost
        What it adds to the value, its weight included; for tables in ticks.
    weight
        How often the access counts.
    """

    name: str
    mode: str
    start: int
    span: int
    kept: int
    runs: int
    cost: int
    weight: int = 1


@shown_as(evaluation_card)
@dataclass(frozen=True)
class Evaluation:
    """The value of an order for one objective, and the share of each access.

    An access of weight 3 counts three times in all sums and numbers of accesses.

    Attributes
    ----------
    objective
        Name of the objective.
    value
        Sum of the accesses' costs; for tables in ticks.
    accesses
        Read mode and cost of each access.
    ticks
        Number of units of `value` in one unit of the objective: ticks per nanosecond for tables, otherwise 1.
    """

    objective: str
    value: int
    accesses: tuple[AccessCost, ...]
    ticks: int = 1

    def __str__(self) -> str:
        pieces = f"{self.pieces} in pieces, " if self.pieces else ""
        return (
            f"{self.objective} {in_units(self.value, self.ticks)}: {self.views} views, {self.over_reads} over-reads, "
            f"{pieces}{self.copies} copies ({self.copied_channels} channels)"
        )

    @property
    def pieces(self) -> int:
        """Number of accesses that first join their contiguous runs."""
        return sum(access.weight for access in self.accesses if access.mode == PIECES)

    @property
    def views(self) -> int:
        """Number of accesses that read their kept channels in place and no others."""
        return sum(access.weight for access in self.accesses if access.mode == VIEW)

    @property
    def over_reads(self) -> int:
        """Number of accesses that read unwanted channels too."""
        return sum(access.weight for access in self.accesses if access.mode == OVER_READ)

    @property
    def copies(self) -> int:
        """Number of accesses that first gather their channels."""
        return sum(access.weight for access in self.accesses if access.mode == COPY)

    @property
    def copied_channels(self) -> int:
        """Number of gathered channels, over all copies."""
        return sum(access.weight * access.kept for access in self.accesses if access.mode == COPY)

    @property
    def span(self) -> int:
        """Sum of all spans, in channels."""
        return sum(access.weight * access.span for access in self.accesses)

    @property
    def runs(self) -> int:
        """Sum of all runs."""
        return sum(access.weight * access.runs for access in self.accesses)


def evaluate(problem: Problem, order: Order, objective: str | Objective = "copies") -> Evaluation:
    """The value of an order, with the read mode, span, runs and cost of every access.

    Raises
    ------
    ProblemError
        If the order is not valid for the problem, the objective is unknown, or its prices are too high for the problem
        (`Objective.ticks_of`).

    Examples
    --------
    >>> import numpy as np
    >>> from problems import Access, Block
    >>> reads = [[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]]
    >>> problem = Problem(
    ...     (Block("x", 4),), tuple(Access(f"a{i}", (0,), np.array(k)) for i, k in enumerate(reads)))
    >>> print(evaluate(problem, Order.identity(problem)))
    copies 2: 2 views, 0 over-reads, 1 copies (2 channels)
    >>> evaluate(problem, Order([[3, 0, 1, 2]])).value
    0
    """
    chosen = objective_named(objective)
    of_kind(order, Order, "the order").require_valid(problem)
    problem = problem.arranged(order.arrangement) if order.arrangement else problem
    orders = [block[np.newaxis] for block in order.channels]
    ticks = chosen.ticks_of(problem)
    accesses = []
    for a, access in enumerate(problem.accesses):
        start, span, runs = _measure(problem, a, orders)
        accesses.append(
            AccessCost(
                access.name,
                chosen.mode(access, int(span[0]), int(runs[0]), ticks=ticks),
                int(start[0]),
                int(span[0]),
                access.num_kept,
                int(runs[0]),
                int(chosen.costs(access, span, runs, ticks=ticks)[0]),
                access.weight,
            )
        )
    return Evaluation(chosen.name, sum(access.cost for access in accesses), tuple(accesses), ticks)


def evaluate_batch(problem: Problem, orders: Sequence[np.ndarray], objective: str | Objective = "copies") -> np.ndarray:
    """Values of many orders at once; units of bundles stay in their places. The orders are not checked.

    Parameters
    ----------
    problem
        The problem.
    orders
        Per block an int array of shape (num_orders, number of stored channels of the block).
    objective
        Name or `Objective`.

    Returns
    -------
    np.ndarray
        int64, shape (num_orders,); for tables in ticks.

    Raises
    ------
    ProblemError
        If the objective is unknown, or its prices are too high for the problem (`Objective.ticks_of`). Also if there is
        not one two-dimensional int array per block.
    """
    chosen = objective_named(objective)
    if len(items(orders, "orders")) != len(of_kind(problem, Problem, "the problem").blocks):
        raise ProblemError(f"there are orders of {len(orders)} blocks; {problem.name} has {len(problem.blocks)}")
    orders = [np.asarray(own) for own in orders]
    ticks = chosen.ticks_of(problem)
    if any(own.ndim != 2 or own.dtype.kind not in "iu" for own in orders):
        raise ProblemError("orders must be int arrays of shape (num_orders, number of stored channels), one per block")
    total = np.zeros(len(orders[0]), dtype=np.int64)
    for a, access in enumerate(problem.accesses):
        _, span, runs = _measure(problem, a, orders)
        total += chosen.costs(access, span, runs, ticks=ticks)
    return total


def _measure(problem: Problem, a: int, orders: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First position, span and runs of access `a` under each order; int64, shape (num_orders,) each."""
    access = problem.accesses[a]
    offset = problem.first_readers[a]
    kept = np.concatenate([problem.reads[offset + slot][orders[b]] for slot, b in enumerate(access.blocks)], axis=1)
    width = kept.shape[1]
    start = kept.argmax(axis=1)
    span = width - kept[:, ::-1].argmax(axis=1) - start
    runs = kept[:, 0].astype(np.int64) + (kept[:, 1:] & ~kept[:, :-1]).sum(axis=1)
    return start.astype(np.int64), span.astype(np.int64), runs
