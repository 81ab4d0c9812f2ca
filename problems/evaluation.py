"""What an order costs: the only definition of every objective.

`evaluate` answers for one order, access by access; `evaluate_batch` gives the values of many orders at once
and is the same arithmetic. Everything a solver claims is checked against this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems.conversions import items, of_kind
from problems.errors import ProblemError
from problems.order import Order
from problems.problem import Access, Problem

VIEW, OVER_READ, PIECES, COPY = "view", "over-read", "pieces", "copy"

MAX_SUM = 2**52
"""Prices and sums of costs above it are refused: solvers scale costs and hold some of them in floating point."""

_NEVER = np.int64(2**62)


@dataclass(frozen=True)
class Objective:
    """How the cost of an access follows from its span and runs: one of three kinds.

    *Prices*: an access that keeps k channels within a span of s pays ``channel_size * min(alpha * (s - k), gamma *
    k)``, the price of over-reading or of copying; ``None`` stands for infinity. *Runs*: it pays its number of
    contiguous runs, whatever its channel size, and is carried out as a copy unless there is one run. *Tables*: it
    pays the time of its cheapest read mode by its `CostTable`, in ticks (`Problem.ticks` make a nanosecond).

    Parameters
    ----------
    name
        What users type.
    alpha
        Price of one over-read channel, a whole number from 0 to `MAX_SUM`; None if over-reading is not allowed.
    gamma
        Price of one copied channel, likewise; None if copying is not allowed.
    counts_runs
        Count runs instead.
    uses_tables
        Look the costs up in the accesses' tables instead.

    Raises
    ------
    ProblemError
        If not exactly one of the kinds is given, or a price is none.
    """

    name: str
    alpha: int | None = None
    gamma: int | None = None
    counts_runs: bool = False
    uses_tables: bool = False

    def __post_init__(self) -> None:
        priced = self.alpha is not None or self.gamma is not None
        if priced + self.counts_runs + self.uses_tables != 1:
            raise ProblemError(f"objective {self.name!r}: give alpha, gamma or both, or count runs, or use tables")
        for field in ("alpha", "gamma"):
            price = getattr(self, field)
            if price is None:
                continue
            if not isinstance(price, (int, np.integer)) or isinstance(price, bool):
                raise ProblemError(f"objective {self.name!r}: {field} is {price!r}; give a whole number (scale prices)")
            if not 0 <= price <= MAX_SUM:
                raise ProblemError(f"objective {self.name!r}: {field} is {price}; give a number from 0 to 2^52")
            object.__setattr__(self, field, int(price))

    def ticks_of(self, problem: Problem) -> int:
        """Units of a problem's costs that make one of the objective: `Problem.ticks` for tables, otherwise 1.

        Whoever computes costs asks here first, so that this is the place where what is not exact is refused.

        Raises
        ------
        ProblemError
            If the prices are so high that the costs of all accesses could sum to more than `MAX_SUM`. (`Problem` itself
            refuses such tables.)

        Examples
        --------
        >>> from problems.generators import random_masks, with_tables
        >>> problem = with_tables(random_masks(32, 2))
        >>> OBJECTIVES["latency"].ticks_of(problem) == problem.ticks, OBJECTIVES["span"].ticks_of(problem)
        (True, 1)
        """
        if self.uses_tables:
            return problem.ticks
        over_read, copied = problem.most_elements
        most = (self.alpha or 0) * over_read + (self.gamma or 0) * copied
        if most > MAX_SUM:
            raise ProblemError(
                f"objective {self.name!r}: with alpha {self.alpha} and gamma {self.gamma} the accesses of "
                f"{problem.name} could cost {most} together, more than exact arithmetic holds (2^52); "
                "scale the prices down"
            )
        return 1

    def converted(self, amount: int, *, part: Problem, whole: Problem) -> int:
        """A value or bound of a part of a problem, in the units of the whole.

        Parameters
        ----------
        amount
            In units of the part (`ticks_of`).
        part
            A problem with some of its accesses, or with others of the same tables: restricted, loosened or arranged.
        whole
            The problem it was made of.

        Raises
        ------
        ProblemError
            If a unit of the part is no whole number of units of the other problem.
        """
        scale, rest = divmod(self.ticks_of(whole), self.ticks_of(part))
        if rest:
            raise ProblemError(f"{part.name} is no part of {whole.name}: its cost tables need other ticks")
        return amount * scale

    def costs(self, access: Access, span: np.ndarray, runs: np.ndarray, *, ticks: int = 1) -> np.ndarray:
        """Cost of one access for each entry of `span` and `runs` (same shape, int64).

        Parameters
        ----------
        access
            The access.
        span, runs
            int, same shape.
        ticks
            What `ticks_of` says of the problem: ticks per nanosecond, for tables.

        Raises
        ------
        ProblemError
            If tables are used and the access has none.
        """
        if self.counts_runs:
            return runs
        costs: np.ndarray = np.minimum.reduce(
            list(self._by_mode(access, np.asarray(span), np.asarray(runs), ticks).values())
        )
        return costs

    def mode(self, access: Access, span: int, runs: int, *, ticks: int = 1) -> str:
        """The read mode the objective chooses: `view`, `over-read`, `pieces` or `copy`, the first of the cheapest."""
        if span == access.num_kept:
            return VIEW
        if self.counts_runs:
            return COPY
        by_mode = self._by_mode(access, np.array(span), np.array(runs), ticks)
        return min(by_mode, key=lambda mode: int(by_mode[mode]))

    def _by_mode(self, access: Access, span: np.ndarray, runs: np.ndarray, ticks: int) -> dict[str, np.ndarray]:
        """Cost of every mode but `view` (an over-read of nothing); a huge number where one is not offered."""
        if not self.uses_tables:
            never = _NEVER // access.channel_size
            excess = span - access.num_kept
            over_read = np.where(excess > 0, never, 0) if self.alpha is None else self.alpha * excess
            copied = never if self.gamma is None else self.gamma * access.num_kept
            size = access.channel_size
            return {OVER_READ: size * over_read, COPY: size * np.broadcast_to(np.int64(copied), excess.shape)}
        table = access.table
        if table is None:
            raise ProblemError(
                f"access {access.name!r} has no cost table; add one, or choose an objective other than {self.name!r}"
            )
        by_mode = {OVER_READ: table.read.ticks(span, per_nanosecond=ticks)}
        contiguous = table.read.ticks(np.array(access.num_kept), per_nanosecond=ticks)
        if table.pieces is not None:
            offered = (runs >= 2) & (runs <= table.pieces.points[-1])
            joined = table.pieces.ticks(np.where(offered, runs, 2), per_nanosecond=ticks)
            by_mode[PIECES] = np.where(offered, contiguous + joined, _NEVER)
        if table.copy is not None:
            by_mode[COPY] = np.broadcast_to(contiguous + ticks * table.copy, span.shape)
        return by_mode


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("copies", gamma=1),
        Objective("runs", counts_runs=True),
        Objective("span", alpha=1),
        Objective("traffic", alpha=1, gamma=2),
        Objective("latency", uses_tables=True),
    )
}
"""The objectives by name: copied channels; contiguous runs; over-read channels; channels moved needlessly; time."""


def objective_named(objective: str | Objective) -> Objective:
    """Look an objective up by name; an `Objective` passes through.

    Raises
    ------
    ProblemError
        If no objective has that name; the message lists those there are.
    """
    if isinstance(objective, Objective):
        return objective
    if not isinstance(objective, str) or objective not in OBJECTIVES:
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
        `view`, `over-read`, `pieces` or `copy`.
    start, span
        The smallest contiguous range of the stored input that holds the kept channels: its first position and
        its length, in channels.
    kept
        Number of kept channels.
    runs
        Number of maximal contiguous runs of kept channels.
    cost
        What it adds to the objective; for tables in ticks.
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
    """The value of an order for one objective, and what each access contributes.

    Attributes
    ----------
    objective
        Its name.
    value
        Sum of the accesses' costs; for tables in ticks.
    accesses
        What each access does and pays.
    ticks
        Units of `value` that make one of the objective: ticks per nanosecond for tables, otherwise 1.
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
        """Number of accesses that join their contiguous runs first."""
        return sum(access.mode == PIECES for access in self.accesses)

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


def in_units(value: int, ticks: int) -> int | float:
    """A value in units of its objective (nanoseconds for tables): whole if it is, otherwise rounded.

    Examples
    --------
    >>> in_units(12, 4), in_units(13, 4), in_units(13, 1)
    (3, 3.25, 13)
    """
    return value // ticks if value % ticks == 0 else value / ticks


def evaluate(problem: Problem, order: Order, objective: str | Objective = "copies") -> Evaluation:
    """Value of an order, with the read mode, span, runs and cost of every access.

    Raises
    ------
    ProblemError
        If the order is not a valid one for the problem, the objective is unknown, or its prices are too high for the
        problem (`Objective.ticks_of`).

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
            )
        )
    return Evaluation(chosen.name, sum(access.cost for access in accesses), tuple(accesses), ticks)


def evaluate_batch(problem: Problem, orders: Sequence[np.ndarray], objective: str | Objective = "copies") -> np.ndarray:
    """Values of many orders at once, units of bundles in their own places. Does not check that they are permutations.

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
        If the objective is unknown, or its prices are too high for the problem (`Objective.ticks_of`).
        If there is not one int array of two dimensions per block.
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
