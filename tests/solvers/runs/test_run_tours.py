"""Proves branch and cut for runs against exact methods, and that its bounds hold at every moment and node."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest
from solver_instances import one_block, several_blocks

from problems import Order, Problem, evaluate, objective_named
from problems.generators import random_concat, random_masks
from solvers import Status, solve
from solvers.common.incumbent import Incumbent
from solvers.common.task import Task
from solvers.runs import run_tours
from solvers.runs.run_tours import RunTours, solve_run_tours
from solvers.runs.tour_cuts import Cut, violated_cuts
from solvers.runs.tour_graph import RunGraph
from solvers.runs.tour_prices import SCALE, Choices, Prices, certified
from solvers.runs.tour_program import TourProgram

RUNS = objective_named("runs")


def _task(problem: Problem, seconds: float = np.inf) -> Task:
    now = time.perf_counter()
    return Task(problem, RUNS, Order.identity(problem), now, now + seconds)


def _instance(seed: int) -> Problem:
    makers = (
        lambda: one_block(seed, max_channels=9, max_accesses=8),
        lambda: several_blocks(seed),
        lambda: random_concat(3, 6, 5, seed=seed, pinned=0.2),
        lambda: random_masks(9, 7, seed=seed),
    )
    return makers[seed % len(makers)]()


def _check(seed: int) -> None:
    problem = _instance(seed)
    truth = solve(problem, solver="placed-sets", objective="runs").value
    incumbent = Incumbent(_task(problem))
    tours = RunTours(_task(problem), incumbent)
    for step in (tours.root, tours.dive, tours.branch):
        step()
        assert incumbent.bound <= truth <= incumbent.value
    assert incumbent.bound == incumbent.value


@pytest.mark.parametrize("seed", range(200))
def test_it_closes_small_instances_at_the_optimum_of_placed_sets(seed: int) -> None:
    _check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 4000, 100))
def test_it_closes_thousands_of_small_instances(first: int, weak: None) -> None:
    for seed in range(first + 200, first + 300):
        _check(seed)


@pytest.fixture(params=[False, True], ids=["", "weak"])
def weak(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a single cut and round a node, and only whole points as orders, there is much to branch on."""
    if request.param:
        monkeypatch.setattr(run_tours, "_MOST_CUTS", 1)
        monkeypatch.setattr(run_tours, "_NODE_ROUNDS", 1)
        monkeypatch.setattr(run_tours, "_STALLED", 1)
        offer = RunTours._offer_rounded
        monkeypatch.setattr(RunTours, "_offer_rounded", lambda self, r: offer(self, r) if r.whole else None)


@pytest.mark.parametrize("seed", range(100, 160))
def test_branching_is_exact_with_hardly_any_cuts(seed: int, weak: None) -> None:
    _check(seed)


@pytest.mark.parametrize("seed", range(12))
def test_brute_force_agrees(seed: int) -> None:
    problem = several_blocks(seed, max_channels=4)
    truth = solve(problem, solver="brute-force", objective="runs")
    incumbent = Incumbent(_task(problem))
    solve_run_tours(_task(problem), incumbent)
    assert (incumbent.bound, incumbent.value) == (truth.value, truth.value)


@pytest.mark.parametrize("seed", range(60))
def test_lengths_in_the_graph_are_twice_the_runs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = _instance(seed)
    graph = RunGraph.of(problem)
    for _ in range(5):
        sequences = [rng.permutation(own.num_classes) for own in graph.blocks]
        assert graph.changes(sequences) == 2 * evaluate(problem, graph.order(sequences), RUNS).value


@pytest.mark.parametrize("seed", range(40))
def test_any_prices_whatever_prove_a_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = _instance(seed)
    truth = 2 * solve(problem, solver="placed-sets", objective="runs").value
    graph = RunGraph.of(problem)
    program = TourProgram(graph)
    program.offer_paths([np.arange(own.num_classes) for own in graph.blocks])
    for i, own in enumerate(graph.blocks):
        u, v = np.nonzero(np.triu(np.ones_like(own.far), 1))
        inner = (u < own.num_classes) | (v < own.num_classes)
        u, v = u[inner], v[inner]
        program.add(violated_cuts(i, own.num_classes, own.num_ends, u, v, rng.random(len(u)) * 0.3, most=9))
    for _ in range(20):
        prices = Prices(
            tuple(rng.integers(-2 * SCALE, 3 * SCALE, len(own.far)) for own in graph.blocks),
            tuple(rng.integers(-SCALE, SCALE, link.far.shape[0]) for link in graph.links),
            tuple(rng.integers(-SCALE, SCALE, link.far.shape[1]) for link in graph.links),
            rng.integers(0, SCALE, len(program.cuts)),
        )
        assert certified(graph, program.cuts, prices, Choices.of(graph)).bound <= truth * SCALE


@pytest.mark.parametrize("seed", range(20))
def test_every_tour_meets_every_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num = 6
    u, v = np.nonzero(np.triu(np.ones((num + 1, num + 1)), 1))
    cuts: list[Cut] = []
    for _ in range(20):
        x = rng.choice([0, 0, 0, 0.5, 0.5, 1], len(u))
        cuts += violated_cuts(0, num, 1, u, v, x, most=99)
        assert all(cut.coefficients(u, v) @ x < cut.rhs for cut in violated_cuts(0, num, 1, u, v, x, most=99))
    assert any(len(cut.teeth) for cut in cuts) and any(not len(cut.teeth) for cut in cuts)
    for path in itertools.permutations(range(num)):
        ring = np.array([num, *path])
        used = np.zeros((num + 1, num + 1), dtype=bool)
        used[ring, np.roll(ring, 1)] = used[np.roll(ring, 1), ring] = True
        for cut in cuts:
            assert cut.coefficients(u, v) @ used[u, v] >= cut.rhs


@pytest.mark.parametrize("seed", range(40))
def test_circuits_are_exact(seed: int) -> None:
    problem = _instance(seed)
    truth = solve(problem, solver="placed-sets", objective="runs").value
    found = solve(problem, solver="cp-sat-direct", objective="runs", time_limit=60)
    assert (found.value, found.status) == (truth, Status.OPTIMAL)


@pytest.mark.parametrize("programs", [0, 1, 2, 5])
def test_cut_short_it_is_valid_and_reproducible(programs: int) -> None:
    problem = random_concat(4, 16, 8, seed=programs)
    truth = solve(problem, objective="runs", time_limit=60)
    assert truth.status is Status.OPTIMAL
    found = []
    for _ in range(2):
        incumbent = Incumbent(_task(problem))
        solve_run_tours(_task(problem), incumbent, most_programs=programs)
        assert incumbent.bound <= truth.value <= incumbent.value
        found.append((incumbent.order, incumbent.value, incumbent.bound))
    assert found[0] == found[1]


def test_ctrl_c_passes_through() -> None:
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        solve(random_masks(1024, 24, correlation=0.3), objective="runs", time_limit=120)
    timer.join()


@pytest.mark.parametrize("seconds", [1e-9, 0.01, 0.05, 0.2])
def test_bounds_are_valid_whenever_time_runs_out(seconds: float) -> None:
    problem = random_masks(64, 9, seed=1)
    result = solve(problem, objective="runs", time_limit=seconds)
    assert result.bound is not None and result.bound <= 46 <= result.value


@pytest.mark.parametrize("seed", range(3))
def test_instances_of_up_to_64_classes_are_closed(seed: int) -> None:
    for problem in (random_masks(32, 32, seed=seed), random_masks(64, 9, seed=seed)):
        result = solve(problem, objective="runs", time_limit=60, proof=True)
        assert result.status is Status.OPTIMAL
        assert result.proof is not None and result.proof.bound == result.value
