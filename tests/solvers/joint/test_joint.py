"""Proves that the methods for joint problems agree with enumeration, and keep what they promise however they end."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import numpy as np
import pytest
from ortools.sat.python import cp_model

from benchmarks.agreement.joint_checks import check_joint_seed
from benchmarks.agreement.joint_instances import random_joint_problem
from problems import JointChoice, JointClaim, JointProblem, check_joint_certificate, evaluate_joint, evaluate_windows
from problems.checker.joint_checks import check_joint_solution
from problems.checker.proof_checks import Standing
from problems.generators import random_masks
from problems.joint.enumeration import best_of_all
from problems.joint.streams import joint_of_windows, windows_of
from problems.windows.generators import random_windows
from solvers import (
    GapLimit,
    JointInterrupted,
    SolverError,
    Status,
    StopReason,
    TimeLimit,
    WorkLimit,
    choose_jointly,
    choose_windows,
    joint_bound,
    solve,
)
from solvers.joint.gate import joint_result_of
from solvers.joint.kept_sets import AccessLine
from solvers.joint.program import JointModel
from solvers.joint.run import _first


def correlated(accesses: int, channels: int, seed: int = 0, **settings) -> JointProblem:
    rng = np.random.default_rng(seed)
    scores = np.exp(rng.standard_normal(channels) + rng.standard_normal((accesses, channels)))
    return JointProblem.from_importance(scores, widths=channels // 2, **settings)


@pytest.mark.parametrize("seed", range(12))
def test_all_methods_agree_with_the_enumeration(seed):
    assert not check_joint_seed(10**6 + seed).contradictions


@pytest.mark.slow
@pytest.mark.parametrize("first", range(2 * 10**6, 2 * 10**6 + 3000, 250))
def test_all_methods_agree_with_the_enumeration_on_thousands(first):
    for seed in range(first, first + 250):
        assert not check_joint_seed(seed).contradictions, seed


@pytest.mark.parametrize("seed", range(10))
def test_hints_are_solutions_of_the_program_with_the_value_of_the_choice(seed):
    problem = random_joint_problem(seed)
    for choice in (best_of_all(problem), _first(problem)):
        solver = cp_model.CpSolver()
        solver.parameters.catch_sigint_signal = False  # else Ctrl-C ends this process from now on
        solver.parameters.num_workers = 1
        solver.parameters.fix_variables_to_their_hinted_value = True
        assert solver.solve(JointModel(problem, math.inf, choice).model) == cp_model.OPTIMAL
        assert round(solver.objective_value) == evaluate_joint(problem, choice).value


def test_windows_that_keep_most_importance():
    """Three accesses want the three pairs of three channels: one of them must take the channel it wants least."""
    problem = JointProblem.from_importance([[5, 4, 1], [1, 5, 4], [4, 1, 5]], widths=2, units=10)
    result = choose_jointly(problem)
    assert (result.status, result.totals.cost, result.totals.loss) == (Status.OPTIMAL, 0, 6)
    assert solve(result.ordering, objective="copies").value == 0
    assert choose_jointly(problem, "sequential").totals.cost == 2


@pytest.mark.parametrize("objective", ["copies", "traffic"])
def test_fixed_sets_give_the_optimum_of_the_ordering_problem(objective):
    ordering = random_masks(9, 3, seed=3)
    problem = JointProblem.from_problem(ordering, objective=objective)
    result = choose_jointly(problem)
    assert result.status is Status.OPTIMAL
    assert result.totals.cost == solve(ordering, objective=objective).value


def test_more_freedom_is_never_dearer():
    ordering = random_masks(8, 3, seed=1)
    scores = np.random.default_rng(0).integers(0, 20, (3, 8)) + 20 * np.array([own.kept for own in ordering.accesses])
    values = [
        choose_jointly(JointProblem.from_problem(ordering, list(scores), share=share, cost_price=10)).value
        for share in (1.0, 0.9, 0.5)
    ]
    assert values == sorted(values, reverse=True)


def test_the_relaxation_beats_free_sets_and_its_certificate_holds():
    problem = correlated(4, 12)
    certificate = joint_bound(problem, time_limit=2)
    assert problem.free_sets_bound < certificate.bound == check_joint_certificate(problem, certificate)
    result = choose_jointly(problem, time_limit=20)
    assert certificate.bound <= result.value


def test_the_best_set_along_a_line_is_the_best_of_all():
    rng = np.random.default_rng(1)
    for seed in range(40):
        problem = random_joint_problem(seed)
        for a, access in enumerate(problem.accesses):
            if access.required is not None and access.width is not None:
                continue  # there the best is not promised
            size = len(access.importance)
            positions, stored = rng.permutation(size), rng.random(size) < 0.5
            line = AccessLine.of(problem, a, positions, stored)
            masks = (np.arange(1, 2**size)[:, np.newaxis] >> np.arange(size) & 1).astype(bool)
            allowed = [own for own in masks if access.accepts_values(own, line.importance)]
            start = allowed[int(rng.integers(len(allowed)))]
            best = line.best(start)
            assert access.accepts_values(best, line.importance) and line.cost(best) <= line.cost(start)
            if access.required is None:
                assert line.cost(best) == min(line.cost(own) for own in allowed), (seed, a)


def test_a_hint_is_never_lost_and_progress_only_improves():
    problem = correlated(5, 16)
    start = choose_jointly(problem, "local-search", time_limit=0.3)
    heard = []
    result = choose_jointly(problem, "cp-sat", hint=start.choice, time_limit=0.5, progress=heard.append)
    assert result.value <= start.value and heard[-1].value >= result.value
    values, bounds = [own.value for own in heard], [own.bound for own in heard]
    assert values == sorted(values, reverse=True) and bounds == sorted(bounds)
    assert (result.trajectory[-1].value, result.trajectory[-1].bound) == (result.value, result.bound)
    assert Standing.WRONG not in {own.standing for own in check_joint_solution(problem, result.solution)}


def test_a_search_ends_as_it_is_told_and_keeps_what_it_has():
    problem = correlated(5, 24)
    stopped = choose_jointly(problem, progress=lambda told: told.method == "local search")
    assert stopped.stop_reason is StopReason.CALLBACK and stopped.value >= stopped.bound
    assert choose_jointly(problem, stop=GapLimit(0.99)).stop_reason is StopReason.GAP_LIMIT
    assert choose_jointly(problem, "local-search", stop=TimeLimit(0.05)).stop_reason is StopReason.TIME_LIMIT

    def fail(told):
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more") as failed:
        choose_jointly(problem, progress=fail)
    assert failed.value.result.stop_reason is StopReason.INTERRUPTED

    def interrupt(told):
        raise KeyboardInterrupt

    with pytest.raises(JointInterrupted) as interrupted:
        choose_jointly(problem, progress=interrupt)
    assert interrupted.value.result.value >= interrupted.value.result.bound


def test_the_same_seed_gives_the_same_result():
    problem = correlated(3, 8)
    first, second = (choose_jointly(problem, "local-search", seed=4, time_limit=60) for _ in range(2))
    assert first.choice == second.choice and first.stats == second.stats


def test_the_gate_refuses_what_is_not_true():
    problem = correlated(3, 6)
    choice = _first(problem)
    value = evaluate_joint(problem, choice).value
    claims = [JointClaim("trivial", problem.free_sets_bound)]
    settings = {"method": "liar", "seconds": 0.0}
    assert joint_result_of(problem, choice, claims=claims, value=value, **settings).value == value
    with pytest.raises(SolverError, match="claims the value"):
        joint_result_of(problem, choice, claims=claims, value=value - 1, **settings)
    with pytest.raises(SolverError, match="claims that no choice is below"):
        joint_result_of(problem, choice, claims=[JointClaim("search", value + 1)], **settings)
    with pytest.raises(SolverError, match="no valid choice"):
        joint_result_of(problem, JointChoice([[0]], choice.kept), claims=claims, **settings)


def test_bad_arguments_are_one_sentence():
    problem = correlated(2, 4)
    for words, call in {
        "there is no method": lambda: choose_jointly(problem, "greedy"),
        "give a problems.JointProblem": lambda: choose_jointly(random_masks(4, 2)),
        "time_limit is": lambda: choose_jointly(problem, time_limit=0),
        "do not count work": lambda: choose_jointly(problem, stop=WorkLimit(1)),
        "hint: ": lambda: choose_jointly(problem, hint=JointChoice([[0]], [[1]])),
        "use 'auto'": lambda: choose_jointly(correlated(2, 20), "brute-force"),
    }.items():
        with pytest.raises(SolverError, match=words):
            call()


@pytest.mark.parametrize("seed", range(3))
def test_windows_of_a_stream_are_views_of_a_joint_problem(seed):
    stream = random_windows(6, 3, seed=seed, price=0.5)
    joint = joint_of_windows(stream)
    result = choose_jointly(joint)
    assert result.status is Status.OPTIMAL and result.totals.cost == 0
    windows = windows_of(stream, joint, result.choice)
    assert evaluate_windows(stream, windows).value >= choose_windows(stream).value - stream.tolerance
    assert [windows.masks(6)[a].tolist() for a in stream.free] == [own.tolist() for own in result.kept]


def test_the_page_on_joint_problems_holds():
    page = Path(__file__).parents[3] / "docs" / "joint.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried and not failed
