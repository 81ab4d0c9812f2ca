"""Proves every large neighbourhood searched exactly, against enumeration, and the solver `lns` sound."""

from __future__ import annotations

import time
from itertools import permutations

import numpy as np
import pytest
from solver_instances import ALL_OBJECTIVES, one_block, several_blocks

from problems import Objective, evaluate
from problems.generators import random_concat, random_masks, with_tables
from solvers import LargeNeighbourhoods, LocalSearch, SolverError, solve
from solvers.common.block_rows import BlockRows
from solvers.methods.brute_force import num_arrangements
from solvers.spans.heuristics.class_windows import best_window

QUICK = LargeNeighbourhoods(patience=5, max_classes=6, first=LocalSearch(patience=2))


def random_rows(seed: int, *, most_classes: int = 9, most_rows: int = 5) -> BlockRows:
    rng = np.random.default_rng([5, seed])
    num_classes, num_rows = int(rng.integers(2, most_classes + 1)), int(rng.integers(1, most_rows + 1))
    bits = rng.random((num_classes, num_rows)) < rng.choice([0.3, 0.5])
    bits[rng.integers(num_classes, size=num_rows), np.arange(num_rows)] = True
    left = rng.random(num_rows) < 0.2
    right = (rng.random(num_rows) < 0.2) & ~left
    return BlockRows(rng.integers(1, 9, num_classes), bits, rng.integers(0, 4, num_rows), left, right)


@pytest.mark.parametrize("seed", range(60))
def test_no_order_of_a_window_is_cheaper(seed: int) -> None:
    rows, rng = random_rows(seed), np.random.default_rng(seed)
    sequence = rng.permutation(len(rows.weight))
    begin = int(rng.integers(len(sequence)))
    found = best_window(rows, sequence, begin, max_classes=5, deadline=float("inf"))
    end = min(len(sequence), begin + 5)
    costs = [
        rows.cost(np.concatenate([sequence[:begin], window, sequence[end:]]))
        for window in permutations(sequence[begin:end])
    ]
    assert rows.cost(found) <= min(costs)
    assert sorted(found.tolist()) == sorted(sequence.tolist())
    assert found[:begin].tolist() == sequence[:begin].tolist()


def test_windows_stop_at_the_deadline() -> None:
    rows = random_rows(3)
    sequence = np.arange(len(rows.weight))
    now = time.perf_counter()
    assert best_window(rows, sequence, 0, max_classes=9, deadline=now).tolist() == sequence.tolist()


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_never_below_the_optimum_and_never_above_local_search(objective: Objective) -> None:
    for seed in range(25):
        for problem in (one_block(seed), several_blocks(seed)):
            if num_arrangements(problem) > 3000:
                continue
            truth = solve(problem, solver="brute-force", objective=objective)
            result = solve(problem, solver=QUICK, objective=objective)
            assert truth.value <= result.value <= result.stats["first_value"]
            greedy = evaluate(problem, solve(problem, solver="greedy").order, objective).value
            assert result.value <= greedy


def test_latency_is_never_below_the_optimum() -> None:
    for seed in range(10):
        problem = with_tables(one_block(seed), concave=seed % 2 == 0, seed=seed)
        truth = solve(problem, solver="brute-force", objective="latency")
        assert truth.value <= solve(problem, solver=QUICK, objective="latency").value


@pytest.mark.parametrize("objective", ["span", "traffic", "runs"])
def test_larger_problems_only_improve(objective: str) -> None:
    for problem in (random_masks(200, 9, keep=0.15), random_concat(6, 20, 12, keep=0.4)):
        result = solve(problem, solver=QUICK, objective=objective, time_limit=3)
        assert result.value <= result.stats["first_value"]


def test_wrong_parameters_are_refused() -> None:
    for wrong in ({"patience": 0}, {"max_classes": 40}, {"first_share": 0.0}):
        with pytest.raises(SolverError, match="lns"):
            LargeNeighbourhoods(**wrong)
