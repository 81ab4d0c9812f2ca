"""The ordering problem as a mixed-integer linear program, to be written as LP or MPS for other solvers.

    x[s, p] = 1 if a channel of class s stands at position p of its block
    y[a, i] = 1 if position i of the input of access a holds a channel that it keeps: a sum of x

It is the plain model over positions, with no cuts: a reference to compare with, not the fastest way to a solution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ortools.linear_solver.python import model_builder

from problems import FixedPlace, Objective, Problem, ProblemError


class LinearModel:
    """The program; `model` is OR-Tools' form of it. Its objective is the value of an order, nothing is scaled.

    Parameters
    ----------
    problem
        Without bundles.
    objective
        One that counts runs, or one with prices.

    Raises
    ------
    problems.ProblemError
        If the objective uses tables, or units of the problem may change places.
    """

    def __init__(self, problem: Problem, objective: Objective) -> None:
        if problem.bundles or objective.uses_tables:
            what = "units that may change places" if problem.bundles else "costs from tables"
            raise ProblemError(f"{problem.name}: there is no linear model of {what}; write one for CP-SAT instead")
        objective.ticks_of(problem)
        self._problem, self._objective = problem, objective
        self.model = model_builder.Model()
        self.model.name = "".join(c if c.isalnum() or c in "_-" else "_" for c in problem.name)
        self._place = self._place_classes()
        self._keep_constraints()
        self.model.minimize(sum(self._cost(a) for a in range(len(problem.accesses))))

    def _place_classes(self) -> list[list[list[Any]]]:
        """sum over p of x[s, p] = weight[s], sum over s of x[s, p] = 1; by block, class and position."""
        problem, model = self._problem, self.model
        place: list[list[list[Any]]] = []
        for b, block in enumerate(problem.blocks):
            own, stored = problem.classes.of_block(b), problem.stored[b]
            if block.pinned:
                held = [np.isin(stored, problem.classes.members[s]).astype(int).tolist() for s in own]
                place.append([[int(one) for one in row] for row in held])
                continue
            rows = [[model.new_bool_var(f"x_{b}_{s}_{p}") for p in range(len(stored))] for s in range(len(own))]
            for row, weight in zip(rows, problem.classes.weight[own].tolist(), strict=True):
                model.add(sum(row) == weight)
            for column in zip(*rows, strict=True):
                model.add(sum(column) == 1)
            place.append(rows)
        return place

    def _keep_constraints(self) -> None:
        """x[s, p] = 1, for a fixed place p; sum over p of p (x[t, p] - x[s, p]) >= 1, for s before t.

        Channels that constraints are about are classes of their own.
        """
        problem = self._problem
        for own in problem.constraints:
            label = {int(problem.classes.members[s][0]): k for k, s in enumerate(problem.classes.of_block(own.block))}
            first, *later = (self._place[own.block][label[channel]] for channel in own.channels)
            if isinstance(own, FixedPlace):
                self.model.add(first[own.place % len(first)] == 1)
            else:
                self.model.add(sum(p * (x - y) for p, (x, y) in enumerate(zip(later[0], first, strict=True))) >= 1)

    def _kept(self, a: int) -> list[Any]:
        """y[a, i]: 1 where the input of an access holds what it keeps."""
        problem, inputs = self._problem, []
        for r, reader in enumerate(problem.readers):
            if reader.access != a:
                continue
            own = problem.classes.of_block(reader.block)
            keeps = np.flatnonzero(problem.classes.signature[own, r]).tolist()
            for p in range(len(problem.stored[reader.block])):
                inputs.append(sum(self._place[reader.block][s][p] for s in keeps))
        return inputs

    def _cost(self, a: int) -> Any:
        kept = self._kept(a)
        return self._runs(a, kept) if self._objective.counts_runs else self._price(a, kept)

    def _runs(self, a: int, kept: list[Any]) -> Any:
        """A run begins at i if y[a, i] > y[a, i - 1]: begin[i] >= y[a, i] - y[a, i - 1]."""
        begins = [self.model.new_num_var(0, 1, f"begin_{a}_{i}") for i in range(len(kept))]
        for i, begin in enumerate(begins):
            self.model.add(begin >= kept[i] - (kept[i - 1] if i else 0))
        return sum(begins)

    def _price(self, a: int, kept: list[Any]) -> Any:
        """Covered positions have a kept one at or before them, and one at or behind them.

        size * (alpha * over + gamma * |K| * copied),   over >= covered - |K| - (width - |K|) * copied
        """
        model, goal, access, width = self.model, self._objective, self._problem.accesses[a], len(kept)
        before = [model.new_num_var(0, 1, f"before_{a}_{i}") for i in range(width)]
        behind = [model.new_num_var(0, 1, f"behind_{a}_{i}") for i in range(width)]
        covered = [model.new_num_var(0, 1, f"covered_{a}_{i}") for i in range(width)]
        for i in range(width):
            model.add(before[i] >= kept[i])
            model.add(behind[i] >= kept[i])
            if i:
                model.add(before[i] >= before[i - 1])
                model.add(behind[i - 1] >= behind[i])
            model.add(covered[i] >= before[i] + behind[i] - 1)
        most = width - access.num_kept
        over = model.new_num_var(0, 0 if goal.alpha is None else most, f"over_{a}")
        cost: Any = (goal.alpha or 0) * access.channel_size * over
        if goal.gamma is None:
            model.add(over >= sum(covered) - access.num_kept)
            return cost
        copied = model.new_bool_var(f"copied_{a}")
        model.add(over >= sum(covered) - access.num_kept - most * copied)
        return cost + goal.gamma * access.channel_size * access.num_kept * copied
