"""Proves that matrices, builders, and files of others make the problems that they say."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from problems import (
    Access,
    Block,
    Bundle,
    CostTable,
    Curve,
    Order,
    Problem,
    ProblemBuilder,
    ProblemError,
    evaluate,
    matrix_of,
    order_of_tour,
    read_instance,
    read_matrix,
    read_tour,
    write_instance,
    write_matrix,
    write_tsplib,
)
from problems.generators import random_concat, random_masks

MATRIX = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0]], dtype=bool)


@pytest.mark.parametrize("objective", ["runs", "span", "copies", "traffic"])
def test_a_weight_counts_a_row_so_often_under_every_order(objective: str) -> None:
    weights, sizes = [3, 1, 0, 2], [1, 1, 1, 4]
    problem = Problem.from_matrix(MATRIX, weights=weights, channel_sizes=sizes)
    rows = [Problem.from_matrix(row[np.newaxis]) for row in MATRIX[[0, 2, 3]]]
    for order in permutations(range(4)):
        own = [evaluate(row, Order([order]), objective).value for row in rows]
        priced = 1 if objective == "runs" else 4
        assert evaluate(problem, Order([order]), objective).value == 3 * own[0] + 0 * own[1] + 2 * priced * own[2]


def test_a_matrix_survives_its_files(tmp_path: Path) -> None:
    problem = Problem.from_matrix(MATRIX, weights=[1, 1, 2, 1], name="m")
    for form in ("lists", "set covering", "dense"):
        write_matrix(problem, tmp_path / "m.txt", form)
        assert np.array_equal(matrix_of(read_matrix(tmp_path / "m.txt")), MATRIX[[0, 2, 2, 3]])
    write_instance(problem, tmp_path / "m.json")
    assert read_instance(tmp_path / "m.json") == problem
    assert read_matrix(tmp_path / "m.txt") == Problem.from_matrix(MATRIX[[0, 2, 2, 3]], name="m")


def test_columns_without_ones_may_be_left_out() -> None:
    assert Problem.from_matrix(MATRIX).num_stored == 4
    assert Problem.from_matrix(MATRIX, removable=True).num_stored == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Problem.from_matrix([1, 0]), "has shape"),
        (lambda: Problem.from_matrix([[0, 0]]), "0 ones"),
        (lambda: Problem.from_matrix([[0, 2]]), "holds 2"),
        (lambda: Problem.from_matrix(MATRIX, weights=[1, 2]), "weights must be 4 whole numbers"),
        (lambda: Problem.from_matrix(MATRIX, weights=[1, 2, -1, 1]), "weights must be 4 whole numbers from 0"),
        (lambda: Problem.from_matrix(MATRIX, weights=[0.5, 1, 1, 1]), "weights lists numbers"),
        (lambda: Problem.from_matrix(MATRIX, weights=[2**24 + 1, 1, 1, 1]), "weight is 16777217; give a whole number"),
        (lambda: write_matrix(Problem.from_matrix(MATRIX, weights=[9000, 1, 9000, 1]), "m"), "add up to 18001"),
        (lambda: Problem.from_matrix(MATRIX, channel_sizes=[0, 1, 1, 1]), "channel_sizes must be"),
        (lambda: ProblemBuilder().block("x", 2).block("x", 2), "a block 'x' already"),
        (lambda: ProblemBuilder().access("a", {"x": [1]}), "reads the block 'x'; add it first"),
        (lambda: ProblemBuilder().block("x", 2).access("a", {"x": [1]}), "says 1 channels"),
        (lambda: ProblemBuilder().block("x", 2).access("a", {}), "reads no block"),
        (lambda: ProblemBuilder().block("x", 2).access("a", {"x": [1, 0]}, weight=0), "weight is 0"),
        (lambda: ProblemBuilder().block("x", 2).bundle(["x"], ["y"]).problem(), "names the block 'y'"),
        (lambda: ProblemBuilder().problem(), "has no block"),
        (lambda: write_matrix(random_masks(4, 2), "m", "odd"), "no form 'odd'"),
        (lambda: write_matrix(random_concat(2, 4, 3), "m"), "is no matrix"),
        (lambda: write_tsplib(random_concat(2, 4, 3), "m"), "is no matrix"),
        (lambda: order_of_tour(Problem.from_matrix(MATRIX), [1, 2, 3]), "nodes 1 to 5"),
    ],
)
def test_odd_input_is_refused(make, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        make()


def test_a_builder_makes_what_its_parts_say() -> None:
    table = CostTable(Curve((2, 6), (10, 30)), 5)
    builder = ProblemBuilder("net").block("x", 3, required=[0]).block("y", 3).block("z", 1, pinned=True)
    builder.access("a", {"x": [1, 0, 1], "z": [1]}, channel_size=4)
    builder.access("b", [("x", [1, 0, 0]), ("x", [0, 1, 0])], weight=2, table=table)
    builder.access("c", {"x": [0, 1, 1], "y": [1, 1, 1]})
    blocks = (Block("x", 3, required=(0,)), Block("y", 3), Block("z", 1, pinned=True))
    accesses = (
        Access("a", (0, 2), [1, 0, 1, 1], 4),
        Access("b", (0, 0), [1, 0, 0, 0, 1, 0], table=table, weight=2),
        Access("c", (0, 1), [0, 1, 1, 1, 1, 1]),
    )
    assert builder.problem() == Problem(blocks, accesses, "net")
    alike = ProblemBuilder().block("x", 2, removable=False).block("y", 2, removable=False)
    alike.access("a", {"x": [1, 0], "y": [0, 1]})
    assert alike.bundle(["x"], ["y"]).problem().bundles == (Bundle(((0,), (1,))),)


def test_runs_are_half_the_length_of_tours(tmp_path: Path) -> None:
    problem = Problem.from_matrix(MATRIX, weights=[1, 1, 2, 1])
    write_tsplib(problem, tmp_path / "m.tsp")
    lines = (tmp_path / "m.tsp").read_text().splitlines()
    start = lines.index("EDGE_WEIGHT_SECTION") + 1
    far = np.array([list(map(int, line.split())) for line in lines[start : lines.index("EOF")]])
    assert far.shape == (5, 5) and np.array_equal(far, far.T)
    for tour in permutations(range(5)):
        length = sum(far[one, two] for one, two in zip(tour, tour[1:] + tour[:1]))
        order = order_of_tour(problem, [node + 1 for node in tour])
        assert length == 2 * evaluate(problem, order, "runs").value
    path = tmp_path / "m.tour"
    path.write_text("NAME : m\nTYPE : TOUR\nDIMENSION : 5\nTOUR_SECTION\n3\n1\n2\n4\n5\n-1\nEOF\n")
    assert read_tour(path, problem) == Order([[0, 2, 3, 1]])
    for text in ("nothing", "TOUR_SECTION\n1\n2\n-1\n", "TOUR_SECTION\nx\n"):
        path.write_text(text)
        with pytest.raises(ProblemError, match=r"m\.tour"):
            read_tour(path, problem)
