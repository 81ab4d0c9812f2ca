"""Proves the bounds from conflicts, the order in which `auto` asks its methods, and that it looks at clocks."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from fractions import Fraction
from itertools import count

import numpy as np
import pytest
from row_instances import block_of
from solver_instances import ALL_OBJECTIVES, one_block, sets, several_blocks

from problems import OBJECTIVES, Access, Block, CostTable, Curve, Objective, Order, Problem, evaluate
from problems.checker.proof_checks import Standing, check_proof
from problems.generators import planted_intervals, random_masks, random_matrix, with_tables
from solvers import Status, solve
from solvers.common.incumbent import Incumbent
from solvers.common.least_costs import steepest_line
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.methods.brute_force import num_arrangements
from solvers.methods.greedy import greedy_in_time, greedy_order
from solvers.methods.induced_paths import OutOfTimeError, PathSearch
from solvers.roads import pieces
from solvers.spans.bounds.levels_of_many_rows import FrequentLevels
from solvers.spans.bounds.levels_of_problem import LevelSpans
from solvers.spans.copied_sets import SubsetSpans
from solvers.spans.disjoint_rows.path_for_all_sets import ChainSubsets
from solvers.spans.linear_costs import LinearSpans
from solvers.spans.node_bounds import relaxation_of
from solvers.views.conflicts import MOST_ACCESSES, conflicting_rows, small_conflicts
from solvers.views.view_bound import bound_by_conflicts

PRICES = [
    *(own for own in ALL_OBJECTIVES if not own.counts_runs),
    Objective("dear", alpha=7, gamma=3),
    Objective("free reading", alpha=0, gamma=2),
    Objective("free copying", alpha=2, gamma=0),
]


_MAKERS = (one_block, several_blocks)


def _task(problem: Problem, objective: Objective | str, *, seconds: float = 60.0) -> Task:
    goal = OBJECTIVES[objective] if isinstance(objective, str) else objective
    now = time.perf_counter()
    return Task(problem, goal, Order.identity(problem), now, now + seconds, want_proof=True)


@pytest.mark.parametrize("objective", [*PRICES, OBJECTIVES["latency"]], ids=lambda own: own.name)
def test_conflicts_bound_every_objective_from_below(objective: Objective) -> None:
    """For copies, where all that is not a view pays its price, the bound is the optimum."""
    checked = useful = 0
    for seed in range(60):
        for problem in (one_block(seed, max_accesses=5), several_blocks(seed)):
            if num_arrangements(problem) > 3000:
                continue
            problem = with_tables(problem, concave=seed % 2 == 0, seed=seed)
            truth = solve(problem, solver="brute-force", objective=objective).value
            task = _task(problem, objective)
            incumbent = Incumbent(task)
            bound_by_conflicts(task, incumbent)
            assert incumbent.bound <= truth <= incumbent.value
            if objective.name == "copies":
                assert incumbent.bound == truth == incumbent.value
            checked += 1
            useful += incumbent.bound > task.trivial_bound
    assert checked >= 60 and (useful >= 10 or 0 in (objective.alpha, objective.gamma))


@pytest.mark.parametrize(
    "objective", ["copies", *(pytest.param(own, marks=pytest.mark.slow) for own in ("span", "traffic"))]
)
def test_auto_proves_what_conflicts_imply_and_the_checker_agrees(objective: str) -> None:
    """Sparse rows that never meet: levels say nothing there, but an access that is no view costs 1 at least."""
    triangle = [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    kept = np.kron(np.eye(30, dtype=int), triangle).astype(bool)
    problem = Problem((Block("x", 90),), tuple(Access(f"a{i}", (0,), row, 3) for i, row in enumerate(kept)))
    task = _task(problem, objective)
    incumbent = Incumbent(task)
    bound_by_conflicts(task, incumbent)
    assert incumbent.bound == 30 * 3 * (2 if objective == "copies" else 1)
    result = solve(problem, objective=objective, time_limit=20, proof=True)
    assert result.status is Status.OPTIMAL and result.bound == incumbent.bound
    sparse = random_matrix(100, 50, density=0.02, seed=1)
    found = solve(sparse, objective=objective, time_limit=5, proof=True)
    assert found.bound is not None and found.bound >= 4 and found.proof is not None
    assert Standing.WRONG not in [own.standing for own in check_proof(sparse, found.proof)]


def test_proofs_from_conflicts_are_verified_for_spans() -> None:
    problem = sets({0, 1}, {1, 2}, {0, 2}, {3, 4}, {4, 5}, {3, 5})
    for objective in ("span", "traffic"):
        task = _task(problem, objective)
        incumbent = Incumbent(task)
        bound_by_conflicts(task, incumbent)
        result = solve(problem, solver="placed-sets", objective=objective)
        assert incumbent.bound == result.value == 2
        claims = incumbent.claims()
        assert claims and all(own.kind == "conflict" for own in claims)


def _with_dear_pieces(seed: int) -> Problem:
    """Few channels; two pieces are cheap to join, more are not, so that the number of runs decides."""
    rng = np.random.default_rng([99, seed])
    num = int(rng.integers(4, 8))
    accesses = []
    for a in range(int(rng.integers(3, 6))):
        kept = rng.random(num) < 0.55
        kept[rng.integers(num)] = True
        read = Curve(range(1, num + 1), np.cumsum(rng.integers(4, 20, num)).tolist())
        table = CostTable(read, int(rng.integers(30, 60)), Curve((2, 3, 4), (3, 12, 40)))
        accesses.append(Access(f"a{a}", (0,), kept, table=table))
    return Problem((Block("x", num, removable=False),), tuple(accesses), f"dear-pieces-{seed}")


DEAR = (27, 46, 82, 281, 285, 3, 4, 5)
"""Seeds; the first five stay open if nobody counts runs."""


def test_pieces_are_closed_wherever_few_arrangements_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining pieces makes the number of runs matter, which no method for spans counts."""
    monkeypatch.setattr(pieces, "_MOST_CHANNELS", 0)
    problems = [_with_dear_pieces(seed) for seed in DEAR]
    problems += [with_tables(make(seed), concave=False, seed=seed) for seed in range(25) for make in _MAKERS]
    for problem in problems:
        if num_arrangements(problem) <= 3000:
            found = solve(problem, objective="latency", time_limit=20)
            assert found.status is Status.OPTIMAL
            assert found.value == solve(problem, solver="brute-force", objective="latency").value


@pytest.mark.slow
def test_pieces_of_more_arrangements_go_to_a_program_that_counts_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_MOST_ARRANGEMENTS", 0)
    for problem in map(_with_dear_pieces, DEAR):
        truth = solve(problem, solver="brute-force", objective="latency").value
        found = solve(problem, objective="latency", time_limit=8)
        assert (found.value, found.status) == (truth, Status.OPTIMAL)


def test_planted_copies_are_found_without_loading_a_program() -> None:
    code = (
        "import sys\n"
        "from problems.generators import planted_intervals\n"
        "from solvers import solve\n"
        "result = solve(planted_intervals(256, 40, seed=2), time_limit=60)\n"
        "assert (result.value, str(result.status)) == (0, 'OPTIMAL'), result\n"
        "assert not [name for name in sys.modules if name.startswith('ortools')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("solver", ["auto", "cp-sat", "placed-sets", "pair-of-chains", "milp", "cp-sat-direct"])
def test_no_exact_solver_is_worse_than_the_order_the_network_came_with(solver: str) -> None:
    """Greedy gives up an order without copies here; with no time left the identity is still known."""
    line = np.arange(12)
    kept = [(line >= a) & (line < b) for a, b in ((0, 4), (2, 7), (3, 9), (5, 12), (6, 8), (1, 11))]
    problem = Problem((Block("x", 12),), tuple(Access(f"a{i}", (0,), row) for i, row in enumerate(kept)))
    assert evaluate(problem, Order.identity(problem), "copies").value == 0
    for objective in ("copies", "span", "traffic"):
        found = solve(problem, solver=solver, objective=objective, time_limit=1e-9)
        assert (found.value, found.status) == (0, Status.OPTIMAL)
        assert found.order == Order.identity(problem)
    for seed in range(20):
        problem = several_blocks(seed)
        for objective in ("copies", "span", "traffic"):
            known = min(
                evaluate(problem, order, objective).value for order in (Order.identity(problem), greedy_order(problem))
            )
            assert solve(problem, solver=solver, objective=objective, time_limit=1e-9).value <= known


def test_greedys_order_is_the_start_where_the_identity_is_no_better() -> None:
    problem = random_masks(64, 9, seed=4)
    found = solve(problem, objective="span", time_limit=1e-9)
    assert found.order == greedy_order(problem)


def test_greedy_gives_up_when_the_deadline_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_masks(64, 30)
    with pytest.raises(OutOfTimeError):
        greedy_order(problem, deadline=0.0)
    clock = count()
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: float(next(clock)))
        edges = ~np.eye(30, dtype=bool)
        with pytest.raises(OutOfTimeError):  # within the paths that begin at the first node
            PathSearch(1 + np.arange(900).reshape(30, 30) % 7, edges, np.ones(30), 10**6, deadline=35.0).heaviest(0)
    late = dataclasses.replace(_task(problem, "span"), started=-10.0, deadline=0.0)
    assert greedy_in_time(late, 0.5) == []
    assert greedy_in_time(_task(problem, "span"), 0.5) == [greedy_order(problem)]


def test_conflicts_of_many_accesses_stay_small_and_stop_at_the_deadline() -> None:
    problem = random_masks(300, 400, seed=1)
    known = small_conflicts(problem, span_rows(problem), np.arange(400))
    assert known.triples.shape == (MOST_ACCESSES,) * 3 and known.accesses.tolist() == list(range(272, 400))
    assert known.limits() and not known.limits(deadline=0.0)
    bits = np.stack(problem.reads[:20]).T
    assert conflicting_rows(bits).any() and not conflicting_rows(bits, deadline=0.0).any()
    outside = 3
    assert not known.forbid(outside, [300, 301])


def test_conflicts_of_chosen_accesses_are_those_of_all() -> None:
    problem = random_masks(40, 12, keep=0.2, seed=5)
    spans, price = span_rows(problem), np.ones(12, dtype=np.int64)
    every = small_conflicts(problem, spans, price)
    few = small_conflicts(problem, spans, np.arange(12) % 2, most=6)
    assert few.accesses.tolist() == [1, 3, 5, 7, 9, 11]
    assert (few.triples == every.triples[1::2, 1::2, 1::2]).all()
    for a in few.accesses.tolist():
        for views in ([1, 5], [3], [7, 9, 11]):
            others = [b for b in views if b != a]
            assert few.forbid(a, others) == every.forbid(a, others)


def test_a_path_that_cannot_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on by a second whenever it is looked at: after a few layers the rest is known to take too long."""
    clock = iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    bits = np.stack(random_masks(64, 10, seed=1).reads).T
    weight = np.ones(len(bits), dtype=np.int64)
    for slope in (np.ones(10, dtype=np.int64), np.arange(1, 11)):
        block = block_of(weight, bits, slope)
        assert ChainSubsets(block, deadline=float(next(clock)) + 10**6).complete
        begun = next(clock)
        assert not ChainSubsets(block, deadline=begun + (6.0 if slope[0] == slope[1] else 40.0)).complete
        assert next(clock) < begun + (6 if slope[0] == slope[1] else 40)


def test_levels_bound_large_blocks_if_asked_to_and_rows_are_cut_into_groups() -> None:
    problem = random_masks(64, 14, correlation=0.5, seed=2)
    slope = np.full(14, 64)
    relaxation = relaxation_of(
        problem, slope, lambda: Order.identity(problem), capped=False, deadline=np.inf, levels=True
    )
    assert "levels" in relaxation.method
    many = random_masks(40, 450, keep=0.6, seed=1)
    levels = LevelSpans(many, [0])
    levels.improve(deadline=0.0)
    assert levels.least(0, np.ones(450, dtype=np.int64)) >= 0


def test_frequent_levels_stop_at_the_deadline() -> None:
    bits = np.stack(random_masks(64, 12, seed=1).reads).T
    frequent = FrequentLevels(block_of(np.ones(64, dtype=np.int64), bits))
    before = frequent.most.tolist()
    frequent.improve(deadline=0.0)
    assert frequent.most.tolist() == before


def test_the_steepest_line_below_a_curve_is_exact() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        costs = np.concatenate([[0], np.cumsum(rng.integers(0, [2, 10, 10**12][seed % 3], 30))])
        first, last = sorted(rng.integers(0, 31, 2).tolist())
        line = steepest_line(costs, first, last)
        for e in range(first + 1, last + 1):
            assert costs[first] + line * (e - first) <= costs[e]
        if last > first:
            assert any(costs[first] + line * (e - first) == costs[e] for e in range(first + 1, last + 1))


def test_fractions_with_one_denominator_are_told_apart() -> None:
    costs = np.repeat([0, 10**12 + 1, 2 * 10**12], [1, 7, 7])
    assert steepest_line(costs, 0, 14) == Fraction(10**12, 7)


def test_planted_intervals_of_many_accesses_are_recognised() -> None:
    for objective in ("copies", "span"):
        found = solve(planted_intervals(600, 150, seed=3), objective=objective, time_limit=60)
        assert (found.value, found.status) == (0, Status.OPTIMAL)


@pytest.mark.parametrize("objective", [pytest.param(own, marks=pytest.mark.slow) for own in ("span", "traffic")])
def test_sixteen_accesses_do_not_fall_into_a_hole(objective: str) -> None:
    """Paths over pairs of sets cannot end there; the levels, which come first, leave 2 %."""
    found = solve(random_masks(256, 16, correlation=0.5), objective=objective, time_limit=8)
    assert found.gap is not None and found.gap <= 0.05


def test_methods_that_visit_too_many_pairs_of_sets_are_not_begun() -> None:
    problem = random_masks(256, 15, correlation=0.5)
    size = np.ones(15, dtype=np.int64)
    assert LinearSpans(problem, deadline=time.perf_counter() + 5).unsolvable(size) == [0]
    assert not SubsetSpans(problem, deadline=time.perf_counter() + 5).solvable(size)
    assert LinearSpans(problem).unsolvable(size) == []


@pytest.mark.parametrize("seconds", [2.0, 30.0])
@pytest.mark.parametrize("classes", [12, 16])
def test_many_rows_over_few_classes_are_closed_block_by_block(classes: int, seconds: float) -> None:
    problem = random_masks(classes, 40, keep=0.3, seed=classes)
    result = solve(problem, objective="span", time_limit=seconds)
    truth = solve(problem, solver="placed-sets", objective="span", time_limit=60)
    assert (result.value, result.status) == (truth.value, Status.OPTIMAL)
    assert result.stats["methods"][-1] == "exact-blocks"
