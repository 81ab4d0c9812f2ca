"""Proves that `auto` is exact where it says so, never worse than greedy, and right in taking problems apart."""

from __future__ import annotations

import numpy as np
import pytest
from solver_instances import ALL_OBJECTIVES, one_block, several_blocks

from problems import Access, Block, Objective, Order, Problem, evaluate
from problems.generators import disjoint_masks, planted_intervals, random_concat, random_masks, with_tables
from solvers import Status, solve
from solvers.common.components import components, joined
from solvers.methods.brute_force import num_arrangements


def _agrees(problem: Problem, objective: Objective | str) -> bool:
    if num_arrangements(problem) > 6000:
        return False
    truth = solve(problem, solver="brute-force", objective=objective)
    found = solve(problem, objective=objective, time_limit=60)
    assert (found.solver, found.status) == ("auto", Status.OPTIMAL)
    assert found.value == found.bound == truth.value
    return True


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_auto_agrees_with_brute_force(objective: Objective) -> None:
    assert sum(_agrees(one_block(seed), objective) for seed in range(60)) >= 50
    assert sum(_agrees(several_blocks(seed), objective) for seed in range(60)) >= 30


def test_auto_agrees_with_brute_force_for_concave_tables() -> None:
    assert sum(_agrees(with_tables(one_block(seed), seed=seed), "latency") for seed in range(40)) >= 30
    assert sum(_agrees(with_tables(several_blocks(seed), seed=seed), "latency") for seed in range(60)) >= 30


def test_tables_that_are_not_concave_get_a_valid_bound() -> None:
    checked = 0
    for seed in range(60):
        problem = with_tables(one_block(seed), concave=False, seed=seed)
        if num_arrangements(problem) <= 6000:
            truth = solve(problem, solver="brute-force", objective="latency")
            found = solve(problem, objective="latency", time_limit=0.5)
            assert found.bound is not None and found.bound <= truth.value <= found.value
            checked += 1
    assert checked >= 30


def test_runs_in_blocks_between_matter_where_pieces_may_be_joined() -> None:
    """The span of such an access may be constant while its number of runs, and so its cost, is not."""
    for seed in range(240, 300):
        problem = with_tables(several_blocks(seed), concave=False, seed=seed)
        if num_arrangements(problem) <= 6000:
            truth = solve(problem, solver="brute-force", objective="latency")
            found = solve(problem, objective="latency", time_limit=0.2)
            assert found.bound is not None and found.bound <= truth.value <= found.value


@pytest.mark.slow
@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_auto_agrees_with_brute_force_on_thousands(objective: Objective) -> None:
    assert sum(_agrees(one_block(seed), objective) for seed in range(60, 1000)) >= 800
    assert sum(_agrees(several_blocks(seed), objective) for seed in range(60, 1000)) >= 400


def test_accesses_that_share_nothing_are_solved_apart() -> None:
    left, right = random_masks(10, 3, seed=1), random_masks(12, 4, seed=2)
    kept = [np.concatenate([access.kept, np.zeros(12, dtype=bool)]) for access in left.accesses]
    kept += [np.concatenate([np.zeros(10, dtype=bool), access.kept]) for access in right.accesses]
    kept.append(np.ones(22, dtype=bool))
    both = Problem((Block("x", 22),), tuple(Access(f"a{i}", (0,), row) for i, row in enumerate(kept)))
    assert [part.accesses for part in components(both)] == [(0, 1, 2), (3, 4, 5, 6)]
    for objective in ("span", "traffic", "copies", "runs"):
        alone = [solve(problem, objective=objective, time_limit=60).value for problem in (left, right)]
        whole = solve(both, objective=objective, time_limit=60)
        assert whole.value == whole.bound == sum(alone) + (objective == "runs")
        assert whole.stats["parts"] == 2


def test_orders_of_components_make_an_order_of_the_whole() -> None:
    for seed in range(60):
        problem = several_blocks(seed)
        parts = components(problem)
        order = solve(problem, solver="greedy").order
        pieces = [(part, part.order_of(problem, order)) for part in parts]
        for part, own in pieces:
            own.require_valid(part.problem)
        whole = joined(problem, pieces)
        whole.require_valid(problem)
        inside = {a: cost for part, own in pieces for a, cost in zip(part.accesses, _spans(part.problem, own))}
        for a, span in enumerate(_spans(problem, whole)):
            if a in inside:
                assert span == inside[a]


def _spans(problem: Problem, order: Order) -> list[int]:
    return [cost.span for cost in evaluate(problem, order, "span").accesses]


def test_constant_accesses_are_in_no_component() -> None:
    assert components(Problem((Block("x", 3),), (Access("a", (0,), np.ones(3, dtype=bool)),))) == []
    assert len(components(disjoint_masks(8, 4))) == 4


@pytest.mark.parametrize("objective", ["copies", "span", "traffic", "runs", "latency"])
@pytest.mark.parametrize("limit", [1e-6, 0.05, 0.5])
def test_auto_is_never_worse_than_greedy_and_always_has_a_bound(objective: str, limit: float) -> None:
    for problem in (random_masks(256, 9, keep=0.1), random_masks(128, 17), random_concat(8, 16, 10, keep=0.4)):
        problem = with_tables(problem)
        found = solve(problem, objective=objective, time_limit=limit)
        assert found.value <= solve(problem, solver="greedy", objective=objective).value
        assert found.bound is not None and found.bound <= found.value


def test_planted_intervals_are_recognised_at_once() -> None:
    found = solve(planted_intervals(256, 30, seed=3), objective="traffic")
    assert (found.value, found.status) == (0, Status.OPTIMAL)


def test_proofs_of_auto_give_the_bound() -> None:
    for objective in ("copies", "traffic", "runs"):
        found = solve(random_masks(40, 5, seed=2), objective=objective, proof=True, time_limit=20)
        assert found.proof is not None and found.proof.bound == found.bound
