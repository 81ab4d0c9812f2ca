"""Proves the manners of cp-sat: never worse than greedy, honest when cut off, reproducible, interruptible."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import pairwise

import pytest
from solver_instances import ALL_OBJECTIVES, several_blocks

from problems import Objective, evaluate
from problems.generators import random_concat, random_masks
from solvers import CpSat, Progress, Status, greedy_order, solve
from solvers.runs.assignment import assigned_runs

LARGE = random_masks(1024, 24, correlation=0.3)


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_cut_off_at_once_it_returns_greedy_with_a_valid_bound(objective: Objective) -> None:
    greedy = greedy_order(LARGE)
    result = solve(LARGE, objective=objective, time_limit=0.01)
    if result.value == evaluate(LARGE, greedy, objective).value and result.status is Status.FEASIBLE:
        assert result.order == greedy
    assert result.bound is not None
    assert 0 <= result.bound <= result.value <= evaluate(LARGE, greedy, objective).value
    assert solve(LARGE, objective=objective, time_limit=1e-9).order == greedy


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_it_is_never_worse_than_greedy_nor_than_the_hint(objective: Objective) -> None:
    problems = [random_masks(128, 6, seed=1), random_concat(5, 24, 9, seed=2, pinned=0.2), several_blocks(3)]
    for problem in problems:
        config = CpSat(max_deterministic_time=0.05)
        result = solve(problem, solver=config, objective=objective)
        assert result.value <= evaluate(problem, greedy_order(problem), objective).value
        again = solve(problem, solver=CpSat(max_deterministic_time=1e-6), objective=objective, hint=result.order)
        assert again.value <= result.value


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=lambda o: o.name)
def test_the_same_seed_gives_the_same_order(objective: Objective) -> None:
    problem = random_masks(96, 6, seed=5)
    config = CpSat(max_deterministic_time=0.3)
    one, two = (solve(problem, solver=config, objective=objective, seed=7, time_limit=600) for _ in range(2))
    assert one.order == two.order
    assert (one.value, one.bound) == (two.value, two.bound)


@pytest.mark.parametrize("objective", ["span", "runs", "traffic"])
def test_progress_tells_improving_values_and_valid_bounds(objective: str) -> None:
    problem = random_masks(64, 4, seed=2)
    seen: list[Progress] = []
    result = solve(problem, objective=objective, progress=seen.append)
    assert seen and result.status is Status.OPTIMAL
    assert seen[-1].value == result.value
    for earlier, later in pairwise(seen):
        assert later.value <= earlier.value and later.seconds >= earlier.seconds
    assert all(report.bound is not None and report.bound <= result.value for report in seen)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_exceptions_of_the_progress_callback_pass_through(error: type[BaseException]) -> None:
    def stop(_: Progress) -> None:
        raise error

    with pytest.raises(error):
        solve(random_masks(64, 5, seed=2), objective="span", progress=stop)


def test_ctrl_c_stops_the_search_and_passes_through() -> None:
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        solve(random_masks(1024, 8), solver=CpSat(), objective="span", time_limit=120)
    timer.join()
    time.sleep(0.2)
    assert not [thread for thread in threading.enumerate() if thread.name == "cp-sat"]


@pytest.mark.parametrize("seed", range(8))
def test_bounds_from_assignments_are_valid(seed: int) -> None:
    for problem in (random_masks(32, 4, seed=seed), random_concat(3, 6, 5, seed=seed, pinned=0.2)):
        truth = solve(problem, solver="placed-sets", objective="runs", time_limit=60)
        assert truth.status is Status.OPTIMAL
        bound, order = assigned_runs(problem)
        assert bound <= truth.value <= evaluate(problem, order, "runs").value


def test_several_workers_close_it_too() -> None:
    result = solve(random_masks(64, 4), solver=CpSat(num_workers=2), objective="span", time_limit=60)
    assert result.status is Status.OPTIMAL
