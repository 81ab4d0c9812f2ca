"""Proves that reports add up in units of the objective, whatever ticks the segments count in."""

import dataclasses
from fractions import Fraction

import pytest

from problems import CostTable, Curve
from problems.generators import random_masks
from solvers import solve
from upscale_opt.comparing import reports
from upscale_opt.latency.profiling import Profile
from upscale_opt.planning.solutions import best_solver

SOLVERS = ("identity", "greedy", "cp-sat")


def _timed(seed, width, costs):
    """A segment of two accesses whose tables need `width` ticks per nanosecond (or a divisor)."""
    problem = random_masks(16, 2, seed=seed)
    table = CostTable(Curve((0, width, 32), costs), copy=9)
    accesses = tuple(dataclasses.replace(access, table=table) for access in problem.accesses)
    return dataclasses.replace(problem, accesses=accesses, name=f"segment{seed}")


@pytest.fixture
def solved():
    problems = [_timed(0, 8, (10, 13, 15)), _timed(1, 6, (100, 105, 109)), _timed(2, 16, (10, 26, 42))]
    problems = {problem.name: problem for problem in problems}
    assert len({problem.ticks for problem in problems.values()}) == 3
    return problems, {
        segment: {name: solve(problem, solver=name, objective="latency", time_limit=5) for name in SOLVERS}
        for segment, problem in problems.items()
    }


def test_totals_are_nanoseconds_and_the_best_solver_is_chosen_by_them(solved):
    problems, solutions = solved
    document = reports.document(
        problems, solutions, SOLVERS, model=None, amount=None, objective="latency", costs="instance"
    )
    totals = {}
    for name in SOLVERS:
        results = [results[name] for results in solutions.values()]
        totals[name] = sum(Fraction(result.value, result.evaluation.ticks) for result in results)
        assert document["totals"][name]["objective"] == float(totals[name])
        for segment, result in zip(document["segments"], results):
            assert segment["solvers"][name]["objective"] == result.value / result.evaluation.ticks
            assert segment["solvers"][name]["gap"] == result.gap
    assert totals[best_solver(solutions, SOLVERS)] == min(totals.values())
    assert document["totals"]["cp-sat"]["bound"] <= document["totals"]["cp-sat"]["objective"]


def test_a_result_speaks_of_nanoseconds(solved):
    result = solved[1]["segment0"]["cp-sat"]
    value = result.value / result.evaluation.ticks
    assert f"latency {value:g} OPTIMAL (bound {value:g}, gap 0.0%)" in str(result)


def test_the_table_counts_every_mode_only_where_there_are_costs(solved):
    text = reports.table(*solved, SOLVERS, title="title", costs="instance")
    assert "title in nanoseconds, costs: instance" in text
    assert text.count("over-reads") == text.count("pieces") == text.count("views") == len(SOLVERS)
    assert "over-reads" not in reports.table(*solved, SOLVERS, title="title")


def test_latencies_are_ratios_to_the_first_and_to_the_floor():
    latencies = {name: Profile((x, x), "cpu", "eager", None, {}) for name, x in (("unpruned", 0.4), ("greedy", 0.3))}
    assert "to floor" not in reports.latency_table(latencies)
    text = reports.latency_table({**latencies, "floor": Profile((0.2, 0.2), "cpu", "eager", None, {})})
    (line,) = (line for line in text.splitlines() if "greedy" in line)
    assert line.split()[-2:] == ["0.75", "1.50"]


def test_latencies_that_the_host_disturbed_say_so():
    quiet, disturbed = (
        reports.latency_table({"unpruned": Profile((0.1, 0.2), "cpu", "eager", None, {}, stolen=share)})
        for share in (0.001, 0.14)
    )
    assert "host took 14 % of the processors' time" in disturbed and "host" not in quiet
