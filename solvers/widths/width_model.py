"""The method `cp-sat`: works as table look-ups of CP-SAT. Slower than `auto`; it shares nothing with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ortools.sat.python import cp_model

from problems.widths.problem import WidthProblem
from solvers.common.errors import SolverError
from solvers.common.search import SolutionCallback, Values, solve_in_thread
from solvers.widths.incumbent import WidthIncumbent


def solve_model(incumbent: WidthIncumbent) -> None:
    """Minimise with CP-SAT until the deadline.

    One place per block; per side of a work the place of its total, which is linear in the widths; per work the time at
    ``inputs place * outputs + outputs place``, by element constraints.

    Raises
    ------
    UnreachableSpeedupError
        If CP-SAT proves that no choice keeps the budget.
    SolverError
        If CP-SAT refuses the model.
    """
    problem = incumbent.problem
    model = _Model(problem)
    if incumbent.choice is not None:
        for variable, place in zip(model.places, incumbent.choice):
            model.model.add_hint(variable, place)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = incumbent.seed % 2**31
    solver.parameters.catch_sigint_signal = False
    if math.isfinite(incumbent.remaining):
        solver.parameters.max_time_in_seconds = max(0.01, incumbent.remaining)

    def offer(value: Values) -> None:
        incumbent.offer([value(own) for own in model.places])

    callback = SolutionCallback(offer)
    status = solve_in_thread(solver, model.model, callback)
    if callback.error is not None:
        raise callback.error
    if status == cp_model.INFEASIBLE:
        raise incumbent.unreachable(_least_time(problem))
    if status == cp_model.UNKNOWN:
        return
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise SolverError(f"CP-SAT answers {solver.status_name(status)} for {problem.name}; please report this")
    offer(solver.value)
    bound = solver.best_objective_bound
    incumbent.raise_bound(round(solver.objective_value) if status == cp_model.OPTIMAL else math.floor(bound - 1))


def _least_time(problem: WidthProblem) -> int:
    """A time below which no choice is: every work at its fastest."""
    return problem.fixed + sum(int(problem.tables[work.table].nanoseconds.min()) for work in problem.works)


class _Model:
    def __init__(self, problem: WidthProblem) -> None:
        self.model = cp_model.CpModel()
        self._problem = problem
        self.places = [self._place(len(block.widths), block.name) for block in problem.blocks]
        self._totals: dict[tuple[int, ...], tuple[cp_model.IntVar, np.ndarray]] = {}
        widths = [self._looked_up(place, block.widths) for place, block in zip(self.places, problem.blocks)]
        losses = [self._looked_up(place, block.losses) for place, block in zip(self.places, problem.blocks)]
        times = []
        for work in problem.works:
            table = problem.tables[work.table]
            sides = [self._side(side, widths) for side in (work.inputs, work.outputs)]
            rows, columns = (
                np.searchsorted(ticks, own[1]) for own, ticks in zip(sides, (table.input_widths, table.output_widths))
            )
            entries = table.nanoseconds[np.ix_(rows, columns)]
            entry = self._place(entries.size, work.name)
            self.model.add(entry == len(columns) * sides[0][0] + sides[1][0])
            times.append(self._looked_up(entry, entries.ravel().tolist()))
        self.model.add(sum(times) <= problem.budget - problem.fixed)
        self.model.minimize(sum(losses))

    def _place(self, size: int, name: str) -> cp_model.IntVar:
        return self.model.new_int_var(0, size - 1, name)

    def _looked_up(self, place: cp_model.IntVar, numbers: Sequence[int]) -> cp_model.IntVar:
        found = self.model.new_int_var_from_domain(cp_model.Domain.from_values(list(numbers)), "")
        self.model.add_element(place, list(numbers), found)
        return found

    def _side(self, side: tuple[int, ...], widths: list[cp_model.IntVar]) -> tuple[cp_model.IntVar, np.ndarray]:
        """The place of a side's total among its attainable totals, and those."""
        key = tuple(sorted(side))
        if key not in self._totals:
            totals = self._problem.attainable(key) if key else np.zeros(1, dtype=np.int64)
            place = self._place(len(totals), "")
            total = self._looked_up(place, totals.tolist())
            self.model.add(total == sum(widths[b] for b in key))
            self._totals[key] = (place, totals)
        return self._totals[key]
