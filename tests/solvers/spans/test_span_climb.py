"""Proves that the climb over spans only ever improves, and finds nearly optimal spans where the theory says so."""

from __future__ import annotations

import pytest
from solver_instances import several_blocks

from problems import evaluate, objective_named
from problems.generators import random_masks
from solvers import greedy_order, solve
from solvers.common.incumbent import Incumbent
from solvers.common.task import Task
from solvers.spans.heuristics.local_search import SpanClimb


@pytest.mark.parametrize("objective", ["span", "traffic"])
def test_the_climb_never_makes_the_incumbent_worse(objective: str) -> None:
    for seed in range(40):
        problem = several_blocks(seed, max_channels=8, max_accesses=5)
        start = greedy_order(problem)
        task = Task(problem, objective_named(objective), start, 0.0, float("inf"))
        incumbent = Incumbent(task)
        SpanClimb(task, incumbent).run([task.start], 5)
        assert incumbent.value <= task.start_value
        assert evaluate(problem, incumbent.order, objective).value == incumbent.value


def test_excess_of_four_random_accesses_is_near_the_optimum_on_average() -> None:
    values, optima = [], []
    for seed in range(10):
        problem = random_masks(128, 4, seed=seed)
        best = solve(problem, solver="placed-sets", objective="span").value
        task = Task(problem, objective_named("span"), greedy_order(problem), 0.0, float("inf"))
        incumbent = Incumbent(task)
        SpanClimb(task, incumbent).run([task.start], 5)
        assert best <= incumbent.value
        values.append(incumbent.value)
        optima.append(best)
    assert sum(values) <= 1.1 * sum(optima)
