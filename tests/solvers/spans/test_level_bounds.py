"""Proves that the bounds from levels never exceed the optimum, with and without the multipliers that tighten them."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import level_tables as level_bounds
from oracles.level_tables import Levels
from row_instances import Rows
from solver_instances import one_block, several_blocks

from problems import OBJECTIVES, Access, Block, Order, Problem
from problems.generators import random_masks, with_tables
from solvers import solve
from solvers.spans.bounds import levels_of_problem as level_spans
from solvers.spans.bounds.levels import least_total
from solvers.spans.bounds.levels_of_many_rows import FrequentLevels
from solvers.spans.exact.placed_sets import cheapest_sequence
from solvers.spans.node_bounds import relaxation_of


@pytest.fixture(params=[False, True], ids=["all sets paired", "few sets paired"])
def _few_pairs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(level_bounds, "_PAIRED_SETS", 2)
        monkeypatch.setattr(level_bounds, "_POOLED_SETS", 2)


@pytest.mark.usefixtures("_few_pairs")
def test_levels_bound_the_least_sum_of_any_slopes_and_anchors() -> None:
    tight = 0
    for seed in range(150):
        rows = Rows(seed, dense=True)
        if not rows.block.meet:
            continue
        levels = Levels(rows.weight, rows.bits, rows.left, rows.right)
        levels.improve(deadline=np.inf)
        assert (levels.reached <= levels.most).all()
        truth = cheapest_sequence(rows.block)
        assert truth is not None
        caps = np.full(len(rows.slope), 10**6)
        bound = int(caps.sum()) + least_total(levels, int(rows.weight.sum()), rows.slope, caps)
        assert bound <= truth.cost
        tight += bound == truth.cost
    assert tight >= 40


@pytest.mark.parametrize("most_sets", [1, 3, 1000])
def test_frequent_levels_bound_the_least_sum_and_leave_nothing_out_if_they_list_all(most_sets: int) -> None:
    tight = 0
    for seed in range(150):
        rows = Rows(seed, dense=True, anchored=False)
        if not rows.block.meet:
            continue
        levels = FrequentLevels(rows.block, most_sets=most_sets)
        levels.improve(deadline=np.inf)
        full = Levels(rows.weight, rows.bits, rows.left, rows.right)
        full.improve(deadline=np.inf)
        assert (levels.most >= full.most).all() and (levels.single >= full.single).all()
        if most_sets == 1000:
            assert (levels.most == full.most).all() and (levels.single == full.single).all()
        truth = cheapest_sequence(rows.block)
        caps = np.full(len(rows.slope), 10**6)
        bound = int(caps.sum()) + least_total(levels, int(rows.weight.sum()), rows.slope, caps)
        assert truth is not None and bound <= truth.cost
        tight += bound == truth.cost
    assert tight >= 20


@pytest.fixture
def _only_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """No exact method takes any block, and groups are small."""
    monkeypatch.setattr("solvers.spans.linear_costs.LinearSpans._method", lambda *_: None)
    monkeypatch.setattr("solvers.spans.node_bounds.MOST_ROWS", 0)
    monkeypatch.setattr(level_spans, "_MOST_ROWS", 3)
    monkeypatch.setattr(level_spans, "_ROWS_FOR_FREQUENT", 2)


@pytest.mark.usefixtures("_only_levels")
@pytest.mark.parametrize("objective", ["copies", "span", "traffic", "latency"])
def test_the_search_with_levels_stays_below_the_optimum(objective: str) -> None:
    for seed in range(30):
        for problem in (one_block(seed), several_blocks(seed)):
            problem = with_tables(problem, seed=seed)
            found = solve(problem, solver="pair-of-chains", objective=objective, time_limit=0.5)
            truth = _optimum(problem, objective)
            assert found.bound is not None and found.bound <= truth <= found.value


def _optimum(problem: Problem, objective: str) -> int:
    solver = "cp-sat" if not OBJECTIVES[objective].uses_tables else "brute-force"
    return solve(problem, solver=solver, objective=objective, time_limit=60).value


def test_random_masks_with_many_accesses_are_nearly_closed() -> None:
    problem = random_masks(256, 17, keep=0.5, seed=1)
    bound = solve(problem, solver="pair-of-chains", objective="span", time_limit=20).bound
    value = solve(problem, solver="cp-sat", objective="span", time_limit=2).value
    assert bound is not None and 0.93 * value <= bound <= value


def test_nothing_is_built_after_the_deadline() -> None:
    levels = Levels(np.ones(3, dtype=int), np.eye(3, dtype=bool), *np.zeros((2, 3), dtype=bool))
    levels.improve(deadline=0.0)
    assert levels.num_tables == 0 and levels.most.tolist() == [3, 3, 0]


@pytest.mark.usefixtures("_only_levels")
def test_an_access_that_reads_a_block_twice_has_one_cap_and_not_one_per_row() -> None:
    once = np.array([1, 1, 0, 0, 1, 0], dtype=bool)
    block = Block("x", 6)
    for kept, slots, capped in ((once, (0,), True), (np.concatenate([once, once[::-1]]), (0, 0), False)):
        problem = Problem((block,), (Access("a", slots, kept), Access("b", (0,), ~once)))
        relaxation = relaxation_of(
            problem, np.ones(2, dtype=int), lambda p=problem: Order.identity(p), capped=True, deadline=np.inf
        )
        assert relaxation.capped is capped
