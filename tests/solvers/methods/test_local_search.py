"""Proves local search sound for every objective: never below the optimum, never above the start, in time."""

from __future__ import annotations

import numpy as np
import pytest
from solver_instances import ALL_OBJECTIVES, one_block, several_blocks

from problems import OBJECTIVES, Objective, Order, evaluate
from problems.generators import random_concat, random_masks, with_tables
from solvers import LocalSearch, SolverError, solve
from solvers.methods.brute_force import num_arrangements

QUICK = LocalSearch(patience=5)
SPANS = ["span", "traffic"]


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_never_below_the_optimum_and_never_above_greedy(objective: Objective) -> None:
    reached = tried = 0
    for seed in range(40):
        for problem in (one_block(seed), several_blocks(seed)):
            if num_arrangements(problem) > 3000:
                continue
            truth = solve(problem, solver="brute-force", objective=objective)
            result = solve(problem, solver=QUICK, objective=objective)
            greedy = evaluate(problem, solve(problem, solver="greedy").order, objective).value
            assert truth.value <= result.value <= greedy
            assert result.bound is not None and result.bound <= truth.value
            reached += result.value == truth.value
            tried += 1
    assert reached >= 0.9 * tried


@pytest.mark.parametrize("concave", [True, False])
def test_latency_is_never_below_the_optimum(concave: bool) -> None:
    for seed in range(15):
        problem = with_tables(one_block(seed), concave=concave, seed=seed)
        truth = solve(problem, solver="brute-force", objective="latency")
        result = solve(problem, solver=QUICK, objective="latency")
        greedy = evaluate(problem, solve(problem, solver="greedy").order, "latency").value
        assert truth.value <= result.value <= greedy


@pytest.mark.parametrize("objective", SPANS)
def test_the_optimum_of_five_accesses_is_reached(objective: str) -> None:
    for seed in range(5):
        problem = random_masks(128, 4, seed=seed, keep=0.4)
        best = solve(problem, solver="placed-sets", objective=objective)
        assert solve(problem, solver="local-search", objective=objective).value == best.value


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o != "latency"])
def test_a_seed_gives_one_answer(objective: str) -> None:
    problem = random_concat(3, 12, 6, seed=1, keep=0.4)
    first, second = (solve(problem, solver=QUICK, objective=objective, seed=5, time_limit=600) for _ in range(2))
    assert first.order == second.order
    assert first.stats == second.stats


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o != "latency"])
def test_the_hint_is_never_lost(objective: str) -> None:
    problem = random_masks(32, 6, seed=2)
    best = solve(problem, solver="local-search", objective=objective, time_limit=600)
    again = solve(problem, solver=LocalSearch(patience=1), objective=objective, hint=best.order, time_limit=600)
    assert again.value <= best.value


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o != "latency"])
def test_a_passed_deadline_gives_a_start(objective: str) -> None:
    problem = random_masks(200, 12)
    result = solve(problem, solver="local-search", objective=objective, time_limit=1e-9)
    assert result.value <= evaluate(problem, Order.identity(problem), objective).value


def test_progress_is_reported_and_only_improves() -> None:
    seen: list[int] = []
    result = solve(random_masks(256, 10), solver=QUICK, objective="span", progress=lambda now: seen.append(now.value))
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == result.value


def test_many_blocks_are_searched() -> None:
    problem = random_concat(20, 24, 25, keep=0.4, correlation=0.3)
    for objective in ("span", "traffic"):
        result = solve(problem, solver=LocalSearch(patience=3), objective=objective, time_limit=20)
        greedy = evaluate(problem, solve(problem, solver="greedy").order, objective).value
        assert result.value < greedy


def test_rows_that_share_nothing_are_searched() -> None:
    problem = random_masks(64, 8, keep=0.08, seed=3)
    best = solve(problem, solver="local-search", objective="span")
    greedy = solve(problem, solver="greedy", objective="span")
    assert best.value <= greedy.value


def test_no_patience_is_refused() -> None:
    with pytest.raises(SolverError, match="patience"):
        LocalSearch(patience=0)


def test_interruption_passes_through() -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(random_masks(256, 10), solver="local-search", objective="span", progress=stop)


def test_a_problem_without_accesses_is_no_trouble() -> None:
    problem = random_masks(8, 1)
    for objective in ALL_OBJECTIVES:
        result = solve(problem, solver="local-search", objective=objective)
        assert np.array_equal(np.sort(result.order[0]), problem.stored[0])


def test_states_of_one_climber_are_never_given_to_another() -> None:
    """Which rows pay decides whether all that pay meet, so that the kind of climber changes during a search."""
    problem = random_masks(512, 13, keep=0.1, seed=3)
    found = solve(problem, solver="local-search", objective="traffic", time_limit=3, seed=0)
    assert found.value <= solve(problem, solver="greedy", objective="traffic").value
