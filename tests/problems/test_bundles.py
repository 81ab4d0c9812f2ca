"""Units of bundles that change places: the arranged problem, orders with an arrangement, and their files."""

import itertools
import json

import numpy as np
import pytest

from problems import (
    Access,
    Block,
    Bundle,
    Order,
    Problem,
    ProblemError,
    evaluate,
    order_by_names,
    places_of,
    read_instance,
    write_instance,
)
from problems.checker.checking import main
from problems.generators import grouped_masks
from problems.instances import instance_from_dict, instance_to_dict
from problems.signatures import content_hash, signature_form
from problems.solutions import Solution, read_solutions, write_solutions

A, B = Block("a", 2, removable=False), Block("b", 2, removable=False)


def measured_by_hand(problem, order, access):
    """Span of an access, from the concatenation of its blocks as they lie under an order."""
    units = order.arrangement or [np.arange(len(own.units)) for own in problem.bundles]
    instead = {
        b: bundle.units[units[i][p]][s]
        for i, bundle in enumerate(problem.bundles)
        for p, unit in enumerate(bundle.units)
        for s, b in enumerate(unit)
    }
    offsets = np.cumsum([0, *(problem.blocks[b].size for b in access.blocks)])
    waiting = {b: [k for k, own in enumerate(access.blocks) if own == b] for b in set(access.blocks)}
    kept = []
    for b in access.blocks:
        own = instead.get(b, b)
        start = offsets[waiting[own].pop(0)]
        kept += access.kept[start : start + problem.blocks[own].size][order[own]].tolist()
    positions = np.flatnonzero(kept)
    return positions[-1] - positions[0] + 1


@pytest.mark.parametrize("seed", range(8))
def test_an_order_is_evaluated_with_its_units_in_their_places(seed):
    problem, rng = grouped_masks(4, 3, 5, seed=seed), np.random.default_rng(seed)
    for _ in range(10):
        order = Order.random(problem, rng)
        spans = [access.span for access in evaluate(problem, order).accesses]
        assert spans == [measured_by_hand(problem, order, access) for access in problem.accesses]


def test_a_block_read_twice_changes_places_in_both():
    kept = np.array([1, 1, 0, 0, 0, 0, 1, 1], dtype=bool)
    problem = Problem((A, B), (Access("x", (0, 1, 0, 1), kept),), bundles=(Bundle(((0,), (1,))),))
    assert evaluate(problem, Order.identity(problem)).accesses[0].span == 8
    swapped = Order(problem.stored, [[1, 0]])
    assert evaluate(problem, swapped).accesses[0].span == 4 == measured_by_hand(problem, swapped, problem.accesses[0])


def test_orders_are_equal_if_their_units_are():
    problem = grouped_masks(3, 2, 2)
    assert Order(problem.stored, [[0, 1, 2]]) == Order.identity(problem)
    assert Order(problem.stored, [[1, 0, 2]]) != Order.identity(problem)
    assert str(Order(problem.stored, [[1, 0, 2]])).endswith("2 units in other places")


@pytest.mark.parametrize(
    ("units", "message"),
    [([[0, 1]], "bundle 0: the order is not a permutation"), ([[1, 0, 2], [0, 1]], "arranges 2 bundles")],
)
def test_orders_with_wrong_units_are_refused(units, message):
    problem = grouped_masks(3, 2, 2)
    with pytest.raises(ProblemError, match=message):
        Order(problem.stored, [*units[:-1], units[-1][::-1]]).require_valid(problem)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bundle(((0,),)), "at least two units"),
        (lambda: Bundle(((0, 1), (2,))), "equally many blocks"),
        (lambda: Bundle(((0,), (0,))), "in one unit of a bundle only"),
        (lambda: two((Bundle(((0,), (2,))),)), "does not exist"),
        (lambda: two((Bundle(((0,), (1,))), Bundle(((0,), (1,))))), "in two bundles"),
        (lambda: two((Bundle(((0,), (1,))),), reads=(0, 0, 1)), "'x' does not read all equally often"),
        (lambda: two((Bundle(((0,), (1,))),), first=Block("a", 2, pinned=True)), "one of them is pinned"),
        (lambda: two((Bundle(((0,), (1,))),), first=Block("a", 3, removable=False)), "do not store equally many"),
    ],
)
def test_units_that_are_not_alike_are_refused(make, message):
    with pytest.raises(ProblemError, match=message):
        make()


def two(bundles, reads=(0, 1), first=A):
    blocks = first, B
    width = sum(blocks[b].size for b in reads)
    return Problem(blocks, (Access("x", reads, np.ones(width)),), bundles=bundles)


def test_instances_with_bundles_come_back_from_files(tmp_path):
    problem = grouped_masks(4, 3, 4, seed=2)
    write_instance(problem, tmp_path / "x.json")
    assert read_instance(tmp_path / "x.json") == problem
    document = instance_to_dict(problem)
    assert document["version"] == 4
    plain = Problem(problem.blocks, problem.accesses, problem.name)
    assert instance_to_dict(plain)["version"] == 2
    assert len({content_hash(problem), content_hash(plain)}) == 2
    assert content_hash(signature_form(problem)) == content_hash(problem)
    for bundles in ([[0, 1]], [[[0], [True]]], "no", [[[0]]]):
        with pytest.raises(ProblemError, match="bundles"):
            instance_from_dict({**document, "bundles": bundles})


def test_solutions_and_orders_with_units_in_other_places_come_back_from_files(tmp_path, capsys):
    problem = grouped_masks(3, 2, 3, seed=1)
    order = Order.random(problem, np.random.default_rng(4))
    assert order.arrangement
    value = evaluate(problem, order, "span").value
    write_instance(problem, tmp_path / "x.json")
    write_solutions(
        {"span": Solution(order, value, None, "greedy", None, "0.1.0", "2026-11-21")}, problem, tmp_path / "x.sol.json"
    )
    found = read_solutions(tmp_path / "x.sol.json", problem)["span"].order
    assert [own.tolist() for own in found.arrangement] == [own.tolist() for own in order.arrangement]
    assert main([str(tmp_path / "x.json"), "--solution", str(tmp_path / "x.sol.json")]) == 0
    named = {block.name: own.tolist() for block, own in zip(problem.blocks, order.channels, strict=True)}
    (tmp_path / "o.json").write_text(json.dumps({"orders": named, "places": places_of(problem, order)}))
    options = ["--order", str(tmp_path / "o.json"), "--objective", "span", "--value", str(value)]
    assert main([str(tmp_path / "x.json"), *options]) == 0
    capsys.readouterr()
    (tmp_path / "o.json").write_text(json.dumps({"orders": named, "places": {"input0": "output1"}}))
    assert main([str(tmp_path / "x.json"), *options]) == 2
    assert "take the places of blocks that cannot make room" in capsys.readouterr().err


def test_names_say_the_same_as_an_arrangement():
    problem = grouped_masks(3, 2, 2)
    channels = {block.name: own for block, own in zip(problem.blocks, problem.stored, strict=True)}
    for units in itertools.permutations(range(3)):
        order = Order(problem.stored, [units])
        assert order_by_names(problem, channels, places_of(problem, order)) == order
    with pytest.raises(ProblemError, match="not all of a unit do"):
        order_by_names(problem, channels, {"input0": "input1", "input1": "input0"})
