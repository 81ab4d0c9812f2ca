"""Proves that results are written and read exactly, that false ones are refused, and that a solve goes on from one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from problems import OBJECTIVES, Objective, Order, ProblemError, evaluate
from problems.best_known import best_known_of, names_of
from problems.collection import LIBRARY, load
from problems.generators import grouped_masks, random_masks, with_tables
from problems.signatures import signature_form
from solvers import GapLimit, Result, SolverError, Status, StopReason, read_result, solve, write_result

PROBLEM = random_masks(60, 13, seed=1)


@pytest.fixture(scope="module")
def first() -> Result:
    return solve(PROBLEM, objective="span", stop=GapLimit(0.8), proof=True, seed=5, time_limit=1)


CASES = [
    (random_masks(32, 6, seed=1), "copies", True),
    (random_masks(32, 6, seed=1), "runs", True),
    (with_tables(random_masks(32, 4, seed=1)), "latency", True),
    (grouped_masks(3, 8, 4, whole=0, seed=1), "span", False),
    (random_masks(32, 6, seed=1), Objective("mine", alpha=3, gamma=5), False),
]


@pytest.mark.parametrize(("problem", "objective", "proof"), CASES)
@pytest.mark.parametrize("solver", ["auto", "greedy"])
def test_a_result_is_written_and_read_exactly(tmp_path: Path, problem, objective, proof, solver) -> None:
    result = solve(problem, solver=solver, objective=objective, proof=proof, time_limit=2)
    write_result(result, tmp_path / "r.json")
    again = read_result(tmp_path / "r.json", problem)
    assert again == result and again.trajectory == result.trajectory and again.proof == result.proof
    assert again.evaluation == result.evaluation and again.stop_reason is result.stop_reason


def changed(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": 1}, "'value' is 1, but the order has"),
        ({"bound": 10**6}, "above the value"),
        ({"bound": "7"}, "'bound' must be int or NoneType"),
        ({"status": "OPTIMAL"}, "'status' is 'OPTIMAL'"),
        ({"stop_reason": "tired"}, "'stop_reason' is 'tired'"),
        ({"instance": "0" * 64}, "hash of another problem"),
        ({"objective": "speed"}, "'objective' is 'speed'"),
        ({"order": [[0]]}, "not a permutation"),
        ({"trajectory": [[1, 2, 3]]}, r"'trajectory\[0\]' must be"),
        ({"seed": -1}, "'seed' is -1"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"version": 99}, "newer"),
    ],
)
def test_false_and_odd_files_are_refused(tmp_path: Path, first: Result, fields, message: str) -> None:
    path = tmp_path / "r.json"
    write_result(first, path)
    changed(path, **fields)
    with pytest.raises(ProblemError, match=message):
        read_result(path, PROBLEM)


def test_a_false_bound_of_a_small_problem_is_found_out(tmp_path: Path) -> None:
    problem = random_masks(10, 4, seed=1)
    result = solve(problem, solver="identity", objective="span")
    best = solve(problem, objective="span")
    assert best.status is Status.OPTIMAL and best.value < result.value
    write_result(result, tmp_path / "r.json")
    status = "OPTIMAL" if best.value + 1 == result.value else "FEASIBLE"
    changed(tmp_path / "r.json", bound=best.value + 1, status=status)
    with pytest.raises(ProblemError, match="false"):
        read_result(tmp_path / "r.json", problem)


def test_a_solve_goes_on_from_a_result_or_its_file(tmp_path: Path, first: Result) -> None:
    write_result(first, tmp_path / "r.json")
    for resume in (first, tmp_path / "r.json", str(tmp_path / "r.json")):
        second = solve(PROBLEM, objective="span", resume=resume, time_limit=0.2, proof=True)
        assert second.value <= first.value and second.bound is not None and second.bound >= (first.bound or 0)
        assert second.trajectory[: len(first.trajectory)] == first.trajectory
        assert second.runtime > first.runtime and second.proof is not None


def test_resuming_what_is_done_takes_no_search() -> None:
    problem = random_masks(64, 5, seed=1)
    done = solve(problem, objective="span", proof=True)
    again = solve(problem, objective="span", resume=done, proof=True)
    assert again.order == done.order and again.status is Status.OPTIMAL and again.stop_reason is StopReason.OPTIMAL
    assert (
        again.proof is not None
        and done.proof is not None
        and set(map(str, done.proof.claims)) <= set(map(str, again.proof.claims))
    )


def test_a_greedy_order_does_not_replace_a_better_one_that_is_resumed(first: Result) -> None:
    assert solve(PROBLEM, solver="greedy", objective="span", resume=first).value <= first.value


def test_results_of_others_are_not_resumed(first: Result) -> None:
    with pytest.raises(SolverError, match="for the objective 'span'"):
        solve(PROBLEM, resume=first)
    with pytest.raises(SolverError, match="of another problem"):
        solve(random_masks(60, 13, seed=4), objective="span", resume=first)


def test_a_known_lower_bound_ends_a_solve_that_reaches_it() -> None:
    problem = random_masks(64, 5, seed=1)
    best = solve(problem, objective="span").value
    result = solve(problem, solver="local-search", objective="span", lower_bound=best, proof=True)
    assert result.value == result.bound == best and result.stop_reason is StopReason.OPTIMAL
    assert result.stats["given_bound"] == best
    assert result.proof is not None and "as the caller says" in str(result.proof)
    with pytest.raises(SolverError, match="the lower bound is"):
        solve(problem, objective="span", lower_bound=best + 1)


def test_several_hints_are_all_tried() -> None:
    problem = PROBLEM
    best = solve(problem, solver="local-search", objective="span", time_limit=0.1).order
    hints = [Order.identity(problem), best, Order([problem.stored[0][::-1]])]
    for solver in ("auto", "local-search", "beam", "lns", "cp-sat"):
        result = solve(problem, solver=solver, objective="span", hint=hints, time_limit=0.05)
        assert result.value <= evaluate(problem, best, "span").value
    with pytest.raises(SolverError, match="hint is of type list"):
        solve(problem, hint=[best, 7])


def test_the_gap_to_the_best_known_value_is_found_by_content() -> None:
    name = "classical/random/8x8-s0"
    problem = load(name)
    renamed = type(problem)(problem.blocks, problem.accesses, "mine")
    assert names_of(renamed) == names_of(signature_form(renamed)) == (name,)
    best = best_known_of(renamed, "span")
    assert best is not None and best.value == LIBRARY.solutions(name)["span"].value
    assert solve(renamed, objective="span").gap_to_best_known() == 0
    worse = solve(renamed, solver="identity", objective="span")
    assert worse.gap_to_best_known() == (worse.value - best.value) / best.value
    assert solve(PROBLEM, solver="greedy").gap_to_best_known() is None
    assert solve(renamed, solver="greedy", objective=Objective("mine", alpha=1)).gap_to_best_known() is None
    assert best_known_of(problem, OBJECTIVES["latency"]) is None


def test_the_log_has_a_line_for_every_improvement_and_a_summary() -> None:
    lines: list[str] = []
    result = solve(load("classical/random/8x8-s0"), objective="span", log=lines.append)
    assert "solver auto" in lines[1] and "seed 0, at most 10 s" in lines[2]
    improved = [line for line in lines if line.startswith("#") and not line.startswith("#Done")]
    assert len(improved) in (len(result.trajectory), len(result.trajectory) - 1)
    assert any(line.startswith("#1 ") for line in improved)
    assert "status: OPTIMAL" in lines and f"objective: {result.value}" in lines
    assert "gap_to_best_known: 0.00%" in lines and "stop_reason: optimal" in lines


def test_a_log_is_printed_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    solve(random_masks(16, 3), log=True)
    assert "Starting the search" in capsys.readouterr().out
    solve(random_masks(16, 3))
    assert capsys.readouterr().out == ""
