"""Proves the exact methods right by letting independent ones agree on hundreds of small instances."""

from __future__ import annotations

import pytest
from solver_instances import ALL_OBJECTIVES, one_block, several_blocks

from problems import Objective, Problem
from problems.generators import (
    disjoint_masks,
    nested_masks,
    planted_intervals,
    random_concat,
    random_masks,
    with_tables,
)
from solvers import BruteForce, SolverError, Status, solve
from solvers.methods.brute_force import num_arrangements

EXACT = ["placed-sets", "cp-sat"]


def _agree(problem: Problem, objective: Objective, limit: int = 6000) -> bool:
    """All exact solvers find the oracle's value; False if the oracle would take too long."""
    if num_arrangements(problem) > limit:
        return False
    truth = solve(problem, solver="brute-force", objective=objective)
    assert truth.status is Status.OPTIMAL
    for solver in EXACT:
        result = solve(problem, solver=solver, objective=objective, time_limit=60)
        assert (result.status, result.value, result.bound) == (Status.OPTIMAL, truth.value, truth.value)
    for solver in ("greedy", "identity"):
        result = solve(problem, solver=solver, objective=objective)
        assert result.bound is not None and result.bound <= truth.value <= result.value
    return True


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_all_methods_agree_with_brute_force_on_one_block(objective: Objective) -> None:
    assert sum(_agree(one_block(seed), objective) for seed in range(60)) >= 50


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_all_methods_agree_with_brute_force_on_several_blocks(objective: Objective) -> None:
    assert sum(_agree(several_blocks(seed), objective) for seed in range(90)) >= 50


def test_the_small_instances_cover_every_feature() -> None:
    problems = [several_blocks(seed) for seed in range(90)]
    problems = [problem for problem in problems if num_arrangements(problem) <= 6000]
    blocks = [block for problem in problems for block in problem.blocks]
    accesses = [access for problem in problems for access in problem.accesses]
    assert any(block.pinned for block in blocks)
    assert any(not block.removable and not block.pinned for block in blocks)
    assert any(len(set(access.blocks)) < len(access.blocks) for access in accesses)
    assert any(access.channel_size > 1 for access in accesses)


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
@pytest.mark.parametrize("seed", range(4))
def test_placed_sets_and_cp_sat_agree_beyond_brute_force(objective: Objective, seed: int) -> None:
    for problem in (
        random_masks(48, 4, seed=seed, correlation=0.2 * seed),
        random_concat(3, 8, 5, seed=seed, pinned=0.2, keep=0.6),
        one_block(seed, max_channels=12, max_accesses=5),
    ):
        dp = solve(problem, solver="placed-sets", objective=objective, time_limit=60)
        cp = solve(problem, solver="cp-sat", objective=objective, time_limit=60)
        assert dp.status is cp.status is Status.OPTIMAL
        assert dp.value == cp.value


@pytest.mark.slow
@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_all_methods_agree_on_a_thousand_more(objective: Objective) -> None:
    for seed in range(1000, 1500):
        _agree(one_block(seed), objective)
        _agree(several_blocks(seed), objective, limit=20_000)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("family", [planted_intervals, nested_masks, disjoint_masks])
def test_planted_orders_without_copies_are_found(family, seed: int) -> None:
    for num_channels, num_accesses in ((24, 5), (256, 12), (1024, 24)):
        result = solve(family(num_channels, num_accesses, seed=seed), solver="cp-sat")
        assert (result.value, result.status) == (0, Status.OPTIMAL)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 0.95])
def test_copies_of_large_random_masks_are_closed(correlation: float) -> None:
    result = solve(random_masks(1024, 24, correlation=correlation), solver="cp-sat", time_limit=60)
    assert result.status is Status.OPTIMAL


@pytest.mark.parametrize("seed", range(6))
def test_copies_of_many_concatenations_agree_with_learned_conflicts_only(seed: int, monkeypatch) -> None:
    problem = random_concat(10, 12, 14, seed=seed, pinned=0.1)
    full = solve(problem, time_limit=60)
    monkeypatch.setattr("solvers.views.conflicts.at_most", lambda conflict, deadline: [])
    learned = solve(problem, time_limit=60)
    assert full.status is learned.status is Status.OPTIMAL
    assert full.value == learned.value


def test_too_large_instances_are_refused_with_a_remedy() -> None:
    with pytest.raises(SolverError, match=r"arrangements.*cp-sat"):
        solve(random_masks(64, 4), solver="brute-force")
    with pytest.raises(SolverError, match=r"about 10\^\d{3} arrangements"):  # more than a float holds
        solve(random_masks(256, 9), solver="brute-force")
    with pytest.raises(SolverError, match=r"classes.*cp-sat"):
        solve(random_masks(256, 6), solver="placed-sets")
    with pytest.raises(SolverError, match=r"classes.*cp-sat"):
        solve(random_masks(256, 6), solver="placed-sets", objective="runs")
    with pytest.raises(SolverError, match=r"combinations.*cp-sat"):
        solve(random_concat(6, 10, 12, seed=1), solver="placed-sets", objective="runs")


def test_placed_sets_refuses_cost_tables() -> None:
    with pytest.raises(SolverError, match=r"tables.*pair-of-chains"):
        solve(with_tables(random_masks(8, 2)), solver="placed-sets", objective="latency")


def test_oracles_cut_off_return_the_start_and_a_valid_bound() -> None:
    result = solve(random_masks(10, 5), solver=BruteForce(chunk=64), time_limit=1e-6)
    assert (result.status, result.bound) == (Status.FEASIBLE, 0)
    for objective in ("span", "runs", "copies"):
        result = solve(random_masks(64, 4), solver="placed-sets", objective=objective, time_limit=1e-6)
        assert result.status is Status.FEASIBLE
        assert result.value == solve(random_masks(64, 4), solver="greedy", objective=objective).value
