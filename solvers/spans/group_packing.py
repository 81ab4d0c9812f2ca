"""What many accesses cost at least, from small groups of them that are solved exactly: a fractional packing of groups.

    maximise sum of y[S] * cost[S],   sum of y[S] over the groups S that have access a <= 1,   y >= 0

where cost[S] is the least cost of a group without all other accesses, beyond what each of its accesses costs alone.
Groups are columns: HiGHS solves the master problem, and its prices say which accesses the next groups should have
(Gilmore and Gomory, "A linear programming approach to the cutting-stock problem", Operations Research 9, 1961).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from problems import Claim, Kind
from solvers.common.clock import time_now
from solvers.common.components import Component
from solvers.common.highs import PIVOTS_A_SECOND, charge, lp_options
from solvers.common.incumbent import Incumbent
from solvers.common.least_costs import least_costs
from solvers.common.proofs import claim
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.spans.branch_and_bound import SpanSearch

SIZES = (4, 6, 8, 10, 13)
"""Most accesses of a group: all accesses are divided into groups of one size after the other, if there is time."""

_DEARER_A_ROW = 4.0  # factor: in time, of a group that has one access more (estimate)
_LEAST_SECONDS = 0.05  # seconds: that a group gets at least; by hand
_PARTS = 2**20  # parts: of 1, in which weights of groups are whole numbers; by hand
_NOISE = 0.3  # share: of the mean price of an access, by which prices are disturbed to draw groups; by hand
_PATIENCE = 12  # groups: drawn in a row, in which the bound must grow, or the search ends; by hand
_GROWTH = 2e-3  # share: by which the bound must grow in that time; by hand


@dataclass(frozen=True)
class _Group:
    """A group of accesses (ascending), and what they cost at least beyond their costs alone."""

    accesses: tuple[int, ...]
    extra: int
    exact: bool


class GroupPacking:
    """The groups that were solved, and the bound that they give.

    Parameters
    ----------
    task
        Any objective whose costs depend on spans; no bundles.
    incumbent
        What is known: its bound is raised.

    Attributes
    ----------
    groups
        The groups solved so far.
    size
        Accesses of the largest of them.
    """

    def __init__(self, task: Task, incumbent: Incumbent) -> None:
        self._task, self._incumbent = task, incumbent
        costs, fixed = least_costs(task.problem, task.objective), span_rows(task.problem).fixed
        self._alone = [int(own[first]) for own, first in zip(costs, fixed, strict=True)]
        varies = [bool(own[-1] > own[first]) for own, first in zip(costs, fixed, strict=True)]
        self._accesses = np.flatnonzero(varies)
        self._random = np.random.default_rng(task.seed)
        self.groups: dict[tuple[int, ...], _Group] = {}
        self.size = 0

    def run(self) -> None:
        """Divide the accesses into ever larger groups, then add groups that the prices ask for, until the deadline."""
        num, seconds = len(self._accesses), 0.0
        for count in dict.fromkeys(-(-num // own) for own in SIZES if own < num):
            size = -(-num // count)
            expected = seconds * _DEARER_A_ROW ** (size - self.size) * count
            if self._incumbent.closed or (self.size and expected > self._task.remaining) or self._task.expired:
                break
            began = time_now()
            divided = np.array_split(self._random.permutation(self._accesses), count)
            found = [self._solve(chosen, count - k) for k, chosen in enumerate(divided)]
            seconds = (time_now() - began) / count
            self._raise()
            if not all(group is not None and group.exact for group in found):
                break
            self.size = size
        self._refine()

    def _refine(self) -> None:
        """Add groups whose extra cost is more than the prices of their accesses."""
        totals: list[float] = []
        while self.size and not self._incumbent.closed and not self._task.expired:
            price = self._raise()
            totals.append(float(price.sum()))
            if len(totals) > _PATIENCE and totals[-1] <= (1 + _GROWTH) * totals[-1 - _PATIENCE]:
                break
            chosen = self._drawn(price)
            if tuple(sorted(chosen.tolist())) not in self.groups:
                self._solve(chosen, 1)

    def _drawn(self, price: np.ndarray) -> np.ndarray:
        """A group of cheap accesses: those of least price, disturbed at random."""
        own = price[self._accesses]
        noise = _NOISE * (own.mean() + 1) * self._random.standard_normal(len(own))
        drawn: np.ndarray = self._accesses[np.argsort(own + noise, kind="stable")[: self.size]]
        return drawn

    def _solve(self, chosen: np.ndarray, waiting: int) -> _Group | None:
        """Solve a group, with its share of the time that is left; None if the time is up."""
        accesses = tuple(sorted(chosen.tolist()))
        seconds = max(_LEAST_SECONDS, self._task.remaining / waiting)
        if len(accesses) < 2 or self._task.expired:
            return None
        problem = self._task.problem
        part = Component(accesses, problem.restricted(accesses), ())
        start = part.order_of(problem, self._incumbent.order)
        task = self._task.of_other(part.problem, start, deadline=min(self._task.deadline, time_now() + seconds))
        best = Incumbent(task)
        SpanSearch(task, best).run()
        bound = self._task.objective.converted(best.bound, part=part.problem, whole=problem)
        group = _Group(accesses, max(0, bound - sum(self._alone[a] for a in accesses)), best.closed)
        self.groups[accesses] = group
        return group

    def _raise(self) -> np.ndarray:
        """Solve the master problem and raise the bound. Returns the price of every access."""
        groups = [own for own in self.groups.values() if own.extra]
        price = np.zeros(len(self._alone))
        if not groups:
            return price
        has = np.zeros((len(self._alone), len(groups)))
        for k, own in enumerate(groups):
            has[list(own.accesses), k] = 1
        extra = np.array([own.extra for own in groups], dtype=np.float64)
        limits = np.ones(len(has))
        answer = linprog(-extra, has, limits, bounds=(0, None), options=lp_options(max(0.1, self._task.remaining)))
        charge(getattr(answer, "nit", None), PIVOTS_A_SECOND)
        if answer.x is None:
            return price
        shares = _shares(has, answer.x)
        total = sum((share * own.extra for share, own in zip(shares, groups, strict=True)), Fraction(0))
        used = [(share, own) for share, own in zip(shares, groups, strict=True) if share]
        if used:
            bound = sum(self._alone) + math.ceil(total)
            self._incumbent.raise_bound(bound, lambda _: self._claims(used), method="groups of accesses")
        price[:] = np.maximum(0, -answer.ineqlin.marginals)
        return price

    def _claims(self, used: Sequence[tuple[Fraction, _Group]]) -> list[Claim]:
        """Why the bound holds."""
        return list(self._claims_of(used))

    def _claims_of(self, used: Sequence[tuple[Fraction, _Group]]) -> Iterator[Claim]:
        for share, own in used:
            bound = own.extra + sum(self._alone[a] for a in own.accesses)
            kind, text = (Kind.GROUP, "") if own.exact else (Kind.SEARCH, "a search over spans that was stopped")
            yield claim(self._task.problem, kind, bound, text, own.accesses, share=share)


def bound_by_groups(task: Task, incumbent: Incumbent) -> dict[str, int]:
    """Raise the incumbent's bound by groups of accesses until the task's deadline. Returns figures for reports."""
    packing = GroupPacking(task, incumbent)
    packing.run()
    return {"groups": len(packing.groups), "accesses_of_a_group": packing.size}


def _shares(has: np.ndarray, weight: np.ndarray) -> list[Fraction]:
    """The weights of groups as fractions that add up to at most 1 for every access, exactly.

    Examples
    --------
    >>> _shares(np.array([[1, 1, 0], [0, 1, 1]]), np.array([0.5000001, 0.5, 0.5]))
    [Fraction(1, 2), Fraction(1, 2), Fraction(1, 2)]
    """
    whole = np.rint(np.clip(weight, 0, 1) * _PARTS).astype(np.int64)
    for row in has.astype(np.int64):
        over = int(row @ whole) - _PARTS
        if over > 0:
            own = np.flatnonzero(row * whole)
            k = own[int(whole[own].argmax())]
            whole[k] = max(0, int(whole[k]) - over)
    return [Fraction(int(own), _PARTS) for own in whole]
