"""Proves what a width problem accepts, how it evaluates, and that its files round-trip and refuse what they must."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest

from problems import (
    BoundCertificate,
    ProblemError,
    TimedWork,
    TimeTable,
    WidthBlock,
    WidthProblem,
    check_certificate,
    read_certificate,
    read_width_problem,
    write_certificate,
    write_width_problem,
)
from problems.widths.certificates import least_cost
from problems.widths.generators import dense_network, inverted_network, random_widths, residual_network

HIDDEN, STREAM = WidthBlock("hidden", (8, 16), (5, 0)), WidthBlock("stream", (4, 8), (9, 0))
TABLE = TimeTable((8, 16), (4, 8), [[10, 19], [18, 40]])
PER_CHANNEL = TimeTable((8, 12, 16), (0,), [[1], [2], [7]])
CONV, ADD = TimedWork("conv", (0,), (1,), 0), TimedWork("add", (1, 1), (), 1)


def small() -> WidthProblem:
    """Two blocks; the second one is read twice by an addition."""
    return WidthProblem((HIDDEN, STREAM), (CONV, ADD), (TABLE, PER_CHANNEL), budget=30, base=60, fixed=3)


def test_a_choice_takes_the_sum_of_its_table_entries() -> None:
    problem = small()
    found = [problem.evaluate(choice) for choice in itertools.product(range(2), repeat=2)]
    assert [(own.time, own.loss) for own in found] == [(14, 14), (29, 5), (22, 9), (50, 0)]
    assert found[0].speedup == 60 / 14
    assert problem.full_choice == (1, 1)
    assert problem.widths_of((0, 1)) == {"hidden": 8, "stream": 8}
    assert problem.choice_of({"stream": 8, "hidden": 8, "other": 3}) == (0, 1)
    assert problem.attainable((0, 1, 1)).tolist() == [16, 24, 32]


def test_budgets_of_speedups_are_rounded_down_but_not_below_a_reachable_time() -> None:
    problem = small()
    assert problem.for_speedup(7).budget == 8
    assert problem.with_budget(14).budget == 14
    for time in range(1, 400):
        scaled = dataclasses.replace(problem, base=1_000_003)
        assert scaled.for_speedup(scaled.base / time).budget == time


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: WidthBlock("b", (8, 8), (0, 0)), "ascend strictly"),
        (lambda: WidthBlock("b", (0, 8), (0, 0)), "at least 1"),
        (lambda: WidthBlock("b", (), ()), "at least one"),
        (lambda: WidthBlock("b", (8,), (0, 1)), "one loss each"),
        (lambda: WidthBlock("b", (8,), (-1,)), "losses are whole units"),
        (lambda: WidthBlock("b", (8,), (0.5,)), "whole numbers"),
        (lambda: WidthBlock("", (8,), (0,)), "empty name"),
        (lambda: TimeTable((8,), (8, 16), [[1]]), "shape"),
        (lambda: TimeTable((8,), (8,), [[-1]]), "outside 0"),
        (lambda: TimedWork("w", (-1,), (), 0), "from 0 up"),
        (lambda: dataclasses.replace(small(), blocks=()), "at least one"),
        (lambda: dataclasses.replace(small(), blocks=(HIDDEN, HIDDEN)), "names must be unique"),
        (lambda: dataclasses.replace(small(), budget=-1), "budget"),
        (lambda: dataclasses.replace(small(), base=0), "base"),
        (lambda: dataclasses.replace(small(), fixed=2**60), "fixed"),
        (lambda: dataclasses.replace(small(), works=(TimedWork("w", (0,), (2,), 0),)), "block 2 of 2"),
        (lambda: dataclasses.replace(small(), works=(TimedWork("w", (0,), (1,), 2),)), "table 2 of 2"),
        (lambda: dataclasses.replace(small(), works=(TimedWork("w", (1,), (0,), 0),)), "4 channels together"),
        (lambda: dataclasses.replace(small(), works=(TimedWork("w", (0, 1), (1,), 0),)), "12 channels together"),
        (lambda: dataclasses.replace(small(), works=(TimedWork("w", (), (1,), 0),)), "0 channels together"),
        (lambda: small().evaluate((0,)), "one per block"),
        (lambda: small().evaluate((0, 2)), "from 0 to 1"),
        (lambda: small().choice_of({"hidden": 8}), "lack block 'stream'"),
        (lambda: small().choice_of({"hidden": 8, "stream": 5}), "no width 5"),
        (lambda: small().for_speedup(0), "above 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(make, says) -> None:
    with pytest.raises(ProblemError, match=says):
        make()


@pytest.mark.parametrize("make", [small, residual_network, dense_network, lambda: random_widths(seed=3)])
def test_files_round_trip(make, tmp_path) -> None:
    problem, path = make(), tmp_path / "widths.json"
    write_width_problem(problem, path)
    assert read_width_problem(path) == problem


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"extra": 1}, "unknown field 'extra'"),
        ({"version": 2}, "newer"),
        ({"format": "upscale_opt.instance"}, "no upscale_opt.widths file"),
        ({"budget": 1.5}, "'budget' must be int"),
        ({"blocks": [{"name": "a", "widths": [8], "losses": [0], "colour": 1}]}, r"blocks\[0\] has an unknown field"),
        ({"blocks": [{"name": "a", "widths": [8, 4], "losses": [0, 0]}]}, r"blocks\[0\]: .*ascend"),
        ({"works": [{"name": "w", "inputs": [0], "outputs": []}]}, r"works\[0\] lacks the field 'table'"),
        ({"tables": [{"input_widths": [8], "output_widths": [0], "nanoseconds": [[True]]}]}, r"tables\[0\]"),
    ],
)
def test_wrong_files_are_refused(change, says, tmp_path) -> None:
    path = tmp_path / "widths.json"
    write_width_problem(small(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ProblemError, match=says):
        read_width_problem(path)


def test_generators_are_seeded_and_have_the_structure_of_their_networks() -> None:
    assert residual_network(seed=1) == residual_network(seed=1) != residual_network(seed=2)
    convolutions = [work for work in residual_network().works if len(work.outputs) == 1]
    assert len(convolutions) == 1 + 3 * 16 + 4 + 1 and residual_network().num_blocks == 37 + 2
    assert max(len(work.inputs) for work in dense_network().works) == 25
    assert any(not work.outputs for work in inverted_network().works)
    times = max((own.nanoseconds for own in residual_network().tables), key=np.size)
    assert (np.diff(times, axis=0) < 0).any() and (np.diff(times, axis=1) < 0).any()
    with pytest.raises(ProblemError, match="streams"):
        residual_network(streams=(8,), depths=(1, 1))


@pytest.mark.parametrize("seed", range(20))
def test_the_checker_finds_the_least_cost(seed: int) -> None:
    problem = random_widths(5, 7, seed=seed)
    totals = [problem.evaluate(own) for own in itertools.product(*(range(len(b.widths)) for b in problem.blocks))]
    for weights in ((1, 0), (1, 3), (7, 2)):
        assert least_cost(problem, *weights) == min(weights[0] * own.loss + weights[1] * own.time for own in totals)


def test_a_certificate_that_states_too_much_is_refused(tmp_path) -> None:
    problem = small()
    proven = check_certificate(problem, BoundCertificate(2, 1, 0))
    assert proven == max(0, min(2 * 14 + 14, 2 * 5 + 29, 2 * 9 + 22, 50) - 30 + 1) // 2
    write_certificate(BoundCertificate(2, 1, proven), tmp_path / "bound.json")
    assert check_certificate(problem, read_certificate(tmp_path / "bound.json")) == proven
    with pytest.raises(ProblemError, match="do not trust it"):
        check_certificate(problem, BoundCertificate(2, 1, proven + 1))
    with pytest.raises(ProblemError, match="smaller weights"):
        check_certificate(problem, BoundCertificate(2**60, 1, 0))
    with pytest.raises(ProblemError, match="weight of the loss"):
        BoundCertificate(0, 1, 0)
