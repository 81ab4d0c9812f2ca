"""Least total of straight lines, some of them capped: the problem that the branch and bound over spans relaxes to.

Every access pays a line in its excess, or its cap if that is less. `relaxation_of` chooses the method: one path for
all subsets where a single free block is read by few accesses, blocks one by one without caps for several, and bounds
from levels where there are too many accesses for either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from problems import Order, Problem
from solvers.common.block_rows import span_blocks
from solvers.common.clock import time_now
from solvers.common.rows import span_rows
from solvers.spans.bounds.levels_of_problem import LevelSpans
from solvers.spans.copied_sets import MOST_ROWS, SubsetSpans
from solvers.spans.linear_costs import LeastSum, LinearSpans

_SHARE_FOR_LEVELS = 0.7  # share: of a node's time for levels; by hand
_LARGER_SHARE = 0.98  # share: of the time for levels where nothing else bounds; by hand


@dataclass(frozen=True, eq=False)
class Lines:
    """Scaled lower bounds on what accesses pay, as functions of their excess.

    Attributes
    ----------
    constant, slope
        int64, shape (num_accesses,): an access pays ``constant + slope * excess``.
    cap
        int64, shape (num_accesses,): or this, if it is less.
    """

    constant: np.ndarray
    slope: np.ndarray
    cap: np.ndarray


class Relaxation(Protocol):
    """A method for the least total."""

    @property
    def capped(self) -> bool:
        """Whether caps are used; otherwise lines must stay below the costs without them."""

    @property
    def method(self) -> str:
        """What it does, in words, for proofs."""

    def solve(self, lines: Lines, enough: int) -> LeastSum | None:
        """The least total, or a proof that it is at least `enough`; None if the deadline passed."""


def relaxation_of(
    problem: Problem,
    slope: np.ndarray,
    known: Callable[[], Order],
    *,
    capped: bool,
    deadline: float,
    levels: bool = False,
) -> Relaxation:
    """The method for a problem.

    Parameters
    ----------
    problem
        The problem.
    slope
        int64, shape (num_accesses,): slopes of the size to expect.
    known
        Gives the best order known; bounds that come without one are reported with it.
    capped
        Whether some accesses may pay a cap instead of their line.
    deadline
        A `time.perf_counter` reading. Levels are worked on for a share of the time that is left.
    levels
        Use them for every block that many rows read, whether or not exact methods might reach it.
    """
    own = span_blocks(problem, span_rows(problem))
    if len(own) != 1:
        return _Blocks(problem, slope, known, deadline, levels=levels)
    rows, access = own[0].rows, own[0].access
    anchored = (rows.left | rows.right).any()
    if not levels and not anchored and rows.num_rows <= MOST_ROWS and (capped or rows.meet):
        subsets = SubsetSpans(problem, deadline=deadline)
        if subsets.solvable(slope):
            return _Subsets(subsets)
    blocks = _Blocks(problem, slope, known, deadline, levels=levels)
    once = len(np.unique(access)) == len(access)
    return _Levels(problem, blocks.levels, known) if blocks.bounded and once else blocks


class _Subsets:
    """One free block and few accesses: `SubsetSpans`."""

    capped = True
    method = "a shortest path over pairs of chains for all subsets of accesses"

    def __init__(self, spans: SubsetSpans) -> None:
        self._spans = spans

    def solve(self, lines: Lines, enough: int) -> LeastSum | None:
        if not self._spans.solvable(lines.slope):
            return None
        found = self._spans.least(lines.constant, lines.slope, lines.cap, enough=enough)
        return None if found is None else LeastSum(*found)


class _Blocks:
    """Several blocks, or anchored rows: `LinearSpans`, with levels for the blocks that it cannot solve.

    Attributes
    ----------
    levels
        Of those blocks.
    bounded
        Those blocks.
    """

    capped = False

    def __init__(
        self, problem: Problem, slope: np.ndarray, known: Callable[[], Order], deadline: float, *, levels: bool
    ) -> None:
        self._spans = LinearSpans(problem, deadline=deadline)
        self._known = known
        self.method = "exact orders of blocks"
        self.bounded = self._spans.large if levels else self._spans.unsolvable(slope)
        now = time_now()
        seconds = (_LARGER_SHARE if levels else _SHARE_FOR_LEVELS) * max(0.0, deadline - now)
        self.levels = LevelSpans(problem, self.bounded)
        if self.bounded:
            self.method = f"levels of {len(self.bounded)} blocks and exact orders of the others"
        self.levels.improve(deadline=now + seconds)

    def solve(self, lines: Lines, enough: int) -> LeastSum | None:
        least = self._spans.least(lines.slope, self._known(), self.levels if self.bounded else None, self.bounded)
        return None if least is None else LeastSum(int(lines.constant.sum()) + least.cost, least.order)


class _Levels:
    """One block that many accesses read, each once, so that every row has a cap of its own: `LevelSpans`."""

    capped = True
    method = "levels of pairs of chains"

    def __init__(self, problem: Problem, levels: LevelSpans, known: Callable[[], Order]) -> None:
        spans = span_rows(problem)
        self._block, self._levels, self._known = spans.rows[0].block, levels, known
        self._access = np.array([row.access for row in spans.rows])
        self._fixed = spans.fixed

    def solve(self, lines: Lines, enough: int) -> LeastSum | None:
        floor = np.minimum(lines.constant + lines.slope * self._fixed, lines.cap)
        saved = (lines.cap - floor)[self._access]
        bound = int(floor.sum()) + self._levels.least(self._block, lines.slope[self._access], saved)
        return LeastSum(bound, self._known())
