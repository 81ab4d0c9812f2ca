"""Exact solvers on problems with bundles: which unit takes which place, beside the order of channels.

With the units in given places a problem is an ordinary one, for any solver. Where there are few arrangements all are
solved; `auto` tries everything where that takes less than a look at the looser problem. Otherwise the bound comes from
the looser problem (`solvers.common.loosening`), and good arrangements from its order, from exchanges of two units, and
from a constraint program over places, which may prove more.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from problems import Order, Problem
from solvers.common.arrangement_costs import ArrangementCosts
from solvers.common.incumbent import Incumbent
from solvers.common.loosening import loosened
from solvers.common.settings import SearchSettings
from solvers.common.task import Finding, Solver, Task
from solvers.common.unit_kinds import num_sequences, sequences, unit_kinds
from solvers.methods.brute_force import ARRANGEMENTS_PER_SECOND, BruteForce, num_arrangements
from solvers.methods.greedy import greedy_order
from solvers.roads.auto import Auto
from solvers.roads.steps import Run, Step, merged, walk

_FEW = 120  # arrangements: up to which all are solved: those of five units; by hand
_MOST_PLACED = 128
"""units: of a bundle up to which a constraint program places them; its size grows with their square; by hand"""
_TRIES_APART = 40  # orders: of channels tried in the time that every other arrangement takes beside them (estimate)
_TRY_ALL_SHARE = 0.3  # share: of the time that trying everything may take; by hand
_MOST_TRIES = 200_000
"""orders: of channels tried in all, ten seconds, however much time there is: all arrangements are listed first"""
_FIRST_SHARE = 0.2  # share: of the time for the channels with the units in their places; by hand
_LOOSE_SHARE = 0.3  # share: of the time for the looser problem; by hand
_EXCHANGE_SHARE = 0.3
"""share: of the time for exchanges of units, and of what is left for the channels behind them; by hand"""


@dataclass(frozen=True)
class Arranging:
    """Solves a problem with bundles by a solver for those without.

    Parameters
    ----------
    solver
        An exact one, which is given one arrangement after another. The looser problem is left to `Auto`, the places of
        many units to CP-SAT.
    few
        Arrangements, up to exchanges of units that are alike, up to which all are solved. Default 120; with 0 `auto`
        does not try everything either.

    Examples
    --------
    >>> from problems import Access, Block, Bundle, Problem
    >>> from solvers import solve
    >>> blocks = tuple(Block(name, 2) for name in "abc")
    >>> kept = [[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]], [[0, 0, 1, 1, 0, 0]]
    >>> kept = np.repeat([[1, 0, 1], [0, 1, 1]], 2, axis=1)
    >>> reads = tuple(Access(name, (0, 1, 2), own) for name, own in zip("xy", kept))
    >>> apart = solve(Problem(blocks, reads), solver="auto")
    >>> together = solve(Problem(blocks, reads, bundles=(Bundle(((0,), (1,), (2,))),)), solver="auto")
    >>> apart.value, together.value, [units.tolist() for units in together.order.arrangement]
    (4, 0, [[0, 2, 1]])
    """

    solver: Solver
    few: int = _FEW

    @property
    def name(self) -> str:
        """That of the solver."""
        return self.solver.name

    @property
    def exact(self) -> bool:
        """Whether the solver is."""
        return self.solver.exact

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best bound proven."""
        if not task.problem.bundles:
            return self.solver.solve(task)
        incumbent = Incumbent(task)
        number = math.prod(map(num_sequences, _kinds(task)))
        stats: dict[str, Any] = {"classes": len(task.problem.classes), "arrangements": number}
        return incumbent.finding(merged(stats, walk(self.road, task, incumbent)))

    def road(self, task: Task) -> Iterator[Step]:
        """The steps for a problem with bundles."""
        kinds = _kinds(task)
        number = math.prod(map(num_sequences, kinds))
        costs = ArrangementCosts(task.problem, task.objective)
        in_place = tuple(np.arange(len(own)) for own in kinds)
        exchanged: list[np.ndarray] = []

        def solve_all(solver: Solver) -> Run:
            own = dataclasses.replace(self, solver=solver)
            return lambda task, incumbent: {"solved": own._solve_all(task, incumbent, kinds, costs)}

        def exchange(task: Task, incumbent: Incumbent) -> dict[str, Any]:
            exchanged.extend(_exchange(task, incumbent, costs))
            return {}

        units = f"{number} arrangements of units"
        why = f"{units}; every order in every one is tried by `auto` where that takes {_TRY_ALL_SHARE:.0%} of the time"
        every = self._can_try_all(task, number)
        yield Step(BruteForce.name, why, solve_all(BruteForce()), taken=every)
        yield Step(
            self.name,
            "the order of channels, with the units in their places",
            lambda task, incumbent: self._solve_arranged(task, incumbent, in_place).stats,
            share=_FIRST_SHARE,
        )
        why = "a bound for all arrangements, and one that is near to its own"
        yield Step("the looser problem", why, self._loosen, share=_LOOSE_SHARE)
        yield Step("exchanges of two units", "as long as they bring down the costs", exchange, share=_EXCHANGE_SHARE)
        yield Step(
            self.name,
            "the order of channels, with the units exchanged",
            lambda task, incumbent: self._solve_arranged(task, incumbent, exchanged).stats,
            share=_EXCHANGE_SHARE,
        )
        few, largest = number <= self.few, max(map(len, kinds))
        yield Step("all arrangements", f"{units}, asked up to {self.few}", solve_all(self.solver), taken=few)
        places = not few and not task.objective.counts_runs and largest <= _MOST_PLACED
        why = f"more arrangements, {largest} units in the largest bundle, asked up to {_MOST_PLACED}; not for runs"
        yield Step("places of units", why, _place_units, taken=places)

    def _can_try_all(self, task: Task, number: int) -> bool:
        """Whether `auto` has the time for all orders of channels in all of so many arrangements of units."""
        tries = min(_MOST_TRIES, ARRANGEMENTS_PER_SECOND * _TRY_ALL_SHARE * task.remaining)
        if not self.few or not isinstance(self.solver, Auto) or number * _TRIES_APART > tries:
            return False
        in_place = task.problem.arranged(tuple(np.arange(len(own.units)) for own in task.problem.bundles))
        return number * (num_arrangements(in_place) + _TRIES_APART) <= tries

    def _solve_arranged(self, task: Task, incumbent: Incumbent, arrangement: Sequence[np.ndarray]) -> Finding:
        """Order the channels with the units in given places."""
        problem = task.problem.arranged(arrangement)
        progress = incumbent.offer_from(lambda order: Order(order.channels, arrangement))
        own = task.of_other(problem, Order(incumbent.order.channels), progress=progress)
        own = dataclasses.replace(own, start=min([own.start, greedy_order(problem)], key=own.value))
        found = self.solver.solve(own)
        incumbent.offer(Order(found.order.channels, arrangement))
        return found

    def _loosen(self, task: Task, incumbent: Incumbent) -> dict[str, Any]:
        """A bound from the looser problem, and an order near to its own."""
        loose = loosened(task.problem)
        found = Auto().solve(task.of_other(loose.problem, greedy_order(loose.problem)))
        if found.bound is not None:
            bound = task.objective.converted(found.bound, part=loose.problem, whole=task.problem)
            incumbent.raise_bound(bound, method="the looser problem")
        near = loose.order_of(found.order)
        incumbent.offer(near)
        if not incumbent.closed:
            self._solve_arranged(task, incumbent, near.arrangement)
        return {}

    def _solve_all(self, task: Task, incumbent: Incumbent, kinds: list[list[int]], costs: ArrangementCosts) -> int:
        """Every arrangement; the least of their bounds is one for all. Returns how many were solved in time.

        Arrangements that cannot be better than the incumbent are left out, so that the bound begins with its value.
        What stays open in its share of the time is solved again in what is left, as long as fewer stay open.
        """
        waiting = list(itertools.product(*map(list, map(sequences, kinds))))
        number, more = len(waiting), True
        while waiting and more:
            open_ones: list[tuple[np.ndarray, ...]] = []
            bound = incumbent.value
            for k, arrangement in enumerate(waiting):
                if task.expired or incumbent.closed:
                    return number - len(waiting) + k - len(open_ones)
                if costs.bound(arrangement) >= incumbent.value:
                    continue
                found = self._solve_arranged(task.within(1 / (len(waiting) - k)), incumbent, arrangement)
                reached = -1 if found.bound is None else found.bound
                bound = min(bound, reached)
                if reached < incumbent.value:
                    open_ones.append(arrangement)
            incumbent.raise_bound(bound, method="all arrangements", of_better=True)
            waiting, more = open_ones, len(open_ones) < len(waiting)
        return number - len(waiting)


def suited(solver: Solver, problem: Problem) -> Solver:
    """The solver for a problem: exact ones are asked about one arrangement after another where there are bundles."""
    arranges = bool(problem.bundles) and solver.exact and not isinstance(solver, Arranging)
    return Arranging(solver) if arranges else solver


def _kinds(task: Task) -> list[list[int]]:
    """Which units of every bundle are alike."""
    return [unit_kinds(task.problem, bundle) for bundle in task.problem.bundles]


def _exchange(task: Task, incumbent: Incumbent, costs: ArrangementCosts) -> list[np.ndarray]:
    """Units exchanged as long as that brings down what they must cost; for runs, what the order of channels costs."""

    def cost(units: Sequence[np.ndarray]) -> int:
        return task.value(Order(incumbent.order.channels, units)) if task.objective.counts_runs else costs.bound(units)

    bundles = task.problem.bundles
    best = [np.array(own) for own in incumbent.order.arrangement] or [np.arange(len(own.units)) for own in bundles]
    least, better = cost(best), True
    while better:
        better = False
        for i, bundle in enumerate(bundles):
            for p, q in itertools.combinations(range(len(bundle.units)), 2):
                if task.expired:
                    return best
                units = [own.copy() for own in best]
                units[i][[p, q]] = units[i][[q, p]]
                value = cost(units)
                if value < least:
                    best, least, better = units, value, True
    return best


def _place_units(task: Task, incumbent: Incumbent) -> dict[str, int | float]:
    """A constraint program over the places of units and the order of channels at once."""
    from solvers.programs.direct_model import search_places

    return search_places(task, SearchSettings(), incumbent, counts_pieces=False)
