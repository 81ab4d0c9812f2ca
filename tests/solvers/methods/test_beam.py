"""Proves the beam exact where it drops nothing, sound where it does, and its refusals, deadlines and interruptions."""

from __future__ import annotations

import time

import numpy as np
import pytest
from solver_instances import one_block, several_blocks

from problems import OBJECTIVES, Access, Block, Objective, Order, Problem, evaluate
from problems.generators import random_concat, random_masks, with_tables
from solvers import Beam, SolverError, solve
from solvers.common.block_rows import BlockRows
from solvers.spans.disjoint_rows.path_for_relations import cheapest_chains
from solvers.spans.heuristics.beam import MOST_ROWS, beam_chains

EVERYTHING = 10**6


def meeting_rows(seed: int, *, most_rows: int = 6) -> BlockRows:
    """Random rows that share classes pairwise unless they are anchored at the same end; slopes equal or not."""
    rng = np.random.default_rng([7, seed])
    while True:
        num_rows = int(rng.integers(2, most_rows + 1))
        bits = rng.random((int(rng.integers(3, 25)), num_rows)) < rng.choice([0.4, 0.6, 0.8])
        end = rng.choice([0, 0, 1, 2], size=num_rows) if seed % 2 else np.zeros(num_rows)
        slope = rng.integers(1, 5, size=num_rows) if seed % 3 else np.full(num_rows, 2)
        rows = BlockRows(rng.integers(1, 9, size=len(bits)), bits, slope, end == 1, end == 2)
        if bits.any(axis=0).all() and rows.meet:
            return rows


@pytest.mark.parametrize("part", range(4))
def test_a_beam_that_drops_nothing_is_the_exact_path(part: int) -> None:
    for seed in range(100 * part, 100 * part + 100):
        rows = meeting_rows(seed)
        best = cheapest_chains(rows)
        pair = beam_chains(rows, width=EVERYTHING)
        assert best is not None and pair is not None
        assert pair.price == best.cost == rows.cost(pair.sequence())


def test_a_narrow_beam_gives_chains_of_all_rows_and_is_never_below_the_optimum() -> None:
    reached = 0
    for seed in range(200):
        rows = meeting_rows(seed, most_rows=7)
        best = cheapest_chains(rows)
        pair = beam_chains(rows, width=2)
        assert best is not None and pair is not None
        for chain, anchored in zip(pair.chains, (rows.left, rows.right)):
            assert np.array_equal(np.sort(chain), np.flatnonzero(~anchored))
        assert np.array_equal(np.sort(pair.sequence()), np.arange(len(rows.weight)))
        assert best.cost <= rows.cost(pair.sequence()) <= pair.price
        reached += pair.price == best.cost
    assert reached > 100


def test_the_optimum_of_whole_problems_is_found() -> None:
    for seed in range(200):
        problem = random_masks(40, 3 + seed % 4, keep=0.6, seed=seed)
        truth = solve(problem, solver="pair-of-chains", objective="span", time_limit=600)
        result = solve(problem, solver=Beam(width=5000), objective="span", time_limit=600)
        assert result.value == truth.value


def test_never_below_the_optimum_and_never_above_greedy() -> None:
    for seed in range(60):
        for problem in (one_block(seed), several_blocks(seed), random_concat(3, 10, 4, keep=0.4, seed=seed)):
            truth = solve(problem, solver="auto", objective="span", time_limit=600)
            result = solve(problem, solver=Beam(width=3), objective="span", time_limit=600)
            greedy = evaluate(problem, solve(problem, solver="greedy").order, "span").value
            assert truth.value <= result.value <= greedy
            assert result.bound is not None and result.bound <= truth.value


def test_as_many_rows_as_masks_have_bits() -> None:
    rng = np.random.default_rng(5)
    for num in (MOST_ROWS, MOST_ROWS + 1):
        accesses = tuple(Access(f"a{i}", (0,), rng.random(80) < 0.5) for i in range(num))
        problem = Problem((Block("x", 80),), accesses)
        result = solve(problem, solver=Beam(width=4), objective="span", time_limit=600)
        greedy = solve(problem, solver="greedy", objective="span").value
        assert result.value < greedy if num == MOST_ROWS else result.value <= greedy


@pytest.mark.parametrize(
    "objective", [*(OBJECTIVES[name] for name in OBJECTIVES if name != "span"), Objective("mixed", alpha=2, gamma=3)]
)
def test_other_objectives_are_refused(objective: Objective) -> None:
    with pytest.raises(SolverError, match=r"beam.*local-search"):
        solve(with_tables(random_masks(16, 3)), solver="beam", objective=objective)


def test_a_passed_deadline_gives_a_start() -> None:
    problem = random_masks(200, 16)
    result = solve(problem, solver="beam", objective="span", time_limit=1e-9)
    assert result.value <= evaluate(problem, Order.identity(problem), "span").value
    assert beam_chains(meeting_rows(0), width=8, deadline=time.perf_counter()) is None


def test_the_hint_is_never_lost() -> None:
    problem = random_masks(64, 16, seed=2)
    best = solve(problem, solver=Beam(width=64), objective="span", time_limit=600)
    again = solve(problem, solver=Beam(width=1), objective="span", hint=best.order, time_limit=600)
    assert again.value <= best.value


def test_one_answer_and_only_improvements() -> None:
    problem = random_masks(256, 16, seed=3)
    seen: list[int] = []
    first = solve(problem, solver="beam", objective="span", time_limit=600, progress=lambda now: seen.append(now.value))
    second = solve(problem, solver="beam", objective="span", time_limit=600, seed=1)
    assert first.order == second.order
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == first.value


@pytest.mark.slow
def test_auto_begins_with_a_beam_where_paths_are_too_long() -> None:
    for num, asked in ((16, True), (14, False)):
        problem = random_masks(64, num, seed=4)
        for objective in ("span", "traffic"):
            stats = solve(problem, objective=objective, time_limit=2).stats
            assert ("width" in stats) == (asked and objective == "span")


def test_interruption_passes_through() -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(random_masks(256, 16), solver="beam", objective="span", progress=stop)


def test_no_width_is_refused() -> None:
    with pytest.raises(SolverError, match="width"):
        Beam(width=0)
