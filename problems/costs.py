"""The time that reading costs: piecewise linear curves in whole nanoseconds, and the cost table of one access.

Between two grid points a curve is interpolated linearly and exactly. Costs are counted in ticks. A tick is the largest
part of a nanosecond that makes every interpolated cost of a problem a whole number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from problems.conversions import items, of_kind
from problems.errors import ProblemError
from problems.showing.reprs import shown

MAX_COST = 2**40
"""Most nanoseconds a table may hold (18 minutes)."""

MAX_TICKS = 2**20
"""Most ticks per nanosecond."""


@shown
@dataclass(frozen=True)
class Curve:
    """A non-decreasing piecewise linear function, given at grid points.

    Parameters
    ----------
    points
        Whole numbers, strictly increasing, at least one.
    costs
        Nanoseconds at the points: whole numbers from 0 to `MAX_COST`, not decreasing.

    Raises
    ------
    ProblemError
        If a number is not as described.

    Examples
    --------
    >>> curve = Curve((8, 16, 24), (100, 130, 150))
    >>> curve.denominator, curve.is_concave
    (4, True)
    >>> curve.ticks(np.array([8, 12, 17]), per_nanosecond=4).tolist()
    [400, 460, 530]
    """

    points: tuple[int, ...]
    costs: tuple[int, ...]

    def __init__(self, points: Iterable[int], costs: Iterable[int]) -> None:
        object.__setattr__(self, "points", _whole_numbers("points", points))
        object.__setattr__(self, "costs", _whole_numbers("costs", costs))
        if len(self.points) != len(self.costs) or not self.points:
            raise ProblemError(
                f"a curve has {len(self.points)} points and {len(self.costs)} costs; one each, at least 1"
            )
        if any(b <= a for a, b in pairwise(self.points)) or self.points[0] < 0:
            raise ProblemError("the points of a curve must increase strictly, from 0 or above; sort them")
        if any(b < a for a, b in pairwise(self.costs)):
            raise ProblemError("the costs of a curve must not decrease; smooth them (isotonic regression)")
        if not 0 <= self.costs[0] <= self.costs[-1] <= MAX_COST:
            raise ProblemError(f"the costs of a curve are nanoseconds from 0 to {MAX_COST}")

    @property
    def denominator(self) -> int:
        """The least number of ticks per nanosecond that makes every interpolated cost whole."""
        widths = np.diff(self.points).tolist()
        rises = np.diff(self.costs).tolist()
        return math.lcm(*(width // math.gcd(width, rise) for width, rise in zip(widths, rises)))

    def times(self, factor: int) -> Curve:
        """The curve with all costs multiplied by a whole number."""
        return Curve(self.points, [cost * factor for cost in self.costs])

    @property
    def is_concave(self) -> bool:
        """Whether the slopes never increase from one interval of the grid to the next."""
        pieces = list(zip(np.diff(self.points).tolist(), np.diff(self.costs).tolist()))
        return all(
            rise * next_width >= next_rise * width for (width, rise), (next_width, next_rise) in pairwise(pieces)
        )

    def covers(self, first: int, last: int) -> bool:
        """Whether the grid reaches from `first` to `last`."""
        return self.points[0] <= first and last <= self.points[-1]

    def ticks(self, x: np.ndarray, *, per_nanosecond: int) -> np.ndarray:
        """The costs at `x`, exactly, in ticks.

        Parameters
        ----------
        x
            int, any shape; each within the grid's range.
        per_nanosecond
            Ticks per nanosecond, a multiple of `denominator`.

        Raises
        ------
        ProblemError
            If some `x` lies outside the grid's range.
        """
        x = np.asarray(x, dtype=np.int64)
        points, costs = np.array(self.points, dtype=np.int64), np.array(self.costs, dtype=np.int64)
        if x.size and not self.covers(int(x.min()), int(x.max())):
            raise ProblemError(
                f"a curve from {self.points[0]} to {self.points[-1]} has no cost at {int(x.min())} to {int(x.max())}; "
                "extend its grid"
            )
        if len(points) == 1:
            return np.full(x.shape, costs[0] * per_nanosecond)
        piece = np.clip(np.searchsorted(points, x, side="right") - 1, 0, len(points) - 2)
        slope = np.diff(costs) * per_nanosecond // np.diff(points)
        return costs[piece] * per_nanosecond + slope[piece] * (x - points[piece])


@shown
@dataclass(frozen=True)
class CostTable:
    """What one access costs in each of its read modes, in nanoseconds.

    Parameters
    ----------
    read
        Maps a span to the time of the consumer when it reads that many channels in place. The grid must reach from the
        number of kept channels to the number of stored ones.
    copy
        Time to gather the kept channels. The consumer then reads them at ``read(kept)``. None if it cannot copy.
    pieces
        Maps a number of contiguous runs, 2 or more, to the time to join them into one tensor. The consumer then reads
        it at ``read(kept)``. Beyond the grid this mode is not offered. None if it is never offered.

    Raises
    ------
    ProblemError
        If a number is out of its range.
    """

    read: Curve
    copy: int | None = None
    pieces: Curve | None = None

    def __post_init__(self) -> None:
        if self.copy is not None:
            (copy,) = _whole_numbers("copy", (self.copy,))
            object.__setattr__(self, "copy", copy)
            if not 0 <= copy <= MAX_COST:
                raise ProblemError(f"the copy costs {copy}; give nanoseconds from 0 to {MAX_COST}")
        of_kind(self.read, Curve, "the read of a cost table")
        if self.pieces is not None and of_kind(self.pieces, Curve, "the pieces of a cost table").points[0] != 2:
            raise ProblemError(
                f"pieces are given from {self.pieces.points[0]} runs on; begin with 2 (one run is a view)"
            )

    @property
    def denominator(self) -> int:
        """Ticks per nanosecond that the table needs."""
        return math.lcm(self.read.denominator, self.pieces.denominator if self.pieces is not None else 1)

    @property
    def largest(self) -> int:
        """The largest number of nanoseconds in it."""
        return max(self.read.costs[-1], self.copy or 0, self.pieces.costs[-1] if self.pieces is not None else 0)

    def times(self, factor: int) -> CostTable:
        """The table with all costs multiplied by a whole number.

        Examples
        --------
        >>> CostTable(Curve((2, 4), (10, 11)), copy=3).times(2).read.costs
        (20, 22)
        """
        copy = None if self.copy is None else self.copy * factor
        return CostTable(self.read.times(factor), copy, None if self.pieces is None else self.pieces.times(factor))


def _whole_numbers(what: str, values: Iterable[int]) -> tuple[int, ...]:
    numbers = items(values, f"the {what} of a cost table")
    if not all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in numbers):
        raise ProblemError(f"the {what} of a cost table must be whole numbers; round them")
    return tuple(int(value) for value in numbers)
