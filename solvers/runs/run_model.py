"""Which class follows which: a circuit through the classes of every block, for the number of runs.

An arc costs the readers that start a run at its head; where blocks meet in a concatenation, a run that continues
saves one. `run_tours` comes first: it closes most instances, and leaves few arcs of the others.
"""

from __future__ import annotations

import numpy as np
from ortools.sat.python import cp_model

from problems import Order
from solvers.common.block_rows import class_sequence
from solvers.common.incumbent import Incumbent
from solvers.common.proofs import claim
from solvers.common.search import Values, run_search
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.runs.assignment import arc_costs
from solvers.runs.run_tours import RunTours


def search_circuits(
    task: Task, config: SearchSettings, incumbent: Incumbent, tours: RunTours
) -> dict[str, int | float]:
    """Let CP-SAT search the circuits that tours leave; improves the incumbent, returns figures for reports."""
    model = RunModel(task, incumbent.order, tours)
    stats: dict[str, int | float] = {"arcs": model.num_arcs}

    def on_solution(values: Values) -> None:
        incumbent.offer(model.order(values))

    if task.expired:
        return stats
    outcome = run_search(
        model.model, task, config, on_solution=on_solution, deterministic_time=config.max_deterministic_time
    )
    if outcome.bound is not None and outcome.values is not None:
        incumbent.offer(model.order(outcome.values))
        incumbent.raise_bound(
            outcome.bound,
            lambda bound: [
                claim(
                    task.problem,
                    "search",
                    bound,
                    "CP-SAT over the circuits through the classes of each block, without arcs that prices forbid",
                    arcs=model.num_arcs,
                    branches=outcome.num_branches,
                )
            ],
            method="circuits",
            of_better=True,  # prices forbid arcs that only orders as good as the incumbent use
        )
    return {**stats, "deterministic_time": outcome.deterministic_time}


class RunModel:
    """The model; `model` is the CP-SAT part of it.

    Parameters
    ----------
    task
        What to solve.
    start
        The hint.
    tours
        Its choices limit the arcs to those of the start and of better orders.

    Attributes
    ----------
    num_arcs
        Over all blocks.
    """

    def __init__(self, task: Task, start: Order, tours: RunTours) -> None:
        self._problem = task.problem
        self._start = start
        self._allowed = {own.block: free for own, free in zip(tours.graph.blocks, tours.choices.allowed)}
        self.model = cp_model.CpModel()
        self.num_arcs = 0
        self._cost: list[cp_model.LinearExprT] = []
        self._first: dict[int, list[cp_model.IntVar]] = {}
        self._last: dict[int, list[cp_model.IntVar]] = {}
        self._arcs: dict[int, list[tuple[int, int, cp_model.IntVar]]] = {}
        for b, block in enumerate(task.problem.blocks):
            if block.pinned:
                self._count_pinned(b)
            else:
                self._circuit(b)
        self._save_between_blocks()
        self.model.minimize(sum(self._cost))

    def order(self, values: Values) -> Order:
        """The order of a solution."""
        sequence: list[int] = []
        for b in range(len(self._problem.blocks)):
            own = self._problem.classes.of_block(b)
            if b not in self._arcs:
                sequence.extend(own)
                continue
            following = {tail: head for tail, head, arc in self._arcs[b] if values(arc)}
            here = following[0]
            while here:
                sequence.append(int(own[here - 1]))
                here = following[here]
        return Order.of_classes(self._problem, sequence)

    def _count_pinned(self, b: int) -> None:
        """Runs of a pinned block: a constant."""
        first, step = arc_costs(self._problem, b)
        self._cost.append(int(first[0] + np.diagonal(step, 1).sum()))

    def _circuit(self, b: int) -> None:
        """One circuit through node 0 and all classes; cost[s -> t] = readers that keep t and not s."""
        first, step = arc_costs(self._problem, b)
        num = len(first)
        sequence = class_sequence(self._problem, self._start, b)
        offered = self._allowed[b][:num, :num].copy()
        offered[sequence[:-1], sequence[1:]] = True
        begins, ends = self._allowed[b][num, :num].copy(), self._allowed[b][-1, :num].copy()
        begins[sequence[0]] = ends[sequence[-1]] = True
        tails, heads = np.nonzero(offered)
        chosen = set(zip(sequence.tolist(), sequence[1:].tolist()))
        arcs: list[tuple[int, int, cp_model.IntVar]] = []
        price: list[int] = []
        for s, t in zip(tails.tolist(), heads.tolist()):
            arc = self.model.new_bool_var("")
            self.model.add_hint(arc, (s, t) in chosen)
            arcs.append((s + 1, t + 1, arc))
            price.append(int(step[s, t]))
        for s in range(num):
            enter, leave = self.model.new_bool_var(""), self.model.new_bool_var("")
            self.model.add_hint(enter, s == sequence[0])
            self.model.add_hint(leave, s == sequence[-1])
            if not begins[s]:
                self.model.add(enter == 0)
            if not ends[s]:
                self.model.add(leave == 0)
            arcs += [(0, s + 1, enter), (s + 1, 0, leave)]
            price += [int(first[s]), 0]
            self._first.setdefault(b, []).append(enter)
            self._last.setdefault(b, []).append(leave)
        self.model.add_circuit(arcs)
        self._cost.append(cp_model.LinearExpr.weighted_sum([arc for _, _, arc in arcs], price))
        self._arcs[b] = arcs
        self.num_arcs += len(arcs)

    def _save_between_blocks(self) -> None:
        """saved[a, i] <= last class of slot i is kept, saved[a, i] <= first class of slot i + 1 is kept."""
        problem = self._problem
        for r, (reader, following) in enumerate(zip(problem.readers, problem.readers[1:])):
            if reader.access != following.access:
                continue
            last = self._kept_at_end(r, reader.block, self._last, -1)
            first = self._kept_at_end(r + 1, following.block, self._first, 0)
            saved = self.model.new_bool_var(f"saved[{r}]")
            self.model.add(saved <= last)
            self.model.add(saved <= first)
            self._cost.append(-saved)

    def _kept_at_end(
        self, r: int, block: int, ends: dict[int, list[cp_model.IntVar]], pinned_end: int
    ) -> cp_model.LinearExprT:
        """1 if reader r keeps the class at an end of its block: a constant if pinned, else a sum of literals."""
        own = self._problem.classes.of_block(block)
        kept = self._problem.classes.signature[own, r]
        if block not in ends:
            return int(kept[pinned_end])
        return sum(ends[block][s] for s in np.flatnonzero(kept))
