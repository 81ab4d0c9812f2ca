"""Tests of problems: validation, stored channels, signature classes, restrictions, orders."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest

from problems import OBJECTIVES, Access, Block, Objective, Order, Problem, ProblemError, evaluate, evaluate_batch
from problems.generators import random_concat
from problems.instances import read_instance, write_instance
from problems.signatures import content_hash, signature_form

TABLELESS = {name: objective for name, objective in OBJECTIVES.items() if not objective.uses_tables}


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
        (lambda: Block("x", 2**24 + 1), "block 'x' has size 16777217; it can have at most 16777216"),
        (lambda: Access("a", (0,), np.ones(3), channel_size=0), "'a': channel_size is 0"),
        (lambda: Access("a", (0,), np.ones(3), channel_size=2**24 + 1), "'a': channel_size is 16777217"),
        (lambda: Access("a", (0,), np.ones(3), channel_size=1.5), "'a': channel_size is 1.5"),
        (lambda: Problem((Block("x", 3),), (Access("a", (), np.ones(3)),)), "'a' reads no block"),
        (lambda: Problem((Block("x", 3),), (Access("a", (1,), np.ones(3)),)), "reads block 1"),
        (lambda: Problem((Block("x", 3),), (Access("a", (-1,), np.ones(3)),)), "reads block -1"),
        (lambda: Problem((Block("x", 3),), (Access("a", (0,), np.ones(4)),)), "length 4, but its blocks have 3"),
        (lambda: Problem((Block("x", 3), Block("x", 3)), ()), "two block entries are named 'x'"),
        (lambda: one_block([[1, 1]]).restricted([0, 0]), "two access entries"),
        (lambda: Order([[0.5, 1]]), "channel numbers, not float64"),
        (lambda: Order([["conv1"]]), "channel numbers, not str"),
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


def all_orders(problem):
    """Per block an array of shape (num_orders, stored channels): every valid order of the problem."""
    choices = [
        [stored] if block.pinned else [np.array(p) for p in permutations(stored)]
        for block, stored in zip(problem.blocks, problem.stored, strict=True)
    ]
    return [np.array(rows) for rows in zip(*product(*choices), strict=True)]


@pytest.mark.parametrize("objective", TABLELESS)
def test_the_optimum_of_a_restriction_bounds_those_accesses_in_every_order(objective):
    """And is what they cost in the best order of the full problem, because its stored channels stay."""
    for seed in range(15):
        problem = random_concat(2, 4, 4, keep=0.5, pinned=0.2, seed=seed)
        chosen = [0, 2, 3]
        part = problem.restricted(chosen)
        assert [len(stored) for stored in part.stored] == [len(stored) for stored in problem.stored]
        optimum = evaluate_batch(part, all_orders(part), objective).min()
        same_blocks = Problem(problem.blocks, tuple(problem.accesses[a] for a in chosen))
        costs = evaluate_batch(same_blocks, all_orders(problem), objective)
        assert costs.min() == optimum


def contiguous_orders(problem):
    """As `all_orders`, but only those that keep every class contiguous."""
    classes = problem.classes
    choices = []
    for b, block in enumerate(problem.blocks):
        own = classes.of_block(b)
        sequences = [own] if block.pinned else permutations(own)
        choices.append([np.concatenate([classes.members[s] for s in sequence]) for sequence in sequences])
    return [np.array(rows) for rows in zip(*product(*choices), strict=True)]


@pytest.mark.parametrize("objective", [*TABLELESS.values(), Objective("mixed", alpha=2, gamma=3)], ids=lambda o: o.name)
def test_some_optimal_order_keeps_classes_contiguous(objective):
    """Theorems 1 and 2 of docs/model.md: several blocks, pinned and non-removable ones, blocks read twice."""
    shorter = 0
    for seed in range(40):
        problem = random_concat(2, 5 if seed % 2 else 4, 3, keep=0.5, pinned=0.3, seed=seed)
        orders, few = all_orders(problem), contiguous_orders(problem)
        shorter += len(few[0]) < len(orders[0])
        assert evaluate_batch(problem, few, objective).min() == evaluate_batch(problem, orders, objective).min()
    assert shorter > 10


def excess(problem, cost):
    """Smallest sum of `cost(span - kept)`: over all orders, and over those that keep classes contiguous."""
    return tuple(
        min(
            sum(cost(a.span - a.kept) for a in evaluate(problem, Order(rows), "span").accesses)
            for rows in zip(*orders, strict=True)
        )
        for orders in (all_orders(problem), contiguous_orders(problem))
    )


def test_costs_that_are_not_concave_or_decrease_may_split_a_class():
    """The two examples of docs/model.md: both conditions of Theorem 1 are needed."""
    blocks = (Block("x", 3, removable=False), Block("p", 1, pinned=True))
    accesses = (Access("a", (1, 0), np.array([1, 1, 0, 0])), Access("b", (0, 1), np.array([1, 0, 0, 1])))
    assert excess(Problem(blocks, accesses), lambda unwanted: unwanted**2) == (2, 4)
    assert excess(Problem(blocks, accesses), lambda unwanted: unwanted) == (2, 2)
    falling = one_block([[1, 0, 0], [0, 1, 1]])
    assert excess(falling, lambda unwanted: -unwanted) == (-1, 0)
    assert excess(falling, lambda unwanted: unwanted) == (0, 0)


def test_classes_of_a_pinned_block_are_its_runs():
    """In a pinned block equal channels apart from each other are different classes, in their fixed order."""
    problem = one_block([[1, 0, 1, 1]], pinned=True)
    assert [members.tolist() for members in problem.classes.members] == [[0], [1], [2, 3]]
    assert all(problem.classes.members[s][-1] < problem.classes.members[t][0] for s, t in pairwise(range(3)))


def test_required_channels_are_stored_though_nobody_keeps_them(tmp_path):
    """In a removable block; they survive files, the signature form and its hash, and restrictions."""
    kept = np.array([True, False, False, False, True, False])
    problem = Problem((Block("x", 6, required=(2, 5)),), (Access("a", (0,), kept),), "required")
    assert problem.stored[0].tolist() == [0, 2, 4, 5]
    write_instance(problem, tmp_path / "required.json")
    again = read_instance(tmp_path / "required.json")
    assert again == problem and again.blocks[0].required == (2, 5)
    form = signature_form(problem)
    assert [len(stored) for stored in form.stored] == [4]
    assert content_hash(form) == content_hash(problem)
    plain = Problem((Block("x", 6),), problem.accesses, "required")
    assert content_hash(plain) != content_hash(problem)
    assert problem.restricted([0]).stored[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("required", [(6,), (-1,), (2, 1), (1, 1)])
def test_required_channels_must_exist_and_ascend(required):
    with pytest.raises(ProblemError, match="block 'x'"):
        Block("x", 6, required=required)
