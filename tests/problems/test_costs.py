"""Proves cost tables exact: rational interpolation, the cheapest read mode, and files that keep them."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from problems import (
    Access,
    Block,
    CostTable,
    Curve,
    Objective,
    Order,
    Problem,
    ProblemError,
    evaluate,
    evaluate_batch,
    instance_from_dict,
    instance_to_dict,
)
from problems.generators import random_concat, random_masks, with_tables


def _interpolated(curve: Curve, x: int) -> Fraction:
    """The definition, piece by piece."""
    for (p, c), (q, d) in zip(zip(curve.points, curve.costs), zip(curve.points[1:], curve.costs[1:])):
        if p <= x <= q:
            return Fraction(c) + Fraction(d - c, q - p) * (x - p)
    assert (x,) == curve.points
    return Fraction(curve.costs[0])


@pytest.mark.parametrize("seed", range(20))
def test_interpolation_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.integers(1, 9, int(rng.integers(1, 6))))
    curve = Curve(points, np.cumsum(rng.integers(0, 50, len(points))))
    x = np.arange(points[0], points[-1] + 1)
    exact = [_interpolated(curve, int(v)) for v in x]
    assert [Fraction(int(t), curve.denominator) for t in curve.ticks(x, per_nanosecond=curve.denominator)] == exact
    assert curve.ticks(x, per_nanosecond=6 * curve.denominator).tolist() == [6 * curve.denominator * e for e in exact]


@pytest.mark.parametrize("concave", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_an_access_pays_for_its_cheapest_mode(concave: bool, seed: int) -> None:
    problem = with_tables(random_concat(2, 9, 4, seed=seed), concave=concave, seed=seed)
    rng = np.random.default_rng(seed)
    order = Order(
        [block if problem.blocks[b].pinned else rng.permutation(block) for b, block in enumerate(problem.stored)]
    )
    found = evaluate(problem, order, "latency")
    assert found.ticks == problem.ticks
    for access, cost in zip(problem.accesses, found.accesses):
        table = access.table
        contiguous = _interpolated(table.read, cost.kept)
        modes = {"over-read": _interpolated(table.read, cost.span), "copy": contiguous + table.copy}
        if table.pieces is not None and 2 <= cost.runs <= table.pieces.points[-1]:
            modes["pieces"] = contiguous + _interpolated(table.pieces, cost.runs)
        if cost.span == cost.kept:
            modes["view"] = contiguous
        assert Fraction(cost.cost, problem.ticks) == min(modes.values()) == modes[cost.mode]
        assert (cost.mode == "view") == (cost.span == cost.kept)
    batch = evaluate_batch(problem, [block[np.newaxis] for block in order.channels], "latency")
    assert batch.tolist() == [found.value] == [sum(cost.cost for cost in found.accesses)]


def test_tables_survive_a_file() -> None:
    for concave in (True, False):
        problem = with_tables(random_masks(64, 12), concave=concave)
        again = instance_from_dict(json.loads(json.dumps(instance_to_dict(problem))))
        assert again == problem
        assert again.accesses[0].table == problem.accesses[0].table
        assert again.accesses[0] != dataclasses.replace(again.accesses[0], table=None)


def test_signatures_in_hexadecimal_are_those_in_lists() -> None:
    problem = random_masks(16, 10)
    document = instance_to_dict(problem)
    for run in document["blocks"][0]["channels"]:
        bits = int(run[1], 16)
        run[1] = [i for i in range(10) if bits >> i & 1]
    assert instance_from_dict(document) == problem


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curve((1, 1), (2, 3)), "increase strictly"),
        (lambda: Curve((1, 2), (3, 2)), "isotonic"),
        (lambda: Curve((1, 2), (3,)), "2 points and 1 costs"),
        (lambda: Curve((), ()), "at least 1"),
        (lambda: Curve((1, 2), (3, 4.5)), "whole numbers"),
        (lambda: Curve((1,), (2**41,)), "nanoseconds"),
        (lambda: CostTable(Curve((1,), (1,)), copy=-1), "copy costs -1"),
        (lambda: CostTable(Curve((1,), (1,)), pieces=Curve((1, 2), (0, 1))), "begin with 2"),
        (lambda: CostTable(Curve((1,), (1,)), copy=1.5), "whole numbers"),
        (lambda: _one(CostTable(Curve((1, 3), (1, 3)))), "extend the grid"),
        (lambda: _one(CostTable(Curve((3, 4), (1, 3)))), "extend the grid"),
        (lambda: Curve((1, 4), (1, 3)).ticks(np.array([5]), per_nanosecond=3), "extend its grid"),
        (lambda: Objective("x", alpha=1, uses_tables=True), "use tables"),
        (lambda: evaluate(_one(None), Order([[0, 1, 2, 3]]), "latency"), "'a' has no cost table"),
    ],
)
def test_senseless_tables_are_refused_in_one_sentence(make, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        make()


def test_grids_too_fine_for_exact_arithmetic_are_refused() -> None:
    primes = (1009, 1013, 1019, 1021)
    tables = [CostTable(Curve((1, 1 + p, 2000), (0, 1, 2))) for p in primes]
    accesses = tuple(Access(f"a{i}", (0,), np.arange(2000) < 9, table=table) for i, table in enumerate(tables))
    with pytest.raises(ProblemError, match="multiples of 8"):
        Problem((Block("x", 2000),), accesses)


def _one(table: CostTable | None) -> Problem:
    return Problem((Block("x", 4, removable=False),), (Access("a", (0,), np.array([1, 0, 1, 0]), table=table),))
