"""Tests of problems: validation, stored channels, signature classes, restrictions, orders."""

from itertools import permutations

import numpy as np
import pytest

from problems import Access, Block, Order, Problem, ProblemError, evaluate, evaluate_batch
from problems.generators import random_concat, random_masks


def one_block(rows, **block):
    rows = np.array(rows, dtype=bool)
    accesses = tuple(Access(f"a{i}", (0,), row) for i, row in enumerate(rows))
    return Problem((Block("x", rows.shape[1], **block),), accesses)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Block("x", 0), "block 'x' has size 0"),
        (lambda: Access("a", (0,), np.zeros(3, dtype=bool)), "access 'a' keeps nothing"),
        (lambda: Access("a", (0,), np.ones((2, 2))), "'a': kept must be one-dimensional"),
        (lambda: Access("a", (0,), np.ones(3), channel_size=0), "channel_size is 0"),
        (lambda: Problem((Block("x", 3),), (Access("a", (), np.ones(3)),)), "'a' reads no block"),
        (lambda: Problem((Block("x", 3),), (Access("a", (1,), np.ones(3)),)), "reads block 1"),
        (lambda: Problem((Block("x", 3),), (Access("a", (-1,), np.ones(3)),)), "reads block -1"),
        (lambda: Problem((Block("x", 3),), (Access("a", (0,), np.ones(4)),)), "length 4, but its blocks have 3"),
        (lambda: Problem((Block("x", 3), Block("x", 3)), ()), "two block entries are named 'x'"),
        (lambda: one_block([[1, 1]]).restricted([0, 0]), "two access entries"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make, message):
    with pytest.raises(ProblemError, match=message):
        make()


def test_kept_arrays_are_private_copies():
    kept = np.array([True, False])
    access = Access("a", (0,), kept)
    kept[:] = False
    assert access.kept.tolist() == [True, False]
    with pytest.raises(ValueError, match="read-only"):
        access.kept[0] = False


def test_stored_channels_are_those_somebody_keeps():
    rows = [[0, 1, 0, 1], [0, 1, 0, 0]]
    assert one_block(rows).stored[0].tolist() == [1, 3]
    assert one_block(rows, pinned=True).stored[0].tolist() == [0, 1, 2, 3]
    assert one_block(rows, removable=False).stored[0].tolist() == [0, 1, 2, 3]


def test_a_block_that_nobody_keeps_anything_of_stores_its_first_channel():
    blocks = (Block("x", 3), Block("y", 2), Block("unread", 4))
    problem = Problem(blocks, (Access("a", (0, 1), np.array([0, 0, 0, 1, 0])),))
    assert [stored.tolist() for stored in problem.stored] == [[0], [0], [0]]


def naive_classes(problem):
    """Block and signature to channels, by dictionary; runs in pinned blocks."""
    found = []
    for b, block in enumerate(problem.blocks):
        groups = {}
        previous, run = None, 0
        for channel in problem.stored[b].tolist():
            signature = tuple(
                bool(problem.reads[r][channel]) if reader.block == b else False
                for r, reader in enumerate(problem.readers)
            )
            run += signature != previous
            previous = signature
            groups.setdefault((signature, run if block.pinned else 0), []).append(channel)
        found += [(b, signature, members) for (signature, _), members in groups.items()]
    return found


@pytest.mark.parametrize("seed", range(40))
def test_classes_are_what_a_dictionary_finds(seed):
    problem = random_concat(3, 7, 4, pinned=0.4, correlation=0.3, seed=seed)
    classes = problem.classes
    found = [
        (int(classes.block[s]), tuple(classes.signature[s].tolist()), classes.members[s].tolist())
        for s in range(len(classes))
    ]
    assert found == naive_classes(problem)
    assert classes.weight.tolist() == [len(members) for members in classes.members]


def test_orders_must_place_every_stored_channel_once():
    problem = Problem((Block("x", 3), Block("y", 2, pinned=True)), (Access("a", (0, 1), np.array([1, 0, 1, 1, 1])),))
    Order([[2, 0], [0, 1]]).require_valid(problem)
    for channels, message in (
        ([[2, 0]], "has 1 blocks"),
        ([[2, 1], [0, 1]], "'x': the order is not a permutation"),
        ([[2, 2], [0, 1]], "'x': the order is not a permutation"),
        ([[0, 1, 2], [0, 1]], "'x': the order is not a permutation"),
        ([[2, 0], [1, 0]], "'y' is pinned"),
    ):
        with pytest.raises(ProblemError, match=message):
            Order(channels).require_valid(problem)
        with pytest.raises(ProblemError, match=message):
            evaluate(problem, Order(channels))


def test_an_order_of_classes_expands_members():
    problem = one_block([[1, 0, 1, 0], [1, 1, 1, 0]])
    assert [members.tolist() for members in problem.classes.members] == [[0, 2], [1]]
    assert Order.of_classes(problem, [1, 0])[0].tolist() == [1, 0, 2]


@pytest.mark.parametrize("objective", ["copies", "span", "traffic"])
def test_the_optimum_of_a_restriction_bounds_those_accesses_in_every_order(objective):
    """For every order of the full problem, the accesses chosen cost at least the restriction's optimum."""
    for seed in range(10):
        problem = random_masks(6, 4, keep=0.5, seed=seed)
        chosen = [0, 2, 3]
        part = problem.restricted(chosen)
        count = len(problem.stored[0])
        ranks = np.array(list(permutations(range(count))))
        optimum = evaluate_batch(part, [ranks], objective).min()
        for rank in ranks[::37]:
            costs = evaluate(problem, Order([problem.stored[0][rank]]), objective).accesses
            assert sum(costs[a].cost for a in chosen) >= optimum
