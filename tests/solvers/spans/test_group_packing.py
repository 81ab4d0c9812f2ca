"""Proves that bounds from groups of accesses never exceed the optimum, and what the checker says of their claims."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from solver_instances import ALL_OBJECTIVES, one_block, several_blocks

from problems import OBJECTIVES, Claim, Objective, Order, Problem, Proof
from problems.checker.meeting_accesses import cost_at_least
from problems.checker.proof_checks import Standing, check_proof
from problems.generators import random_masks, with_tables
from solvers import solve
from solvers.common.incumbent import Incumbent
from solvers.common.task import Task
from solvers.spans import group_packing
from solvers.spans.group_packing import bound_by_groups

PRICES = [own for own in ALL_OBJECTIVES if not own.counts_runs]


def _bounded(problem: Problem, objective: Objective, *, seconds: float = 60.0) -> Incumbent:
    now = time.perf_counter()
    incumbent = Incumbent(Task(problem, objective, Order.identity(problem), now, now + seconds, want_proof=True))
    bound_by_groups(incumbent._task, incumbent)
    return incumbent


def _check(problem: Problem, objective: Objective) -> None:
    best = solve(problem, solver="brute-force", objective=objective, time_limit=60)
    found = _bounded(problem, objective)
    assert found.bound <= best.value
    if claims := found.claims():
        statements = check_proof(problem, Proof.of(problem, objective, found.bound, claims))
        assert {own.standing for own in statements} == {Standing.VERIFIED}


@pytest.fixture
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_packing, "SIZES", (2, 3))
    monkeypatch.setattr(group_packing, "_PATIENCE", 2)


def _instances(objective: Objective, seeds: range) -> list[Problem]:
    found = [own for seed in seeds for own in (one_block(seed, max_accesses=7), several_blocks(seed, max_accesses=6))]
    if objective.uses_tables:
        return [with_tables(own, concave=k % 3 > 0, seed=k) for k, own in enumerate(found)]
    return found


@pytest.mark.usefixtures("_small_groups")
@pytest.mark.parametrize(
    "objective", [OBJECTIVES[name] for name in ("span", "traffic", "latency")], ids=lambda own: own.name
)
def test_bounds_stay_below_the_optimum_and_the_checker_verifies_them(objective: Objective) -> None:
    for problem in _instances(objective, range(2)):
        _check(problem, objective)


@pytest.mark.slow
@pytest.mark.usefixtures("_small_groups")
@pytest.mark.parametrize("objective", [*PRICES, OBJECTIVES["latency"]], ids=lambda own: own.name)
def test_hundreds_of_bounds_stay_below_the_optimum(objective: Objective) -> None:
    for problem in _instances(objective, range(100, 200)):
        _check(problem, objective)


def test_every_access_is_shared_out_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_packing, "SIZES", (4,))
    monkeypatch.setattr(group_packing, "_PATIENCE", 2)
    problem = random_masks(60, 10, keep=0.4, seed=4)
    found = _bounded(problem, OBJECTIVES["traffic"])
    load = dict.fromkeys((own.name for own in problem.accesses), Fraction(0))
    for own in found.claims():
        for name in own.accesses:
            load[name] += own.share
    assert max(load.values()) <= 1
    assert 0 < found.bound <= solve(problem, objective="traffic", time_limit=20).value


@pytest.mark.slow
def test_auto_bounds_many_rows_by_groups_at_once() -> None:
    """More rows than any exact method takes: levels alone need much longer."""
    problem = random_masks(1024, 30, keep=0.1, seed=0)
    result = solve(problem, objective="traffic", time_limit=10, proof=True)
    assert "groups" in result.stats["methods"]
    assert result.gap is not None
    assert result.gap < 0.6


@pytest.mark.parametrize("prices", [{"alpha": 1}, {"alpha": 1, "gamma": 2}, {"alpha": 3, "gamma": 1}], ids=str)
def test_the_checker_solves_groups_that_meet(prices: dict[str, int]) -> None:
    """Its path against the solvers' exact methods, at the optimum and one above."""
    objective = Objective("own", **prices)
    asked = 0
    for seed in range(6):
        problem = random_masks(32, 3 + seed % 4, keep=0.4, seed=seed)
        best = solve(problem, objective=objective, time_limit=60)
        assert best.gap == 0
        found = [cost_at_least(problem, objective, best.value + more) for more in (0, 1)]
        assert found in ([True, False], [None, None])
        asked += found[0] is not None
    assert asked >= 4


def test_the_checker_tells_true_groups_from_false_ones() -> None:
    """Six accesses have more classes than its dynamic program takes."""
    problem = random_masks(128, 9, keep=0.5, seed=2)
    group = tuple(own.name for own in problem.accesses[:6])
    least = solve(problem.restricted(range(6)), objective="span", time_limit=60)
    assert least.gap == 0
    for more, standing in ((0, Standing.VERIFIED), (1, Standing.WRONG)):
        claim = Claim("group", least.value + more, accesses=group, share=Fraction(1, 2))
        assert check_proof(problem, Proof.of(problem, OBJECTIVES["span"], 0, [claim]))[1].standing is standing
