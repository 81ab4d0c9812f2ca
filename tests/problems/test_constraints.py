"""Proves that constraints on orders mean what they say, wherever orders and problems are checked, kept or written."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from problems import (
    Access,
    Block,
    Bundle,
    FixedPlace,
    Order,
    Precedence,
    Problem,
    ProblemBuilder,
    ProblemError,
    evaluate,
    read_instance,
    write_instance,
    write_matrix,
    write_tsplib,
)
from problems.checker.checking import check_order
from problems.checker.proof_checks import Standing
from problems.constraints import first_broken, order_that_keeps
from problems.generators import random_masks
from problems.proofs import Proof
from problems.signatures import content_hash, signature_form

MATRIX = np.array([[1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 0]], dtype=bool)
SOME = (FixedPlace(0, 3, 0), FixedPlace(0, 1, -1), Precedence(0, 4, 2))


def problem_with(*constraints: FixedPlace | Precedence) -> Problem:
    return Problem.from_matrix(MATRIX, constraints=constraints)


def drawn(rng: np.random.Generator, size: int) -> list[FixedPlace | Precedence]:
    found: list[FixedPlace | Precedence] = []
    for _ in range(int(rng.integers(1, 6))):
        i, j = rng.choice(size, 2, replace=False).tolist()
        if rng.random() < 0.4:
            found.append(FixedPlace(0, i, int(rng.integers(-size, size))))
        else:
            found.append(Precedence(0, i, j))
    return found


def test_an_order_is_found_if_and_only_if_there_is_one() -> None:
    rng = np.random.default_rng(3)
    none = 0
    for _ in range(150):
        size = int(rng.integers(2, 6))
        constraints = drawn(rng, size)
        good = [p for p in permutations(range(size)) if first_broken(constraints, [np.array(p)]) is None]
        order = order_that_keeps(constraints, np.arange(size))
        none += order is None
        assert (order is None) == (not good)
        assert order is None or tuple(order.tolist()) in good
    assert 20 < none < 130


def test_orders_that_break_a_constraint_are_no_orders() -> None:
    problem = problem_with(*SOME)
    first = Order.identity(problem)
    assert first[0][0] == 3 and first[0][-1] == 1 and "3 constraints" in str(problem)
    first.require_valid(problem)
    for wrong in ([0, 1, 2, 3, 4], [3, 2, 0, 4, 1], [3, 4, 0, 1, 2]):
        with pytest.raises(ProblemError, match="does not keep a constraint"):
            evaluate(problem, Order([wrong]), "span")
        assert check_order(problem, Order([wrong]), "span")[0].standing is Standing.WRONG
    assert Order.identity(problem_with(Precedence(0, 0, 4)))[0].tolist() == [0, 1, 2, 3, 4]


def test_constrained_channels_are_classes_of_their_own() -> None:
    alike = Problem.from_matrix([[1, 1, 1, 1, 0]], constraints=[FixedPlace(0, 1, 0), Precedence(0, 2, 4)])
    assert [own.tolist() for own in alike.classes.members] == [[0, 3], [1], [2], [4]]


def test_constraints_survive_files_and_parts(tmp_path: Path) -> None:
    problem = problem_with(*SOME)
    write_instance(problem, tmp_path / "c.json")
    assert read_instance(tmp_path / "c.json") == problem
    plain = replace(problem, constraints=())
    others = [problem_with(*SOME[:2]), problem_with(FixedPlace(0, 3, 1), *SOME[1:])]
    assert len({content_hash(own) for own in (problem, plain, *others)}) == 4
    small = Problem(
        (Block("x", 5),), (Access("a", (0,), [0, 1, 0, 1, 1]), Access("b", (0,), [0, 0, 1, 1, 0])), "s", (), (SOME[2],)
    )
    assert small.restricted([0]).constraints == (Precedence(0, 3, 1),)


def test_the_signature_form_constrains_the_same_columns() -> None:
    problem = problem_with(*SOME)
    form = signature_form(problem)
    for own, moved in zip(problem.constraints, form.constraints, strict=True):
        for channel, place in zip(own.channels, moved.channels, strict=True):
            assert [read[channel] for read in problem.reads] == [read[place] for read in form.reads]


def test_a_builder_names_blocks() -> None:
    builder = ProblemBuilder().block("x", 2).block("y", 3, removable=False).access("a", {"x": [1, 1], "y": [1, 0, 1]})
    problem = builder.fix("y", 2, 0).precede("x", 1, 0).problem()
    assert problem.constraints == (FixedPlace(1, 2, 0), Precedence(0, 1, 0))
    with pytest.raises(ProblemError, match="names the block 'z'"):
        builder.fix("z", 0, 0).problem()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problem_with(FixedPlace(0, 0, 0), FixedPlace(0, 1, 0)), "no order keeps all constraints"),
        (lambda: problem_with(Precedence(0, 0, 1), Precedence(0, 1, 0)), "no order keeps all constraints"),
        (lambda: problem_with(Precedence(0, 0, 0)), "cannot stand before itself"),
        (lambda: problem_with(FixedPlace(0, 0, 5)), "stores 5 channels"),
        (lambda: problem_with(FixedPlace(1, 0, 0)), "no such block"),
        (lambda: problem_with(FixedPlace(0, 7, 0)), "not stored"),
        (lambda: FixedPlace(0, 0, 0.5), "place is 0.5"),
        (lambda: replace(random_masks(6, 2), constraints=["first"]), "no Constraint"),
        (lambda: Problem((Block("x", 2, pinned=True),), (), "p", (), (FixedPlace(0, 0, 0),)), "pinned"),
        (lambda: write_matrix(problem_with(*SOME), "m"), "no form for them"),
        (lambda: write_tsplib(problem_with(*SOME), "m"), "no form for them"),
        (lambda: Proof.of(problem_with(*SOME), None, 0, []), "proofs have no form"),
    ],
)
def test_odd_constraints_are_refused(make, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        make()
    with pytest.raises(ProblemError, match="leave one out"):
        blocks, accesses = (Block("x", 1), Block("y", 1)), (Access("a", (0, 1), [1, 1]),)
        Problem(blocks, accesses, "b", (Bundle(((0,), (1,))),), (FixedPlace(0, 0, 0),))
