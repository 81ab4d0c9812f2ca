"""What an order costs: the only definition of every objective.

`evaluate` answers for one order, access by access; `evaluate_batch` gives the values of many orders at once
and is the same arithmetic. Everything a solver claims is checked against this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems.errors import ProblemError
from problems.order import Order
from problems.problem import Access, Problem

VIEW, OVER_READ, COPY = "view", "over-read", "copy"


@dataclass(frozen=True)
class Objective:
    """How the cost of an access follows from its span and runs.

    An access that keeps k channels within a span of s pays ``channel_size * min(alpha * (s - k), gamma * k)``:
    the price of over-reading, or of copying. ``None`` stands for infinity. With `counts_runs` it pays its number
    of contiguous runs instead, whatever its channel size, and is carried out as a copy unless there is one run.

    Parameters
    ----------
    name
        What users type.
    alpha
        Price of one over-read channel; None if over-reading is not allowed.
    gamma
        Price of one copied channel; None if copying is not allowed.
    counts_runs
        Count runs instead.
    """

    name: str
    alpha: int | None = None
    gamma: int | None = None
    counts_runs: bool = False

    def __post_init__(self) -> None:
        if self.counts_runs != (self.alpha is None and self.gamma is None):
            raise ProblemError(f"objective {self.name!r}: give alpha, gamma or both, or count runs and give neither")
        prices = [price for price in (self.alpha, self.gamma) if price is not None]
        if not all(isinstance(price, (int, np.integer)) for price in prices):
            raise ProblemError(f"objective {self.name!r}: alpha and gamma must be whole numbers; scale them")
        if any(price < 0 for price in prices):
            raise ProblemError(f"objective {self.name!r}: alpha and gamma must not be negative")

    def costs(self, access: Access, span: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Cost of one access for each entry of `span` and `runs` (same shape, int64)."""
        if self.counts_runs:
            return runs
        over_read, copied = self._prices(access, span)
        return access.channel_size * np.minimum(over_read, copied)

    def mode(self, access: Access, span: int) -> str:
        """The read mode the objective chooses: `view`, `over-read` or `copy` (over-read on a tie)."""
        if span == access.num_kept:
            return VIEW
        if self.counts_runs:
            return COPY
        over_read, copied = self._prices(access, np.array(span))
        return OVER_READ if over_read <= copied else COPY

    def _prices(self, access: Access, span: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        never = np.int64(2**62) // access.channel_size
        excess = np.asarray(span - access.num_kept)
        over_read = np.where(excess > 0, never, 0) if self.alpha is None else self.alpha * excess
        copied = never if self.gamma is None else self.gamma * access.num_kept
        return over_read, np.broadcast_to(np.int64(copied), excess.shape)


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("copies", gamma=1),
        Objective("runs", counts_runs=True),
        Objective("span", alpha=1),
        Objective("traffic", alpha=1, gamma=2),
    )
}
"""The objectives by name: copied channels; contiguous runs; over-read channels; channels moved needlessly."""


def objective_named(objective: str | Objective) -> Objective:
    """Look an objective up by name; an `Objective` passes through.

    Raises
    ------
    ProblemError
        If no objective has that name; the message lists those there are.
    """
    if isinstance(objective, Objective):
        return objective
    if objective not in OBJECTIVES:
        raise ProblemError(f"there is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[objective]


@dataclass(frozen=True)
class AccessCost:
    """What one access does and pays under an order.

    Attributes
    ----------
    name
        The access.
    mode
        `view`, `over-read` or `copy`.
    start, span
        The smallest contiguous range of the stored input that holds the kept channels: its first position and
        its length, in channels.
    kept
        Number of kept channels.
    runs
        Number of maximal contiguous runs of kept channels.
    cost
        What it adds to the objective.
    """

    name: str
    mode: str
    start: int
    span: int
    kept: int
    runs: int
    cost: int


@dataclass(frozen=True)
class Evaluation:
    """The value of an order for one objective, and what each access contributes."""

    objective: str
    value: int
    accesses: tuple[AccessCost, ...]

    def __str__(self) -> str:
        return (
            f"{self.objective} {self.value}: {self.views} views, {self.over_reads} over-reads, "
            f"{self.copies} copies ({self.copied_channels} channels)"
        )

    @property
    def views(self) -> int:
        """Number of accesses that read in place and nothing else."""
        return sum(access.mode == VIEW for access in self.accesses)

    @property
    def over_reads(self) -> int:
        """Number of accesses that read unwanted channels along."""
        return sum(access.mode == OVER_READ for access in self.accesses)

    @property
    def copies(self) -> int:
        """Number of accesses that gather their channels first."""
        return sum(access.mode == COPY for access in self.accesses)

    @property
    def copied_channels(self) -> int:
        """Channels gathered, over all copies."""
        return sum(access.kept for access in self.accesses if access.mode == COPY)

    @property
    def span(self) -> int:
        """Sum of all spans, in channels."""
        return sum(access.span for access in self.accesses)

    @property
    def runs(self) -> int:
        """Sum of all runs."""
        return sum(access.runs for access in self.accesses)


def evaluate(problem: Problem, order: Order, objective: str | Objective = "copies") -> Evaluation:
    """Value of an order, with the read mode, span, runs and cost of every access.

    Raises
    ------
    ProblemError
        If the order is not a valid one for the problem, or the objective is unknown.

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
    order.require_valid(problem)
    orders = [block[np.newaxis] for block in order.channels]
    accesses = []
    for a, access in enumerate(problem.accesses):
        start, span, runs = _measure(problem, a, orders)
        accesses.append(
            AccessCost(
                access.name,
                chosen.mode(access, int(span[0])),
                int(start[0]),
                int(span[0]),
                access.num_kept,
                int(runs[0]),
                int(chosen.costs(access, span, runs)[0]),
            )
        )
    return Evaluation(chosen.name, sum(access.cost for access in accesses), tuple(accesses))


def evaluate_batch(problem: Problem, orders: Sequence[np.ndarray], objective: str | Objective = "copies") -> np.ndarray:
    """Values of many orders at once. Does not check that they are permutations.

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
        int64, shape (num_orders,).
    """
    chosen = objective_named(objective)
    total = np.zeros(len(orders[0]), dtype=np.int64)
    for a, access in enumerate(problem.accesses):
        _, span, runs = _measure(problem, a, orders)
        total += chosen.costs(access, span, runs)
    return total


def _measure(problem: Problem, a: int, orders: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First position, span and runs of access `a` under each order; int64, shape (num_orders,) each."""
    access = problem.accesses[a]
    offset = sum(len(other.blocks) for other in problem.accesses[:a])
    kept = np.concatenate([problem.reads[offset + slot][orders[b]] for slot, b in enumerate(access.blocks)], axis=1)
    width = kept.shape[1]
    start = kept.argmax(axis=1)
    span = width - kept[:, ::-1].argmax(axis=1) - start
    runs = kept[:, 0].astype(np.int64) + (kept[:, 1:] & ~kept[:, :-1]).sum(axis=1)
    return start.astype(np.int64), span.astype(np.int64), runs
