"""Least total of straight lines, some of them capped: the problem that the branch and bound over spans relaxes to.

Every access pays a line in its excess, or its cap if that is less. `relaxation_of` chooses the method: one path for
all subsets where a single free block is read, otherwise blocks one by one, without caps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from problems import Order, Problem
from solvers.linear_spans import LinearSpans
from solvers.rows import span_rows
from solvers.subset_spans import MOST_ROWS, SubsetSpans


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


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The least total of some lines.

    Attributes
    ----------
    bound
        No order has a smaller total.
    order
        A good order, with that total unless the bound is not tight.
    """

    bound: int
    order: Order


class Relaxation(Protocol):
    """A method for the least total."""

    @property
    def capped(self) -> bool:
        """Whether caps are used; otherwise lines must stay below the costs without them."""

    def solvable(self, lines: Lines) -> bool:
        """Whether there is a method for these lines."""

    def solve(self, lines: Lines) -> Relaxed | None:
        """The least total; None if the deadline passed."""


def relaxation_of(problem: Problem, *, deadline: float) -> Relaxation:
    """The method for a problem."""
    spans = span_rows(problem)
    single = len({row.block for row in spans.rows}) == 1
    if single and len(spans.rows) <= MOST_ROWS and not any(row.left or row.right for row in spans.rows):
        return _Subsets(problem, deadline)
    return _Blocks(problem, deadline)


class _Subsets:
    """One free block: `SubsetSpans`."""

    capped = True

    def __init__(self, problem: Problem, deadline: float) -> None:
        self._spans = SubsetSpans(problem, deadline=deadline)

    def solvable(self, lines: Lines) -> bool:
        return self._spans.solvable(lines.slope)

    def solve(self, lines: Lines) -> Relaxed | None:
        found = self._spans.least(lines.constant, lines.slope, lines.cap)
        return None if found is None else Relaxed(*found)


class _Blocks:
    """Several blocks, or anchored rows: `LinearSpans`."""

    capped = False

    def __init__(self, problem: Problem, deadline: float) -> None:
        self._spans = LinearSpans(problem, deadline=deadline)

    def solvable(self, lines: Lines) -> bool:
        return self._spans.solvable(lines.slope)

    def solve(self, lines: Lines) -> Relaxed | None:
        least = self._spans.least(lines.slope)
        return None if least is None else Relaxed(int(lines.constant.sum()) + least.cost, least.order)
