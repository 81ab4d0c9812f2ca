"""Proves the paths over chains, their branching, and the search over spans right against independent exact methods."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from row_instances import Rows
from solver_instances import one_block, several_blocks

from problems import OBJECTIVES, Access, Block, Objective, Problem, evaluate_batch
from problems.generators import random_concat, random_masks, with_tables
from solvers import Status, solve
from solvers.methods.brute_force import num_arrangements
from solvers.spans.copied_sets import SubsetSpans
from solvers.spans.disjoint_rows.branching import search_meetings
from solvers.spans.disjoint_rows.path_for_all_sets import ChainSubsets
from solvers.spans.disjoint_rows.path_for_relations import cheapest_chains
from solvers.spans.exact.placed_sets import cheapest_sequence

SPANS = [OBJECTIVES["copies"], OBJECTIVES["span"], OBJECTIVES["traffic"], Objective("mixed", alpha=2, gamma=3)]
FEW = range(150)
MANY = range(150, 6000)


def _chains_agree(seed: int) -> bool:
    rows = Rows(seed, dense=True)
    if not rows.block.meet:
        return False
    truth = cheapest_sequence(rows.block)
    found = cheapest_chains(rows.block)
    assert truth is not None and found is not None
    assert sorted(found.sequence) == list(range(len(rows.weight)))
    assert found.cost == truth.cost == rows.cost(found.sequence)
    return True


def _subsets_agree(seed: int) -> int:
    rows = Rows(seed, dense=True, anchored=False)
    if not rows.block.meet:
        return 0
    found = ChainSubsets(rows.block)
    full, whole = (rows.bits, rows.slope), rows.block
    for subset in range(1, len(found.cost)):
        own = np.flatnonzero(subset >> np.arange(len(rows.left)) & 1)
        truth = cheapest_sequence(whole.only(own)[0])
        rows.bits, rows.slope = full[0][:, own], full[1][own]
        assert truth is not None
        assert found.cost[subset] == truth.cost == rows.cost(found.sequence(subset))
    return len(found.cost)


def _meetings_agree(seed: int) -> int:
    rows = Rows(seed, dense=False)
    truth = cheapest_sequence(rows.block)
    found = search_meetings(rows.block)
    assert truth is not None and found.best is not None and found.complete
    assert found.bound == found.best.cost == truth.cost == rows.cost(found.best.sequence)
    return found.num_nodes


def test_the_pair_of_chains_is_exact_where_rows_meet() -> None:
    assert sum(_chains_agree(seed) for seed in FEW) >= 80


def test_one_path_prices_every_subset_of_rows() -> None:
    assert sum(_subsets_agree(seed) for seed in range(60)) >= 200


def test_branching_on_meetings_is_exact_without_any_condition() -> None:
    assert sum(_meetings_agree(seed) for seed in range(80)) >= 300


@pytest.mark.slow
def test_thousands_of_blocks_agree_with_the_sets_of_placed_classes() -> None:
    assert sum(_chains_agree(seed) for seed in MANY) >= 3000
    assert sum(_subsets_agree(seed) for seed in range(60, 600)) >= 3000
    assert sum(_meetings_agree(seed) for seed in MANY) >= 10000


def _solvers_agree(problem: Problem, objective: Objective) -> None:
    found = solve(problem, solver="pair-of-chains", objective=objective, time_limit=60)
    truth = solve(problem, solver="placed-sets", objective=objective, time_limit=60)
    assert found.status is truth.status is Status.OPTIMAL
    assert found.value == found.bound == truth.value


@pytest.mark.parametrize("objective", SPANS, ids=lambda o: o.name)
def test_it_agrees_with_placed_sets_on_one_and_several_blocks(objective: Objective) -> None:
    for seed in range(40):
        _solvers_agree(one_block(seed, max_channels=12, max_accesses=5), objective)
        _solvers_agree(several_blocks(seed, max_accesses=5), objective)
    for seed in range(3):
        _solvers_agree(random_concat(3, 8, 5, seed=seed, pinned=0.2, keep=0.6), objective)
        _solvers_agree(random_masks(48, 4, seed=seed), objective)


@pytest.mark.slow
@pytest.mark.parametrize("objective", SPANS, ids=lambda o: o.name)
def test_it_agrees_with_placed_sets_on_hundreds(objective: Objective) -> None:
    for seed in range(40, 700):
        _solvers_agree(one_block(seed, max_channels=14, max_accesses=5), objective)
        _solvers_agree(several_blocks(seed, max_accesses=5), objective)


def _least_latency(problem: Problem) -> int:
    """The least latency over all orders of the channels, classes or not; of one block that is not pinned."""
    orders = np.array(list(permutations(problem.stored[0])))
    return int(evaluate_batch(problem, [orders], "latency").min())


@pytest.mark.parametrize("concave", [True, False])
def test_latency_is_the_least_over_all_orders_of_channels(concave: bool) -> None:
    closed = 0
    for seed in range(25):
        problem = with_tables(one_block(seed, max_channels=6), concave=concave, seed=seed)
        truth = _least_latency(problem)
        found = solve(problem, solver="pair-of-chains", objective="latency", time_limit=60)
        assert found.bound is not None and found.bound <= truth <= found.value
        closed += found.status is Status.OPTIMAL
        if concave:
            assert found.value == truth and found.status is Status.OPTIMAL
    assert closed >= 10


def test_concave_tables_agree_with_brute_force_over_several_blocks() -> None:
    for seed in range(40):
        problem = with_tables(several_blocks(seed), seed=seed)
        if num_arrangements(problem) <= 6000:
            truth = solve(problem, solver="brute-force", objective="latency")
            found = solve(problem, solver="pair-of-chains", objective="latency", time_limit=60)
            assert (found.status, found.value, found.bound) == (truth.status, truth.value, truth.bound)


def test_it_stops_at_the_time_limit_with_a_bound() -> None:
    problem = random_masks(256, 12, keep=0.1, seed=1)
    found = solve(problem, solver="pair-of-chains", objective="traffic", time_limit=0.3)
    assert found.bound is not None and 0 <= found.bound <= found.value


def test_where_no_row_pays_every_order_is_as_good():
    """As on the pieces of measured tables where reading more costs no more: the total is that of the constants."""
    reads = np.eye(3, 6, dtype=bool) | np.eye(3, 6, 1, dtype=bool)
    problem = Problem((Block("x", 6),), tuple(Access(f"a{i}", (0,), kept) for i, kept in enumerate(reads)))
    constant, cap = np.array([5, 7, 11]), np.array([9, 6, 20])
    total, order = SubsetSpans(problem).least(constant, np.zeros(3, dtype=np.int64), cap, enough=100)
    assert total == 5 + 6 + 11
    order.require_valid(problem)
