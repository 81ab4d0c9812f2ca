"""Tests that the signature form is the same problem, and that the hash sees what matters and nothing else."""

import dataclasses

import numpy as np
import pytest

from problems import Access, Block, Order, Problem, evaluate_batch
from problems.generators import random_concat, random_masks, with_tables
from problems.signatures import content_hash, masks_differ, signature_form

INSTANCES = [random_concat(3, 6, 5, pinned=0.4, seed=seed) for seed in range(20)] + [random_masks(30, 4, seed=1)]


def shuffled(problem, seed=0):
    """The same problem with other names, and with the channels of every unpinned block in another order."""
    rng = np.random.default_rng(seed)
    moves = [np.arange(b.size) if b.pinned else rng.permutation(b.size) for b in problem.blocks]
    pieces = iter(problem.reads)
    accesses = tuple(
        dataclasses.replace(access, name=f"x{a}", kept=np.concatenate([next(pieces)[moves[b]] for b in access.blocks]))
        for a, access in enumerate(problem.accesses)
    )
    blocks = tuple(dataclasses.replace(block, name=f"y{b}") for b, block in enumerate(problem.blocks))
    return Problem(blocks, accesses, "another")


@pytest.mark.parametrize("problem", INSTANCES, ids=str)
def test_the_signature_form_has_the_same_classes_and_is_its_own(problem):
    """Equal multisets of (block, signature, weight) make equal sets of values; pinned blocks stay as they are."""
    form = signature_form(problem)

    def multiset(p):
        c = p.classes
        return sorted((int(b), s.tobytes(), int(w)) for b, s, w in zip(c.block, c.signature, c.weight))

    assert multiset(form) == multiset(problem) and signature_form(form) == form
    for b, block in enumerate(problem.blocks):
        if block.pinned:
            for r in problem.readers_of(b):
                assert np.array_equal(form.reads[r], problem.reads[r])


def test_the_signature_form_has_the_same_values():
    """Of every order of a small problem, as a multiset, for every objective."""
    from itertools import permutations

    problem = random_masks(6, 4, seed=3)
    for objective in ("copies", "span", "traffic", "runs"):
        values = []
        for p in (problem, signature_form(problem)):
            orders = p.stored[0][np.array(list(permutations(range(len(p.stored[0])))))]
            values.append(sorted(evaluate_batch(p, [orders], objective).tolist()))
        assert values[0] == values[1]


@pytest.mark.parametrize("problem", INSTANCES, ids=str)
def test_the_hash_ignores_names_and_the_order_of_channels(problem):
    assert content_hash(shuffled(problem)) == content_hash(problem)


def test_the_hash_ignores_channels_that_are_not_stored():
    accesses = [Access("a", (0,), np.array(kept)) for kept in ([1, 0, 1], [1, 0, 1, 0])]
    first, second = (Problem((Block("x", len(access.kept)),), (access,)) for access in accesses)
    assert content_hash(first) == content_hash(second)
    unremovable = Problem((Block("x", 4, removable=False),), (accesses[1],))
    assert content_hash(unremovable) != content_hash(second)


def test_the_hash_sees_masks_sizes_tables_and_pins():
    problem = random_masks(12, 3, seed=4)
    access = problem.accesses[0]
    flipped = access.kept.copy()
    flipped[np.flatnonzero(flipped)[0]] = False
    others = [
        Problem(problem.blocks, (dataclasses.replace(access, kept=flipped), *problem.accesses[1:])),
        Problem(problem.blocks, (dataclasses.replace(access, channel_size=4), *problem.accesses[1:])),
        Problem((Block("x", 12, pinned=True),), problem.accesses),
        with_tables(problem),
        with_tables(problem, concave=False),
    ]
    assert len({content_hash(p) for p in [problem, *others]}) == 6


def test_masks_differ_only_if_an_order_can_matter():
    equal = Problem((Block("x", 4),), tuple(Access(n, (0,), np.array([1, 0, 1, 0])) for n in "ab"))
    assert not masks_differ(equal)
    assert evaluate_batch(equal, [o[np.newaxis] for o in Order.identity(equal).channels], "copies") == 0
    assert masks_differ(random_masks(8, 2, seed=1))
    pinned = Problem((Block("x", 8, pinned=True),), random_masks(8, 2, seed=1).accesses)
    assert not masks_differ(pinned)
