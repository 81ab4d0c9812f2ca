"""Tests that solution files round-trip, that nothing wrong is read or written, and that joining never worsens."""

import itertools
import json

import numpy as np
import pytest

from problems import OBJECTIVES, Order, ProblemError, evaluate
from problems.generators import random_concat, random_masks, with_tables
from problems.solutions import Solution, read_solutions, write_solutions

PRICED = ("copies", "runs", "span", "traffic")


def solution(problem, order, objective="copies", bound=None, solver="greedy", date="2026-11-21"):
    value = evaluate(problem, order, objective).value
    return Solution(order, value, bound, solver, None if bound is None else solver, "0.1.0", date)


def random_order(problem, seed):
    rng = np.random.default_rng(seed)
    pairs = zip(problem.blocks, problem.stored, strict=True)
    return Order([stored if block.pinned else rng.permutation(stored) for block, stored in pairs])


@pytest.mark.parametrize("seed", range(10))
def test_values_bounds_and_origins_survive_a_file(tmp_path, seed):
    """The order may come back with the channels of a class exchanged: every access costs the same."""
    problem = with_tables(random_concat(3, 7, 5, pinned=0.3, seed=seed), seed=seed)
    given = {name: solution(problem, random_order(problem, seed), name, bound=0) for name in OBJECTIVES}
    write_solutions(given, problem, tmp_path / "x.sol.json")
    found = read_solutions(tmp_path / "x.sol.json", problem)
    assert list(found) == list(OBJECTIVES)
    for name, own in found.items():
        expected = given[name]
        for field in ("value", "bound", "solver", "bound_solver", "version", "date", "proven"):
            assert getattr(own, field) == getattr(expected, field)
        assert evaluate(problem, own.order, name) == evaluate(problem, expected.order, name)


def test_writing_what_was_read_changes_nothing(tmp_path):
    problem = random_masks(40, 4, seed=2)
    path = tmp_path / "x.sol.json"
    write_solutions({"span": solution(problem, random_order(problem, 0), "span")}, problem, path)
    before = path.read_bytes()
    write_solutions(read_solutions(path, problem), problem, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), 2, "newer"),
        (("format",), "x", "field 'format'"),
        (("instance",), "0" * 64, "hash of another instance"),
        (("extra",), 1, "unknown field 'extra'"),
        (("solutions", "speed"), {}, "solutions.speed"),
        (("solutions", "copies", "value"), 10**6, "field 'value' is 1000000"),
        (("solutions", "copies", "value"), "1", "field 'value' must be int"),
        (("solutions", "copies", "bound"), 10**6, "field 'bound' is 1000000, above"),
        (("solutions", "copies", "bound_solver"), None, "go together"),
        (("solutions", "copies", "proven"), True, "field 'proven'"),
        (("solutions", "copies", "date"), "yesterday", "field 'date'"),
        (("solutions", "copies", "order"), [], "field 'order' has 0 blocks"),
        (("solutions", "copies", "order"), [[[0, 3]]], "lists 3 channels"),
        (("solutions", "copies", "order"), [[[0, 10**12]]], "must list the"),
        (("solutions", "copies", "order"), [["a"]], "must list channels and runs"),
        (("solutions", "copies", "order"), [7], "must list channels and runs"),
        (("solutions", "copies", "order"), [[0] * 8], "not a permutation"),
        (("solutions", "copies", "extra"), 1, "unknown field 'extra'"),
    ],
)
def test_every_defect_is_named(tmp_path, path, value, message):
    problem = random_masks(8, 3, keep=1.0, seed=0)
    file = tmp_path / "x.sol.json"
    write_solutions({"copies": solution(problem, random_order(problem, 1), bound=-1)}, problem, file)
    document = json.loads(file.read_text())
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    file.write_text(json.dumps(document))
    with pytest.raises(ProblemError, match=message):
        read_solutions(file, problem)


def test_nothing_wrong_is_written(tmp_path):
    problem = random_masks(8, 3, seed=0)
    right = solution(problem, random_order(problem, 1))
    wrong = Solution(right.order, right.value + 1, None, "x", None, "0", "2026-11-21")
    with pytest.raises(ProblemError, match="field 'value'"):
        write_solutions({"copies": wrong}, problem, tmp_path / "x.sol.json")
    assert not list(tmp_path.iterdir())


def test_joining_takes_the_better_order_and_the_better_bound():
    """Over all pairs of a few values and bounds; what does not improve leaves the object itself."""
    problem = random_masks(12, 4, seed=3)
    orders = [random_order(problem, seed) for seed in range(8)]
    values = sorted({evaluate(problem, order).value: order for order in orders}.items())
    low = values[0][0]
    choices = [
        solution(problem, order, bound=bound, solver=f"{value}/{bound}")
        for (value, order), bound in itertools.product(values, (None, 0, low // 2, low))
    ]
    for first, second in itertools.product(choices, repeat=2):
        both = first.joined(second)
        assert both.value == min(first.value, second.value)
        assert (both.bound or 0) == max(first.bound or 0, second.bound or 0)
        improved = second.value < first.value or (-1 if second.bound is None else second.bound) > (
            -1 if first.bound is None else first.bound
        )
        assert improved == (both is not first)
        assert both.solver == (second if second.value < first.value else first).solver


def test_contradictions_are_errors():
    problem = random_masks(12, 4, seed=3)
    order = random_order(problem, 0)
    value = evaluate(problem, order).value
    known = solution(problem, order)
    with pytest.raises(ProblemError, match="one of them is wrong"):
        known.joined(Solution(order, value + 2, value + 1, "x", "x", "0", "2026-11-21"))
