"""Objectives: the cost of an access as a function of its span and its runs. This module is their only definition.

The cost comes from prices, from the number of runs, or from cost tables (docs/model.md). The value of a whole order is
computed in `problems.evaluation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems.errors import ProblemError
from problems.problem import Access, Problem

VIEW, OVER_READ, PIECES, COPY = "view", "over-read", "pieces", "copy"

MAX_SUM = 2**52
"""Larger prices and sums of costs are refused, because solvers scale costs and compute some in floating point."""

_NEVER = np.int64(2**62)


@dataclass(frozen=True)
class Objective:
    """The rule that gives the cost of an access from its span and runs. There are three kinds.

    - *Prices*: an access that keeps k channels within a span of s pays ``channel_size * min(alpha * (s - k), gamma *
      k)``: the price of over-reading or of copying, whichever is lower. ``None`` stands for infinity.
    - *Runs*: it pays its number of contiguous runs, whatever its channel size. Its read mode is `view` if there is one
      run, otherwise `copy`.
    - *Tables*: it pays the time of its cheapest read mode by its `CostTable`, in ticks (a nanosecond is
      `Problem.ticks` ticks).

    All of them are multiplied by the weight of the access.

    Parameters
    ----------
    name
        The name that users type.
    alpha
        Price of one over-read channel, a whole number from 0 to `MAX_SUM`; None if over-reading is not allowed.
    gamma
        Price of one copied channel, in the same range; None if copying is not allowed.
    counts_runs
        The cost is the number of runs. Default False.
    uses_tables
        The cost comes from the accesses' tables. Default False.

    Raises
    ------
    ProblemError
        If not exactly one of the kinds is given, or a price is not such a number.
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
        """Number of units of a problem's costs in one unit of the objective: `Problem.ticks` for tables, otherwise 1.

        Everything that computes costs calls this first. So this is where problems are refused whose sums would not be
        exact.

        Raises
        ------
        ProblemError
            If the prices are so high that the costs of all accesses could sum to more than `MAX_SUM`. (`Problem`
            refuses tables that are too large.)

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
        if self.counts_runs:
            most = sum(access.weight * access.num_kept for access in problem.accesses)
        if most > MAX_SUM:
            raise ProblemError(
                f"objective {self.name!r}: with alpha {self.alpha} and gamma {self.gamma} the accesses of "
                f"{problem.name} could cost {most} together, more than exact arithmetic holds (2^52); "
                "scale the prices down, or the weights"
            )
        return 1

    def converted(self, amount: int, *, part: Problem, whole: Problem) -> int:
        """A value or bound of a part of a problem, in the units of the whole.

        Parameters
        ----------
        amount
            In units of the part (`ticks_of`).
        part
            A problem made from `whole`: restricted to some accesses, relaxed, or arranged.
        whole
            The problem from which the part was made.

        Raises
        ------
        ProblemError
            If a unit of the part is not a whole number of units of the whole.
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
            The result of `ticks_of` for the problem: for tables, ticks per nanosecond.

        Raises
        ------
        ProblemError
            If tables are used and the access has none.
        """
        if self.counts_runs:
            return access.weight * runs
        costs: np.ndarray = np.minimum.reduce(
            list(self._by_mode(access, np.asarray(span), np.asarray(runs), ticks).values())
        )
        return costs

    def mode(self, access: Access, span: int, runs: int, *, ticks: int = 1) -> str:
        """The cheapest read mode: `view`, `over-read`, `pieces` or `copy`. On a tie the first of these is chosen."""
        if span == access.num_kept:
            return VIEW
        if self.counts_runs:
            return COPY
        by_mode = self._by_mode(access, np.array(span), np.array(runs), ticks)
        return min(by_mode, key=lambda mode: int(by_mode[mode]))

    def _by_mode(self, access: Access, span: np.ndarray, runs: np.ndarray, ticks: int) -> dict[str, np.ndarray]:
        """Cost of every mode but `view` (an over-read of no channel); a huge number if a mode is not offered."""
        if not self.uses_tables:
            never = _NEVER // access.price
            excess = span - access.num_kept
            over_read = np.where(excess > 0, never, 0) if self.alpha is None else self.alpha * excess
            copied = never if self.gamma is None else self.gamma * access.num_kept
            size = access.price
            return {OVER_READ: size * over_read, COPY: size * np.broadcast_to(np.int64(copied), excess.shape)}
        table = access.weighted_table
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
"""The objectives by name. They count copied channels, contiguous runs, over-read channels, moved channels, and time."""


def objective_named(objective: str | Objective) -> Objective:
    """Look an objective up by name; an `Objective` is returned unchanged.

    Raises
    ------
    ProblemError
        If no objective has that name. The message lists the objectives.
    """
    if isinstance(objective, Objective):
        return objective
    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise ProblemError(f"there is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[objective]


def in_units(value: int, ticks: int) -> int | float:
    """A value in units of its objective (nanoseconds for tables): an int if it is whole, otherwise a rounded float.

    Examples
    --------
    >>> in_units(12, 4), in_units(13, 4), in_units(13, 1)
    (3, 3.25, 13)
    """
    return value // ticks if value % ticks == 0 else value / ticks
