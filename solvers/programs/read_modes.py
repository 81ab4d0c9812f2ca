"""What an access pays in each read mode: costs by excess for over-reading, one number for a copy, by runs for pieces.

The common ground of the constraint programs: they read no objective, only these arrays. Excess is span less kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from problems import Access, Objective, Problem, ProblemError

MAX_COST = 2**30  # cost: largest in a constraint program: products of two fit 64 bits, with room for sums

_SLOPES = 64  # slopes: tried for a concave function below the costs; by hand


@dataclass(frozen=True)
class Segment:
    """A linear piece of a cost: ``cost + slope * (excess - first)`` for `first` <= excess <= `last`."""

    first: int
    last: int
    cost: int
    slope: int

    @property
    def intercept(self) -> int:
        """What the line costs at excess 0."""
        return self.cost - self.slope * self.first


@dataclass(frozen=True, eq=False)
class ReadModes:
    """The costs of one access, whole numbers.

    Attributes
    ----------
    over_read
        int64, by excess from 0 (a view) to the largest there is; where over-reading is not allowed it holds the view
        only.
    max_excess
        The largest excess an order can give.
    copy
        None if the access cannot copy.
    pieces
        int64, by runs from 2; None if the access never joins pieces. With more runs than listed it cannot, or need not.
    """

    over_read: np.ndarray
    max_excess: int
    copy: int | None = None
    pieces: np.ndarray | None = None

    @cached_property
    def in_one_range(self) -> np.ndarray:
        """The least cost at every excess without pieces; int64, shape (max_excess + 1,), not decreasing."""
        costs = np.full(self.max_excess + 1, np.iinfo(np.int64).max)
        costs[: len(self.over_read)] = self.over_read
        return costs if self.copy is None else np.minimum(costs, self.copy)

    @cached_property
    def least(self) -> np.ndarray:
        """The least cost at every excess, whatever the runs; int64, shape (max_excess + 1,), not decreasing."""
        least = self.in_one_range.copy()
        if self.pieces is not None:
            np.minimum(least[1:], self.pieces[0], out=least[1:])
        return least

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The linear pieces of over-reading, as far as it is cheaper than a copy or costs the same."""
        useful = self.over_read
        if self.copy is not None:
            useful = useful[: max(1, int(np.count_nonzero(useful <= self.copy)))]
        return linear_pieces(useful)

    @property
    def numbers(self) -> np.ndarray:
        """All costs."""
        copy = [] if self.copy is None else [self.copy]
        return np.concatenate([self.over_read, copy, [] if self.pieces is None else self.pieces]).astype(np.int64)

    @property
    def largest(self) -> int:
        """The largest number in the linear pieces, a copy, and pieces, whatever its sign."""
        lines = (abs(number) for own in linear_pieces(self.over_read) for number in (own.intercept, own.slope))
        return max(*lines, int(np.abs(self.numbers).max()))

    def cut_off(self, most: int) -> ReadModes:
        """Costs above `most` replaced by it."""
        copy = None if self.copy is None else min(self.copy, most)
        pieces = None if self.pieces is None else np.minimum(self.pieces, most)
        return ReadModes(np.minimum(self.over_read, most), self.max_excess, copy, pieces)

    def divided(self, base: int, unit: int) -> ReadModes:
        """Costs less `base`, in so large units: linear pieces stay linear, what is not whole is rounded down."""
        over_read = self.over_read - base
        for own in linear_pieces(over_read):
            over_read[own.first : own.last + 1] = own.cost // unit + own.slope // unit * np.arange(
                own.last - own.first + 1
            )
        return ReadModes(
            over_read,
            self.max_excess,
            None if self.copy is None else (self.copy - base) // unit,
            None if self.pieces is None else (self.pieces - base) // unit,
        )


def read_modes(problem: Problem, objective: Objective) -> tuple[ReadModes, ...]:
    """The costs of every access, in the units of `problems.evaluate`.

    Raises
    ------
    problems.ProblemError
        If the objective counts runs (that is no read mode), or uses tables and an access has none.

    Examples
    --------
    >>> from problems import objective_named
    >>> from problems.generators import random_masks
    >>> modes = read_modes(random_masks(5, 2), objective_named("traffic"))[0]
    >>> modes.over_read.tolist(), modes.copy, modes.least.tolist(), len(modes.segments)
    ([0, 1], 4, [0, 1], 1)
    """
    if objective.counts_runs:
        raise ProblemError("an objective that counts runs has no read modes; count them")
    modes = []
    for access in problem.accesses:
        width = sum(len(problem.stored[b]) for b in access.blocks)
        most = width - access.num_kept
        modes.append(
            _by_table(access, most, objective.ticks_of(problem))
            if objective.uses_tables
            else _priced(access, objective, most)
        )
    return tuple(modes)


def linear_pieces(costs: np.ndarray) -> tuple[Segment, ...]:
    """Cut costs by excess into as few linear pieces as possible, from the left; they do not overlap.

    Examples
    --------
    >>> [(s.first, s.last, s.cost, s.slope) for s in linear_pieces(np.array([0, 2, 4, 5, 5, 5]))]
    [(0, 2, 0, 2), (3, 5, 5, 0)]
    """
    steps = np.diff(costs)
    segments: list[Segment] = []
    first = 0
    while first < len(costs):
        bends = np.flatnonzero(steps[first:] != steps[first]) if first < len(steps) else np.zeros(0, dtype=np.int64)
        last = first + int(bends[0]) if len(bends) else len(costs) - 1
        slope = int(steps[first]) if last > first else 0
        segments.append(Segment(first, last, int(costs[first]), slope))
        first = last + 1
    return tuple(segments)


@dataclass(frozen=True, eq=False)
class SmallModes:
    """Costs in numbers small enough for a constraint program: ``bases[a] + unit * cost`` of what they stand for.

    Attributes
    ----------
    modes
        One per access.
    bases
        What each access pays in any case.
    unit
        At least 1.
    exact
        Nothing was rounded; otherwise costs are rounded down, so that bounds stay bounds.
    """

    modes: tuple[ReadModes, ...]
    bases: tuple[int, ...]
    unit: int
    exact: bool


def small_modes(modes: Sequence[ReadModes], known: int) -> SmallModes:
    """Take off what every access pays in any case, and the largest common factor; where costs are still too large, cut
    off what no better order pays, and round down what is larger even then.

    CP-SAT promises exactness as long as sums fit 64 bits, but its presolve (9.15) multiplies coefficients with each
    other and calls wrong optima OPTIMAL where these products wrap.

    Parameters
    ----------
    modes
        The costs.
    known
        What some order costs. An order with an access that pays a cost cut off costs as much in the program, too.

    Examples
    --------
    >>> small = small_modes([ReadModes(np.array([7, 10, 13, 19]), 3, copy=16)], 19)
    >>> small.modes[0].over_read.tolist(), small.modes[0].copy, small.bases, small.unit, small.exact
    ([0, 1, 2, 4], 3, (7,), 3, True)
    >>> large = [ReadModes(np.arange(4) * (2**31 + 1), 3, copy=5)]
    >>> cut, rounded = small_modes(large, 10**3), small_modes(large, 10**12)
    >>> cut.modes[0].over_read.tolist(), cut.unit, cut.exact
    ([0, 1000, 1000, 1000], 1, True)
    >>> rounded.modes[0].over_read.tolist(), rounded.unit, rounded.exact
    ([0, 306783378, 613566756, 920350134], 7, False)
    """
    bases = tuple(int(own.over_read[0]) for own in modes)
    numbers = [own.numbers - base for own, base in zip(modes, bases)]
    unit = math.gcd(*(int(number) for own in numbers for number in own)) or 1
    found = [own.divided(base, unit) for own, base in zip(modes, bases)]
    largest = max((own.largest for own in found), default=0)
    if largest > MAX_COST:
        found = [own.cut_off(-(-(known - sum(bases)) // unit)) for own in found]
        largest = max(own.largest for own in found)
    if largest <= MAX_COST:
        return SmallModes(tuple(found), bases, unit, True)
    coarse = -(-largest // MAX_COST)
    return SmallModes(tuple(own.divided(0, coarse) for own in found), bases, unit * coarse, False)


def concave_minorant(costs: np.ndarray) -> np.ndarray:
    """A concave, non-decreasing, whole-numbered function below `costs`.

    There is no greatest one. This is a line that turns flat somewhere: among some slopes and all turning points the one
    with the largest sum.

    Parameters
    ----------
    costs
        int64, by excess, not decreasing. Slopes are rounded down: scale small costs up.

    Examples
    --------
    >>> concave_minorant(np.array([0, 3, 4, 7, 8, 11])).tolist()
    [0, 2, 4, 6, 8, 10]
    >>> concave_minorant(np.array([0, 0, 8, 16, 24, 24])).tolist()
    [-6, 0, 6, 12, 18, 24]
    """
    excess = np.arange(len(costs))
    rise = costs - costs[0]
    secants = np.unique(np.concatenate([rise[1:] // excess[1:], (rise[-1] - rise[:-1]) // (excess[-1] - excess[:-1])]))
    best, least = excess * 0, 0
    for slope in secants[np.linspace(0, len(secants) - 1, min(_SLOPES, len(secants))).astype(int)].tolist():
        intercept = np.minimum.accumulate(rise - slope * excess)
        area = intercept * len(costs) + slope * (excess * (excess + 1) // 2 + (excess[-1] - excess) * excess)
        turn = int(area.argmax())
        if area[turn] > least:
            least = int(area[turn])
            best = intercept[turn] + slope * np.minimum(excess, turn)
    return best + costs[0]


def _priced(access: Access, objective: Objective, most: int) -> ReadModes:
    """Costs from alpha and gamma."""
    size = access.channel_size
    allowed = most if objective.alpha is not None else 0
    over_read = size * (objective.alpha or 0) * np.arange(allowed + 1, dtype=np.int64)
    copy = None if objective.gamma is None else size * objective.gamma * access.num_kept
    return ReadModes(over_read, most, copy)


def _by_table(access: Access, most: int, ticks: int) -> ReadModes:
    """Costs from a table, in ticks."""
    table = access.table
    if table is None:
        raise ProblemError(f"access {access.name!r} has no cost table; add one, or choose an objective without tables")
    over_read = table.read.ticks(access.num_kept + np.arange(most + 1), per_nanosecond=ticks)
    copy = None if table.copy is None else int(over_read[0]) + ticks * table.copy
    pieces = None
    if table.pieces is not None and most > 0 and access.num_kept > 1:
        runs = np.arange(2, min(table.pieces.points[-1], access.num_kept, most + 1) + 1)
        joined = over_read[0] + table.pieces.ticks(runs, per_nanosecond=ticks)
        joined = joined[joined < (over_read[-1] if copy is None else min(copy, over_read[-1]))]
        pieces = joined if len(joined) else None
    return ReadModes(over_read, most, copy, pieces)
