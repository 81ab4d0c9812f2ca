"""Proves the independent formulations right: they agree with brute force and with placed sets wherever these can go."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from oracles import CpSatDirect, CpSatEvents, Milp
from solver_instances import ALL_OBJECTIVES, one_block, several_blocks

from problems import OBJECTIVES, Access, Block, CostTable, Curve, Objective, Problem
from problems.generators import random_concat, random_masks, with_tables
from solvers import CpSat, Result, Solver, SolverError, Status, solve
from solvers.methods.brute_force import num_arrangements
from solvers.programs.read_modes import MAX_COST, read_modes, small_modes

LATENCY = OBJECTIVES["latency"]
SOLVERS = ["cp-sat", "cp-sat-events", "cp-sat-direct", "milp"]
COUNTING_RUNS = ["cp-sat", "cp-sat-direct"]
ON_CLASSES: dict[str, Solver] = {"milp": Milp(max_single_channels=0)}
MAX_ARRANGEMENTS = 3000


def uneven_tables(problem: Problem, seed: int, *, pieces: bool = False) -> Problem:
    """Cost tables with a grid point every channel or two, flat here and steep there; copies for most accesses."""
    rng = np.random.default_rng([3, seed])
    accesses = []
    for access in problem.accesses:
        width = sum(len(problem.stored[b]) for b in access.blocks)
        points = np.unique([1, *range(1, width, int(rng.integers(1, 3))), width])
        steps = rng.integers(0, 9, len(points)) * rng.integers(0, 2, len(points))
        costs = np.cumsum(steps) + int(rng.integers(0, 20))
        rise = int(costs[-1] - costs[0])
        joined = np.sort(rng.integers(0, rise + 1, 2)).tolist()
        table = CostTable(
            Curve(points, costs),
            copy=int(rng.integers(0, rise + 2)) if rng.random() < 0.7 else None,
            pieces=Curve((2, 4), joined) if pieces and rng.random() < 0.7 else None,
        )
        accesses.append(dataclasses.replace(access, table=table))
    return Problem(problem.blocks, tuple(accesses), problem.name)


def variants(seed: int, *, objectives: list[Objective]) -> list[tuple[Problem, Objective]]:
    """One block and several, with every objective and every kind of table; small enough for brute force."""
    cases: list[tuple[Problem, Objective]] = []
    for problem in (one_block(seed), several_blocks(seed)):
        if num_arrangements(problem) > MAX_ARRANGEMENTS:
            continue
        tables = [
            with_tables(problem, seed=seed),
            with_tables(problem, concave=False, seed=seed),
            uneven_tables(problem, seed),
            uneven_tables(problem, seed, pieces=True),
        ]
        cases += [(problem, objective) for objective in objectives]
        cases += [(own, LATENCY) for own in tables]
    return cases


def check(result: Result, truth: int) -> None:
    """A result that contradicts no known optimum."""
    assert result.bound is not None
    assert result.bound <= truth <= result.value, result
    assert result.status is Status.FEASIBLE or result.value == truth


def offered(name: str, objective: Objective) -> bool:
    return not objective.counts_runs or name in COUNTING_RUNS


def joins_pieces(problem: Problem, objective: Objective) -> bool:
    tables = [access.table for access in problem.accesses]
    return objective.uses_tables and any(table is not None and table.pieces is not None for table in tables)


def agree(seed: int, names: list[str]) -> int:
    """All formulations prove the optimum of every variant, save those that do not count pieces; returns the number."""
    num = 0
    for (problem, objective), name in itertools.product(variants(seed, objectives=ALL_OBJECTIVES), names):
        if not offered(name, objective):
            continue
        truth = solve(problem, solver="brute-force", objective=objective)
        assert truth.status is Status.OPTIMAL
        result = solve(problem, solver=name, objective=objective, time_limit=120)
        check(result, truth.value)
        if name == "cp-sat-direct" or not joins_pieces(problem, objective):
            assert result.status is Status.OPTIMAL
        num += 1
    return num


@pytest.mark.parametrize("name", SOLVERS)
def test_they_agree_with_brute_force(name: str) -> None:
    assert sum(agree(seed, [name]) for seed in range(20)) >= 250


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 11_000, 100))
def test_they_agree_with_brute_force_on_thousands_more(first: int) -> None:
    assert sum(agree(seed, SOLVERS) for seed in range(first, first + 100)) >= 5000


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("objective", [o for o in ALL_OBJECTIVES if o.name != "mixed"], ids=lambda o: o.name)
def test_they_agree_with_placed_sets_on_larger_instances(name: str, objective: Objective) -> None:
    if not offered(name, objective):
        return
    problems = [
        random_masks(32, 3, seed=1, correlation=0.3),
        random_concat(3, 4, 4, seed=2, pinned=0.3),
        random_concat(4, 3, 4, seed=3),
        one_block(4, max_channels=12, max_accesses=4),
    ]
    for problem in problems:
        truth = solve(problem, solver="placed-sets", objective=objective, time_limit=60)
        result = solve(problem, solver=name, objective=objective, time_limit=120)
        assert (result.status, result.value) == (truth.status, truth.value)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_block_read_twice_may_be_pinned_or_not_removable(name: str) -> None:
    rng = np.random.default_rng(5)
    for seed, (pinned, removable) in enumerate(itertools.product((False, True), repeat=2)):
        block = Block("x", 4, pinned=pinned, removable=removable)
        kept = rng.random((3, 8)) < 0.5
        kept[:, 0] = True
        twice = Problem((block,), tuple(Access(f"a{i}", (0, 0), row) for i, row in enumerate(kept)))
        for problem in (uneven_tables(twice, seed), uneven_tables(twice, seed, pieces=True)):
            for objective in (*ALL_OBJECTIVES, LATENCY):
                if offered(name, objective):
                    truth = solve(problem, solver="brute-force", objective=objective).value
                    check(solve(problem, solver=name, objective=objective, time_limit=60), truth)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_concave_cost_below_gives_a_bound_where_single_channels_are_too_many(name: str, monkeypatch) -> None:
    import solvers.programs.formulation as formulation

    monkeypatch.setattr(formulation.formulations, "__kwdefaults__", {"max_single_channels": 0})
    seen = 0
    for seed in range(60):
        for pieces in (False, True):
            problem = uneven_tables(one_block(seed) if seed % 2 else several_blocks(seed), seed, pieces=pieces)
            if num_arrangements(problem) > MAX_ARRANGEMENTS:
                continue
            truth = solve(problem, solver="brute-force", objective=LATENCY).value
            result = solve(problem, solver=ON_CLASSES.get(name, name), objective=LATENCY, time_limit=60)
            check(result, truth)
            seen += result.stats.get("minorant", 0)
    assert seen >= 10


@pytest.mark.parametrize("seed", range(4))
def test_large_costs_in_fine_ticks_leave_bounds_valid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    accesses = []
    for access in random_masks(20, 3, seed=seed).accesses:
        steps = rng.integers(0, 100_000, 4)
        curve = Curve((1, 8, 13, 17, 20), 10**6 + np.cumsum([0, *(np.sort(steps)[::-1] if seed % 2 else steps)]))
        accesses.append(dataclasses.replace(access, table=CostTable(curve, copy=int(steps.max()))))
    problem = Problem((Block("x", 20),), tuple(accesses))
    results = [solve(problem, solver=name, objective=LATENCY, time_limit=120) for name in SOLVERS]
    exact = [result for result in results if result.solver != "milp"]
    assert problem.ticks > 100
    assert {(result.value, result.status) for result in exact} == {(exact[0].value, Status.OPTIMAL)}
    for result in results:
        check(result, exact[0].value)
        assert result.gap is not None and result.gap < 1e-5


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("time_limit", [1e-9, 0.02, 0.2])
def test_cut_off_they_return_no_worse_than_greedy_and_a_bound_below_the_optimum(name: str, time_limit: float) -> None:
    problem = random_masks(64, 4, seed=2)
    concat = random_concat(3, 6, 5, seed=1, pinned=0.2)
    for objective in (*ALL_OBJECTIVES, LATENCY):
        for base in (problem, concat):
            if not offered(name, objective):
                continue
            own = with_tables(base, seed=3) if objective.uses_tables else base
            exact = "cp-sat" if objective.uses_tables else "placed-sets"
            truth = solve(own, solver=exact, objective=objective, time_limit=120)
            assert truth.status is Status.OPTIMAL
            result = solve(own, solver=name, objective=objective, time_limit=time_limit)
            check(result, truth.value)
            assert result.value <= solve(own, solver="greedy", objective=objective).value


@pytest.mark.parametrize("name", ["cp-sat-events", "milp"])
def test_those_that_cannot_count_runs_say_so(name: str) -> None:
    with pytest.raises(SolverError, match=r"counts runs.*cp-sat-direct"):
        solve(random_masks(8, 2), solver=name, objective="runs")


def test_a_program_of_pairs_refuses_too_many_classes() -> None:
    with pytest.raises(SolverError, match=r"classes.*max_units"):
        solve(random_masks(1024, 8), solver="milp", objective="span")


@pytest.mark.parametrize("solver", [CpSat, CpSatEvents, CpSatDirect], ids=lambda s: s.name)
def test_the_same_seed_gives_the_same_order(solver: type[CpSat | CpSatEvents | CpSatDirect]) -> None:
    problem = with_tables(random_masks(48, 4, seed=5), concave=False, seed=5)
    config = solver(max_deterministic_time=0.2)
    one, two = (solve(problem, solver=config, objective=LATENCY, seed=7, time_limit=600) for _ in range(2))
    assert one.order == two.order
    assert (one.value, one.bound) == (two.value, two.bound)


def steep(seed: int, factor: int, *, uneven: bool) -> Problem:
    """Four accesses whose tables rise by up to seven times `factor` a channel; uneven ones have no common factor."""
    rng = np.random.default_rng([91, seed])
    kept = rng.random((4, 7)) < 0.5
    kept[np.arange(4), rng.integers(7, size=4)] = True
    accesses = []
    for a, own in enumerate(kept):
        steps = rng.integers(0, 8, 7 - own.sum()) * factor + (rng.integers(0, 1000, 7 - own.sum()) if uneven else 0)
        read = Curve(range(int(own.sum()), 8), 7 + np.concatenate([[0], np.cumsum(steps)]))
        accesses.append(Access(f"a{a}", (0,), own, table=CostTable(read)))
    return Problem((Block("x", 7, removable=False),), tuple(accesses), f"steep-{seed}")


@pytest.mark.parametrize("seed", range(12))
def test_costs_whose_products_do_not_fit_64_bits_are_brought_down(seed: int) -> None:
    """CP-SAT 9.15 calls wrong optima OPTIMAL from costs of some 10^10 on."""
    even, uneven = (steep(seed, 2 * 10**9, uneven=own) for own in (False, True))
    for name in ("cp-sat-direct", "cp-sat-events", "cp-sat"):
        truth = solve(even, solver="brute-force", objective=LATENCY).value
        found = solve(even, solver=name, objective=LATENCY, time_limit=60)
        assert found.value == found.bound == truth, name
        truth = solve(uneven, solver="brute-force", objective=LATENCY).value
        found = solve(uneven, solver=name, objective=LATENCY, time_limit=60)
        assert found.bound is not None and found.gap is not None
        assert found.bound <= truth <= found.value and found.gap < 1e-6, name


def test_rounded_costs_stay_below_the_true_ones() -> None:
    for seed in range(20):
        modes = read_modes(steep(seed, 10**10, uneven=True), LATENCY)
        small = small_modes(modes, known=10**15)
        assert small.unit > 1 and not small.exact
        for own, base, true in zip(small.modes, small.bases, modes):
            back = base + small.unit * own.over_read
            assert (back <= true.over_read).all() and (np.diff(own.over_read) >= 0).all()
            assert (true.over_read - back <= small.unit * (1 + np.arange(len(back)))).all()
            assert own.largest <= MAX_COST
