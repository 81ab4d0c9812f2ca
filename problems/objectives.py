"""Objectives: what an access costs by its span and its runs. The only definition of every objective.

Prices, runs, or the times of cost tables: see docs/model.md. What whole orders cost is in `problems.evaluation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems.errors import ProblemError
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


def in_units(value: int, ticks: int) -> int | float:
    """A value in units of its objective (nanoseconds for tables): whole if it is, otherwise rounded.

    Examples
    --------
    >>> in_units(12, 4), in_units(13, 4), in_units(13, 1)
    (3, 3.25, 13)
    """
    return value // ticks if value % ticks == 0 else value / ticks
