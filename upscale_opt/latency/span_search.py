"""Which spans of a shape to time: few where the time grows evenly, more where it bends or steps. Without torch.

The least span, the largest and the middle come first. An interval in which the middle lies off the straight line is
divided further, the one with the largest difference in time first, until the number of spans is used up. A curve that
never falls cannot bend where both ends take the same time. Figures of this search only choose spans. The table is timed
afterwards, all its readings in turn, so its figures stay comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from upscale_opt.planning.cost_model import GRID

BENT = 0.03
"""Difference to a straight line, as a share of it, from which an interval is divided."""
NOT_WORTH_A_SEARCH = 2
"""If there are so few multiples of 8 between both ends, all of them are timed without a search."""

Timed = Callable[[Sequence[int]], np.ndarray]
"""Times spans in turn: nanoseconds above 0, shape (num_spans, num_rounds)."""


def spans_to_time(kept: int, stored: int, most: int, timed: Timed) -> list[int]:
    """The spans of a table, ascending: both ends, and at most `most` multiples of 8 between them.

    If `kept` is no multiple of 8, the next one is always among them: whether it is faster decides how a range is read.

    Parameters
    ----------
    kept, stored
        Number of kept and of stored channels.
    most
        Largest number of spans between them.
    timed
        Times spans in turn. Every call has both ends first: new spans are compared by their ratio to the ends in the
        same rounds.

    Examples
    --------
    A time that steps up behind 96 channels:

    >>> spans_to_time(32, 256, 6, lambda spans: np.array([[100.0] * 3 if s <= 96 else [200.0] * 3 for s in spans]))
    [32, 88, 96, 104, 112, 144, 248, 256]

    A straight line:

    >>> spans_to_time(32, 256, 6, lambda spans: np.array([[50.0 + s] * 3 for s in spans]))
    [32, 144, 256]
    """
    ends, between = {kept, stored}, multiples_between(kept, stored)
    if len(between) <= NOT_WORTH_A_SEARCH:
        return sorted({*ends, *between[:most]})
    first = between[:1] if kept % GRID and most else []
    grid = sorted({*(between if kept % GRID else (kept, *between)), stored})
    chosen = _refined(grid, most - len(first), timed) if most > len(first) else []
    return sorted({*ends, *first, *chosen})


def multiples_between(kept: int, stored: int) -> list[int]:
    """All multiples of 8 between two numbers, without the numbers themselves.

    Examples
    --------
    >>> multiples_between(37, 64), multiples_between(5, 7)
    ([40, 48, 56], [])
    """
    return list(range((kept // GRID + 1) * GRID, stored, GRID))


def _refined(grid: Sequence[int], most: int, timed: Timed) -> list[int]:
    """At most `most` spans of a grid between its ends."""
    curve, last = _Curve(grid, timed), len(grid) - 1
    chosen: list[int] = []
    intervals = [(0, last)]
    while len(chosen) < most and intervals:
        left, right = intervals.pop(int(np.argmax([curve.difference(*own) for own in intervals])))
        if right - left < 2 or (right < last and curve.is_level(left, right)):
            continue
        # The largest span reads everything and needs no selection, so it may take less time than the one before it.
        middle = right - 1 if right == last and chosen else (left + right) // 2
        curve.add(middle)
        chosen.append(middle)
        if curve.is_off(left, middle, right):
            intervals += [(left, middle), (middle, right)]
        elif middle == right - 1:
            intervals.append((left, middle))
    return [grid[i] for i in chosen]


class _Curve:
    """Times over a grid of spans, as ratios to the geometric mean of both ends in the same round."""

    def __init__(self, grid: Sequence[int], timed: Timed) -> None:
        self.grid, self.timed = grid, timed
        self.ratios: dict[int, np.ndarray] = {}

    def add(self, i: int) -> None:
        """Time one more span."""
        figures = self.timed([self.grid[0], self.grid[-1], self.grid[i]])
        ratios = figures / np.sqrt(figures[0] * figures[1])
        self.ratios.setdefault(0, ratios[0])
        self.ratios.setdefault(len(self.grid) - 1, ratios[1])
        self.ratios[i] = ratios[2]

    def difference(self, left: int, right: int) -> float:
        """Difference of the times at two timed spans. Before anything is timed, it is infinite."""
        if not self.ratios:
            return np.inf
        return abs(float(np.median(self.ratios[right]) - np.median(self.ratios[left])))

    def is_level(self, left: int, right: int) -> bool:
        """Whether the times at two timed spans differ by no more than `BENT`."""
        return self.difference(left, right) <= BENT * float(np.median(self.ratios[right]))

    def is_off(self, left: int, middle: int, right: int) -> bool:
        """Whether a span lies off the line through two others, by more than `BENT` and by more than the noise."""
        share = (self.grid[middle] - self.grid[left]) / (self.grid[right] - self.grid[left])
        own, before, behind = (self.ratios[i] for i in (middle, left, right))
        line = (1 - share) * np.median(before) + share * np.median(behind)
        noise = _noise(own) + (1 - share) * _noise(before) + share * _noise(behind)
        return bool(abs(np.median(own) - line) > max(BENT * line, noise))


def _noise(ratios: np.ndarray) -> float:
    """Half the distance between the smallest and the largest figure."""
    return float(np.ptp(ratios)) / 2
