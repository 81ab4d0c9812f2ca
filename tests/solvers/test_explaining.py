"""`python -m solvers --explain` lists what `auto` runs: the methods that really ran are those, in that order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from solver_instances import one_block, several_blocks

from problems import OBJECTIVES, Problem, write_instance
from problems.collection import load
from problems.generators import disjoint_masks, grouped_masks, random_masks, random_matrix, with_tables
from solvers import Auto, Beam, BruteForce, CpSat, LargeNeighbourhoods, LocalSearch, Result, Status, WorkLimit, solve
from solvers.__main__ import main
from solvers.explaining import explained
from solvers.spans.branch_and_bound import SpanSearch

WATCHED = (Beam, BruteForce, CpSat, LargeNeighbourhoods, LocalSearch)
SEARCHES = ("span-search", "levels")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the methods that run, in order, as their own code sees it; not those that a method asks itself."""
    names: list[str] = []
    inside: list[str] = []

    def watch(kind: type, method: str) -> None:
        original = getattr(kind, method)

        def watched(self: object, *arguments: object) -> object:
            name = getattr(self, "name", "span-search")
            if not inside:
                names.append(name)
            inside.append(name)
            try:
                return original(self, *arguments)
            finally:
                inside.pop()

        monkeypatch.setattr(kind, method, watched)

    for kind in WATCHED:
        watch(kind, "solve")
    watch(SpanSearch, "run")
    return names


def begun(methods: tuple[str, ...], legs: list[tuple[str, ...]]) -> bool:
    """Whether methods are the beginnings of all legs, one behind the other; some may be empty."""
    if not legs:
        return not methods
    first, *rest = legs
    lengths = range(min(len(methods), len(first)) + 1)
    return any(methods[:k] == first[:k] and begun(methods[k:], rest) for k in lengths)


def check(problem: Problem, objective: str, seconds: float, ran: list[str]) -> Result:
    """Solve, and compare what ran with what is said to have run, and with what is listed."""
    ran.clear()
    result = solve(problem, objective=objective, time_limit=math.inf, stop=WorkLimit(seconds))  # the same when busy
    methods = list(result.stats.get("methods", ()))
    watched = {kind.name for kind in WATCHED} | set(SEARCHES)
    seen = ["span-search" if own in SEARCHES else own for own in methods if own in watched]
    assert ran == seen
    legs = [leg.methods for leg in explained(problem, objective=objective, time_limit=seconds)]
    assert begun(tuple(methods), legs), f"{problem.name}, {objective}: {methods} against {legs}"
    if result.status is not Status.OPTIMAL and len(legs) == 1:
        assert tuple(methods) == legs[0], "what is open asks every method"
    return result


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(12))
def test_small_problems_meet_the_methods_that_are_listed(objective: str, seed: int, ran: list[str]) -> None:
    for problem in (one_block(seed), several_blocks(seed)):
        tables = with_tables(problem, concave=bool(seed % 2), seed=seed)
        check(tables if objective == "latency" else problem, objective, 30, ran)


@pytest.mark.parametrize(
    ("problem", "objective"),
    [
        (random_masks(64, 10, seed=1), "copies"),
        (random_masks(64, 12, seed=1), "runs"),
        (random_masks(64, 3, seed=1), "runs"),
        pytest.param(random_masks(128, 18, correlation=0.5, seed=2), "span", marks=pytest.mark.slow),
        pytest.param(random_masks(128, 18, correlation=0.5, seed=2), "traffic", marks=pytest.mark.slow),
        pytest.param(random_matrix(60, 25, density=0.05, seed=1), "span", marks=pytest.mark.slow),
        (random_matrix(60, 25, density=0.05, seed=1), "copies"),
        pytest.param(with_tables(random_masks(48, 8, seed=3), concave=False), "latency", marks=pytest.mark.slow),
        pytest.param(with_tables(random_masks(128, 15, seed=3), concave=True), "latency", marks=pytest.mark.slow),
        pytest.param(with_tables(random_masks(128, 15, seed=3), concave=False), "latency", marks=pytest.mark.slow),
        (disjoint_masks(12, 4), "copies"),
        (load("resnet50/l2-0.50/layer2"), "span"),
    ],
    ids=lambda own: own if isinstance(own, str) else own.name,
)
def test_larger_problems_meet_the_methods_that_are_listed(problem: Problem, objective: str, ran: list[str]) -> None:
    check(problem, objective, 2.0, ran)


def test_a_method_that_is_not_listed_would_be_seen(monkeypatch: pytest.MonkeyPatch, ran: list[str]) -> None:
    original = Auto.solve
    problem = random_masks(24, 6, seed=1)

    def secretly(self: Auto, task: object) -> object:
        LocalSearch().solve(task)
        return original(self, task)

    monkeypatch.setattr(Auto, "solve", secretly)
    with pytest.raises(AssertionError):
        check(problem, "span", 5, ran)


@pytest.mark.parametrize("objective", ["copies", "runs", "span"])
@pytest.mark.parametrize("groups", [2, 6])
def test_problems_with_bundles_meet_the_steps_that_are_listed(objective: str, groups: int) -> None:
    problem = grouped_masks(groups, 3, 5, seed=1)
    first, *inner = explained(problem, objective=objective, time_limit=3)
    result = solve(problem, objective=objective, time_limit=3)
    inside = {method for leg in inner for method in leg.methods}
    methods = [own for own in result.stats["methods"] if own in first.methods]
    assert set(result.stats["methods"]) <= {*first.methods, *inside}
    assert methods == list(first.methods)[: len(methods)]


def test_explain_prints_the_methods_the_facts_and_the_reasons(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "instance.json"
    write_instance(random_masks(64, 18, seed=1), path)
    assert main(["--explain", str(path), "--objective", "span", "--time-limit", "5"]) == 0
    printed = capsys.readouterr().out
    assert "18 rows" in printed and "153 of 153 pairs of rows" in printed and "objective span, 5 s" in printed
    for method in explained(random_masks(64, 18, seed=1), objective="span", time_limit=5)[0].methods:
        assert f" {method} " in printed
    assert "not asked" in printed
    assert main(["--explain", "classical/random/8x8-s0"]) == 0
    assert "road copies" in capsys.readouterr().out


def test_where_no_order_costs_more_than_another_nothing_is_asked() -> None:
    (leg,) = explained(random_masks(8, 2, keep=1.0))
    assert leg.methods == () and "every order costs the same" in leg.title


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--explain"],
        ["--explain", "no/such/file.json"],
        ["--explain", "classical/random/8x8-s0", "--objective", "beauty"],
        ["--explain", "classical/random/8x8-s0", "--objective", "latency"],
        ["--explain", "classical/random/8x8-s0", "--time-limit", "0"],
        ["--explain", "classical/random/8x8-s0", "--time-limit", "nan"],
        ["--explain", "classical/random/8x8-s0", "--time-limit", "soon"],
        ["--explain", "classical/random/8x8-s0", "--constants"],
        ["--constants", "--objective", "span"],
        ["--solve"],
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
