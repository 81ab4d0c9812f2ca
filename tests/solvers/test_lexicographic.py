"""Proves that objectives in a given order are minimised in that order, and that every bound holds where it is said."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from solver_instances import one_block, several_blocks

from problems import OBJECTIVES, CostTable, Curve, Objective, Order, Problem, ProblemError, evaluate, evaluate_batch
from problems.combined import Term, combined
from problems.generators import grouped_masks, random_masks, with_tables
from solvers import SolverError, Status, solve_lexicographic

MIXED = Objective("mixed", alpha=2, gamma=3)
PAIRS = [("copies", "span"), ("traffic", "copies"), ("runs", "span"), ("traffic", "runs"), ("latency", "copies")]
TRIPLES = [("copies", "traffic", "runs"), ("span", MIXED, "latency"), ("runs", "latency", "copies")]


def instance(seed: int) -> Problem:
    """Tiny, with tables, with weights, some of them with pieces."""
    rng = np.random.default_rng(seed)
    make = one_block if seed % 2 else several_blocks
    problem = with_tables(make(seed, max_channels=5 if seed % 2 else 3), concave=seed % 3 > 0, seed=seed)
    accesses = []
    for own in problem.accesses:
        table = own.table
        if seed % 4 == 0 and table is not None:
            table = CostTable(table.read, table.copy, Curve((2, 4), (1, 30)))
        accesses.append(replace(own, weight=int(rng.integers(1, 4)), table=table))
    return replace(problem, accesses=tuple(accesses))


def all_values(problem: Problem, goals: tuple) -> np.ndarray:
    """The values of all orders; int64, shape (num_orders, num_goals)."""
    own = [
        [np.array(s)] if block.pinned else [np.array(p) for p in permutations(s.tolist())]
        for block, s in zip(problem.blocks, problem.stored)
    ]
    orders = [np.stack(rows) for rows in zip(*product(*own))]
    return np.stack([evaluate_batch(problem, orders, goal) for goal in goals], axis=1)


@pytest.mark.parametrize("goals", [*PAIRS, *TRIPLES], ids=str)
@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 40), marks=pytest.mark.slow)], ids=["few", "many"])
def test_the_order_is_the_best_one_in_turn(goals, seeds: range) -> None:
    for seed in seeds:
        problem = instance(seed)
        values = all_values(problem, goals)
        best = min(map(tuple, values.tolist()))
        for solver in ("auto", "brute-force"):
            result = solve_lexicographic(problem, goals, solver=solver, time_limit=20)
            assert result.values == best and result.status is Status.OPTIMAL
            assert result.values == tuple(evaluate(problem, result.order, goal).value for goal in goals)


@pytest.mark.parametrize(
    "solver", ["identity", "greedy", *(pytest.param(own, marks=pytest.mark.slow) for own in ("local-search", "cp-sat"))]
)
def test_bounds_hold_for_orders_that_are_not_worse_before(solver: str) -> None:
    for seed in range(6):
        problem, goals = instance(seed), (PAIRS + TRIPLES)[seed % 7]
        values = all_values(problem, goals)
        result = solve_lexicographic(problem, goals, solver=solver, time_limit=0.4)
        allowed = np.ones(len(values), dtype=bool)
        for k, own in enumerate(result.results):
            assert own.bound is not None and own.bound <= values[allowed, k].min() <= own.value
            allowed &= values[:, k] <= own.value


def test_the_sum_of_objectives_is_the_value_of_its_problem() -> None:
    goals = [*OBJECTIVES.values(), MIXED]
    for problem in [
        *map(instance, range(6)),
        *(with_tables(grouped_masks(3, 2, 3, seed=k), seed=k) for k in range(3)),
    ]:
        rng = np.random.default_rng(5)
        factors = rng.integers(1, 50, len(goals)).tolist()
        both = combined(problem, [Term(goal, factor) for goal, factor in zip(goals, factors)])
        assert both.ticks == 1
        for _ in range(5):
            channels = [s if b.pinned else rng.permutation(s) for b, s in zip(problem.blocks, problem.stored)]
            order = Order(channels, [rng.permutation(len(own.units)) for own in problem.bundles])
            total = sum(f * evaluate(problem, order, goal).value for goal, f in zip(goals, factors))
            assert evaluate(both, order, "latency").value == total


def test_what_is_said() -> None:
    problem = random_masks(24, 4, seed=1)
    result = solve_lexicographic(problem, ["copies", "span"], proof=True)
    assert "among the best orders before" in str(result) and result.results[0].proof is not None
    cut_off = solve_lexicographic(random_masks(256, 20, seed=1), ["traffic", "copies"], solver="greedy", time_limit=1)
    assert "not worse than the best found before" in str(cut_off) and cut_off.status is Status.FEASIBLE


def test_odd_objectives_are_refused() -> None:
    problem = random_masks(8, 3)
    for objectives in ("span", [], [1], None, ["span", "span"]):
        with pytest.raises((SolverError, ProblemError), match="objective"):
            solve_lexicographic(problem, objectives)
    with pytest.raises(ProblemError, match="no cost table"):
        solve_lexicographic(problem, ["span", "latency"])
    large = [Objective("large", alpha=2**45, gamma=2**45), "span"]
    with pytest.raises((SolverError, ProblemError), match="exact"):
        solve_lexicographic(random_masks(64, 6), large)
