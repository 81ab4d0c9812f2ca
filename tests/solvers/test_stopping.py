"""Proves that a solve can be stopped at any moment and by any rule, and that nothing it reported is lost."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from problems import Problem, evaluate
from problems.checker.proof_checks import Standing, check_proof
from problems.generators import grouped_masks, random_masks, with_tables
from solvers import (
    STATISTICS,
    CpSat,
    Cutoff,
    GapLimit,
    LocalSearch,
    NoImprovement,
    Progress,
    Result,
    SolveInterrupted,
    SolverError,
    Status,
    StopReason,
    TargetValue,
    TimeLimit,
    WorkLimit,
    greedy_order,
    solve,
)
from solvers import (
    Standing as Known,
)
from solvers.common import clock

OPEN = random_masks(60, 13, seed=1)
"""Nothing proves its optimum in the time of a test."""

BELOW_GREEDY = evaluate(OPEN, greedy_order(OPEN), "span").value - 1

SOLVERS = ("auto", "cp-sat", "pair-of-chains", "brute-force", "local-search", "beam", "lns")


def require_sound(result: Result, problem: Problem, objective: str, told: list[Progress]) -> None:
    """The result is valid, and not worse than anything that was reported."""
    assert result.value == evaluate(problem, result.order, objective).value
    assert result.bound is not None and 0 <= result.bound <= result.value
    assert all(result.value <= own.value for own in told)
    assert all(own.bound is None or result.bound >= own.bound for own in told)
    assert (result.status is Status.OPTIMAL) == (result.bound == result.value) == (result.stop_reason == "optimal")
    points = result.trajectory
    assert (points[-1].value, points[-1].bound) == (result.value, result.bound)
    for one, two in pairwise(points):
        assert two.value <= one.value and two.seconds >= one.seconds and (two.bound or 0) >= (one.bound or 0)


@pytest.mark.parametrize("objective", ["span", "copies", "runs", "traffic"])
def test_a_callback_gets_everything_and_stops_when_it_returns_true(objective: str) -> None:
    told: list[Progress] = []

    def enough(news: Progress) -> bool:
        told.append(news)
        return len(told) == 4

    result = solve(OPEN, objective=objective, progress=enough, proof=True, time_limit=1)
    require_sound(result, OPEN, objective, told)
    assert len(told) <= 4 and (result.stop_reason is StopReason.CALLBACK or result.status is Status.OPTIMAL)
    for own in told:
        assert own.order is not None and own.method and own.bound is not None
        assert own.value == evaluate(OPEN, own.order, objective).value
    assert result.proof is not None and result.proof.bound == result.bound
    assert not any(own.standing is Standing.WRONG for own in check_proof(OPEN, result.proof))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (GapLimit(0.8), StopReason.GAP_LIMIT),
        (TargetValue(BELOW_GREEDY), StopReason.TARGET_VALUE),
        (Cutoff(20), StopReason.CUTOFF),
        (NoImprovement(work=1e-9), StopReason.NO_IMPROVEMENT),
        (TimeLimit(1e-6), StopReason.TIME_LIMIT),
        (WorkLimit(1e-3), StopReason.WORK_LIMIT),
        (GapLimit(0.8) & Cutoff(10), StopReason.RULE),
        (lambda standing: standing.value is not None, StopReason.RULE),
        (GapLimit(0.0) | TargetValue(BELOW_GREEDY) | TimeLimit(100), StopReason.TARGET_VALUE),
    ],
)
def test_every_rule_stops_and_the_result_says_which_it_was(rule, reason: StopReason) -> None:
    result = solve(OPEN, objective="span", stop=rule, time_limit=1)
    require_sound(result, OPEN, "span", [])
    assert result.stop_reason is reason
    known = Known(1e9, 1e9, result.value, result.bound, 1e9, 1e9)
    assert rule(known)


@pytest.mark.parametrize("solver", ["cp-sat", pytest.param(CpSat(num_workers=2), marks=pytest.mark.slow)])
@pytest.mark.parametrize("objective", ["span", "runs", "copies"])
def test_cp_sat_alone_stops_at_a_gap_within_one_search(solver, objective: str) -> None:
    problem = random_masks(48, 5, seed=5)
    told: list[Progress] = []
    result = solve(problem, solver=solver, objective=objective, stop=GapLimit(0.7), progress=told.append, time_limit=60)
    require_sound(result, problem, objective, told)
    assert result.gap is not None and result.gap <= 0.7


@pytest.mark.parametrize(
    "make",
    [
        lambda: GapLimit(-0.1),
        lambda: GapLimit(True),
        lambda: TimeLimit(0),
        lambda: WorkLimit(math.nan),
        lambda: NoImprovement(),
        lambda: TargetValue("low"),
        lambda: GapLimit(0.1) | 7,
        lambda: solve(OPEN, stop=7),
        lambda: solve(OPEN, workers=0),
        lambda: solve(OPEN, lower_bound=1.5),
        lambda: solve(OPEN, log="yes"),
        lambda: solve(OPEN, resume=3),
    ],
)
def test_odd_rules_are_one_sentence(make) -> None:
    with pytest.raises(SolverError, match="give "):
        make()


class _StopsReading(clock.Clock):
    """Ctrl-C at the n-th reading of the clock: at a moment in the middle of some method."""

    left = 0

    def read(self, work: float) -> float:
        type(self).left -= 1
        if type(self).left == 0:
            raise KeyboardInterrupt
        return super().read(work)


def moments(count: int, seed: int) -> Iterator[int]:
    """Random numbers of readings, small ones and large ones alike."""
    yield from np.exp(np.random.default_rng(seed).uniform(0, math.log(3000), count)).astype(int).tolist()


CASES = [("auto", "span"), ("auto", "runs"), ("auto", "copies"), ("cp-sat", "traffic"), ("lns", "span")]


@pytest.mark.parametrize(
    ("solver", "objective"), [CASES[0], *(pytest.param(*own, marks=pytest.mark.slow) for own in CASES[1:])]
)
def test_interrupted_at_fifty_random_moments_the_result_is_never_worse_than_the_last_one_reported(
    monkeypatch: pytest.MonkeyPatch, solver: str, objective: str
) -> None:
    """Ten moments for each of five solvers. The moments are readings of the clock, so that a failure comes again."""
    monkeypatch.setattr("solvers.common.watch.Clock", _StopsReading)
    problem = random_masks(48, 14, seed=8)
    interrupted = 0
    for moment in moments(10, seed=len(solver + objective)):
        _StopsReading.left = moment
        told: list[Progress] = []
        try:
            result = solve(problem, solver=solver, objective=objective, progress=told.append, time_limit=0.15)
        except SolveInterrupted as stopped:
            interrupted += 1
            result = stopped.result
            assert result.stop_reason in (StopReason.INTERRUPTED, StopReason.OPTIMAL)
        require_sound(result, problem, objective, told)
    assert interrupted >= 3


def test_ctrl_c_in_a_search_of_cp_sat_leaves_a_result_with_a_proof() -> None:
    """A real signal, while the main thread waits for CP-SAT."""
    told: list[Progress] = []

    def interrupt_once_it_searches(news: Progress) -> None:
        told.append(news)
        if len(told) == 3:
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(SolveInterrupted) as caught:
        solve(OPEN, solver="cp-sat", objective="span", progress=interrupt_once_it_searches, proof=True, time_limit=60)
    require_sound(caught.value.result, OPEN, "span", told)
    assert caught.value.result.proof is not None


@pytest.mark.parametrize(("solver", "most"), [("auto", 3), ("cp-sat", 3), ("lns", 1)])
def test_an_exception_in_the_callback_brings_the_result_along(solver: str, most: int) -> None:
    told: list[Progress] = []

    def fail(news: Progress) -> None:
        told.append(news)
        if len(told) == most:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        solve(OPEN, solver=solver, objective="span", progress=fail, time_limit=1)
    require_sound(caught.value.result, OPEN, "span", told)
    assert "the best so far" in caught.value.__notes__[0]


def test_an_exception_in_a_rule_brings_the_result_along() -> None:
    with pytest.raises(TypeError) as caught:
        solve(OPEN, objective="span", stop=lambda standing: standing.gap + "x")
    require_sound(caught.value.result, OPEN, "span", [])


QUICK = [("auto", "span"), ("auto", "runs"), ("local-search", "copies")]
ALL = [(solver, goal) for solver in SOLVERS for goal in ("span", "copies", "runs", "latency")]


@pytest.mark.parametrize(
    ("solver", "objective"),
    [pytest.param(*own, marks=[] if own in QUICK else pytest.mark.slow) for own in ALL],
)
def test_the_same_seed_and_work_limit_give_the_same_result(solver: str, objective: str) -> None:
    problem = with_tables(random_masks(40, 13, seed=2)) if objective == "latency" else random_masks(40, 13, seed=2)
    results = []
    for _ in range(2):
        try:
            results.append(
                solve(problem, solver=solver, objective=objective, stop=WorkLimit(0.03), time_limit=60, seed=7)
            )
        except SolverError as error:
            assert solver in str(error)  # no solver for this objective
            return
    one, two = results
    assert one.order == two.order and one.bound == two.bound and one.stats == two.stats
    strip = [[(own.value, own.bound, own.method) for own in result.trajectory] for result in results]
    assert strip[0] == strip[1] and one.stop_reason is two.stop_reason is not StopReason.TIME_LIMIT


@pytest.mark.slow
def test_workers_share_a_work_limit_reproducibly() -> None:
    problem = random_masks(64, 7, seed=5)
    one, two = (
        solve(problem, solver="cp-sat", objective="span", stop=WorkLimit(0.3), time_limit=60, workers=3)
        for _ in range(2)
    )
    assert (one.order, one.bound, one.stats) == (two.order, two.bound, two.stats)


def test_more_work_is_never_worse() -> None:
    values = [
        solve(OPEN, objective="span", stop=WorkLimit(work), time_limit=60, seed=1).value for work in (1e-3, 5e-3, 3e-2)
    ]
    assert values == sorted(values, reverse=True)


def test_workers_reach_the_programs_of_auto_and_cp_sat() -> None:
    from solvers.dispatch import _with_workers
    from solvers.registry import solver_named

    assert _with_workers(solver_named("cp-sat"), 3) == CpSat(num_workers=3)
    assert _with_workers(solver_named("auto"), 3).cp_sat == CpSat(num_workers=3)
    assert _with_workers(solver_named("beam"), 3) == solver_named("beam")


def test_parts_and_bundles_report_bounds_and_orders_while_they_are_solved() -> None:
    problem = grouped_masks(4, 24, 6, whole=0, seed=4)
    told: list[Progress] = []
    for solver in ("auto", "local-search"):
        told.clear()
        result = solve(problem, solver=solver, objective="span", progress=told.append, time_limit=0.3)
        require_sound(result, problem, "span", told)


@pytest.mark.parametrize("solver", [*SOLVERS, "greedy", "identity"])
@pytest.mark.slow
def test_every_figure_of_a_result_has_a_documented_name(solver: str) -> None:
    problems = [random_masks(24, 5), grouped_masks(3, 8, 3, whole=0), random_masks(60, 14, seed=1)]
    for problem in problems:
        for objective in ("span", "copies", "runs"):
            try:
                result = solve(problem, solver=solver, objective=objective, time_limit=0.1)
            except SolverError:
                continue
            assert set(result.stats) <= set(STATISTICS)


def test_a_search_that_ends_by_itself_says_so() -> None:
    result = solve(OPEN, solver=LocalSearch(patience=1), objective="span", time_limit=60)
    assert result.stop_reason is StopReason.FINISHED
    assert solve(OPEN, objective="span", time_limit=0.01).stop_reason is StopReason.TIME_LIMIT
