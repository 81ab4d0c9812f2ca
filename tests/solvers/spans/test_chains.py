"""Proves that the chain heuristic only ever improves, and finds nearly optimal spans where the theory says so."""

from __future__ import annotations

import numpy as np
import pytest
from solver_instances import several_blocks

from problems import evaluate, objective_named
from problems.generators import random_masks
from solvers import greedy_order, solve
from solvers.common.incumbent import Incumbent
from solvers.common.task import Task
from solvers.spans.heuristics.chains import ChainSearch, offer_chains


@pytest.mark.parametrize("objective", ["span", "traffic"])
def test_chains_never_make_the_incumbent_worse(objective: str) -> None:
    for seed in range(40):
        problem = several_blocks(seed, max_channels=8, max_accesses=5)
        start = greedy_order(problem)
        task = Task(problem, objective_named(objective), start, 0.0, float("inf"))
        incumbent = Incumbent(task)
        offer_chains(task, incumbent, deadline=float("inf"))
        assert incumbent.value <= task.start_value
        assert evaluate(problem, incumbent.order, objective).value == incumbent.value


def test_the_price_of_the_chains_bounds_the_cost_of_their_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        num_classes, num_rows = int(rng.integers(2, 12)), int(rng.integers(1, 6))
        bits = rng.random((num_classes, num_rows)) < 0.5
        bits[rng.integers(num_classes, size=num_rows), np.arange(num_rows)] = True
        weight, slope = rng.integers(1, 9, num_classes), rng.integers(1, 4, num_rows)
        free = np.zeros(num_rows, dtype=bool)
        search = ChainSearch(weight, bits, slope, free, free)
        price, chains = search._descend([rng.permutation(num_rows), rng.permutation(num_rows)], np.inf)
        sequence = search._sequence(chains)
        assert sorted(sequence.tolist()) == list(range(num_classes))
        end = np.cumsum(weight[sequence])
        kept = bits[sequence]
        cost = sum(
            int(slope[r] * (end[kept[:, r]].max() - (end - weight[sequence])[kept[:, r]].min()))
            for r in range(num_rows)
        )
        assert cost <= price


def test_excess_of_four_random_accesses_is_near_the_optimum_on_average() -> None:
    values, optima = [], []
    for seed in range(10):
        problem = random_masks(128, 4, seed=seed)
        best = solve(problem, solver="placed-sets", objective="span").objective
        task = Task(problem, objective_named("span"), greedy_order(problem), 0.0, float("inf"))
        incumbent = Incumbent(task)
        offer_chains(task, incumbent, deadline=float("inf"))
        assert best <= incumbent.value
        values.append(incumbent.value)
        optima.append(best)
    assert sum(values) <= 1.1 * sum(optima)
