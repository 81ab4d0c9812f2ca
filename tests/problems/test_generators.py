"""Tests that the generated families are what they are called, and the same for the same seed."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from problems import ProblemError, evaluate_batch
from problems.generators import disjoint_masks, nested_masks, planted_intervals, random_concat, random_masks

FAMILIES = [random_masks, planted_intervals, nested_masks, disjoint_masks]


@pytest.mark.parametrize("make", FAMILIES)
def test_the_seed_decides(make):
    assert make(20, 4, seed=5) == make(20, 4, seed=5)
    assert make(20, 4, seed=5) != make(20, 4, seed=6)


def test_concatenations_are_decided_by_the_seed():
    assert random_concat(3, 5, 4, pinned=0.5, seed=5) == random_concat(3, 5, 4, pinned=0.5, seed=5)


@pytest.mark.parametrize("make", [planted_intervals, nested_masks, disjoint_masks])
def test_planted_families_have_an_order_without_copies(make):
    """By trying every order of seven channels."""
    for seed in range(10):
        problem = make(7, 4, seed=seed)
        ranks = np.array(list(permutations(range(len(problem.stored[0])))))
        assert evaluate_batch(problem, [problem.stored[0][ranks]], "copies").min() == 0


def test_concatenations_are_of_every_kind():
    """Pinned and non-removable blocks, blocks read twice, and accesses of several blocks all come up."""
    problems = [random_concat(3, 5, 4, pinned=0.5, seed=seed) for seed in range(30)]
    blocks = [block for problem in problems for block in problem.blocks]
    reads = [access.blocks for problem in problems for access in problem.accesses]
    assert {(block.pinned, block.removable) for block in blocks} == {(p, r) for p in (0, 1) for r in (0, 1)}
    assert any(len(set(read)) < len(read) for read in reads) and {len(read) for read in reads} == {1, 2, 3}
    assert not any(block.pinned or not block.removable for block in random_concat(9, 5, 4, seed=1).blocks)


def test_every_access_keeps_its_share():
    problem = random_masks(30, 6, keep=0.4, seed=1)
    assert [access.num_kept for access in problem.accesses] == [12] * 6
    assert random_masks(5, 2, keep=0.01).accesses[0].num_kept == 1


def test_correlation_one_gives_equal_masks_and_more_correlation_fewer_classes():
    equal = random_masks(50, 4, correlation=1.0, seed=2)
    assert len({access.kept.tobytes() for access in equal.accesses}) == 1
    counts = [len(random_masks(500, 6, correlation=c, seed=2).classes) for c in (0.0, 0.7, 0.95)]
    assert counts == sorted(counts, reverse=True)


def test_disjoint_sets_do_not_meet_and_nested_ones_contain_each_other():
    kept = np.array([access.kept for access in disjoint_masks(20, 5, seed=1).accesses])
    assert kept.sum(axis=0).max() == 1 and kept.any(axis=1).all()
    kept = np.array([access.kept for access in nested_masks(20, 5, seed=1).accesses])
    assert all((inner <= outer).all() for outer, inner in pairwise(kept))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_masks(5, 2, keep=0), "keep is 0"),
        (lambda: random_masks(5, 2, correlation=2), "correlation is 2"),
        (lambda: random_masks(5, 2, keep=1.1), "keep is 1.1"),
        (lambda: random_masks(5, 2, correlation=-0.1), "correlation is -0.1"),
        (lambda: random_masks(5, 2, correlation=float("nan")), "correlation is nan"),
        (lambda: random_concat(2, 5, 2, keep=0), "keep is 0"),
        (lambda: random_concat(2, 5, 2, correlation=2), "correlation is 2"),
        (lambda: random_concat(2, 5, 2, pinned=-1), "pinned is -1"),
        (lambda: disjoint_masks(3, 4), "at least as many channels"),
    ],
)
def test_impossible_families_are_refused(make, message):
    with pytest.raises(ProblemError, match=message):
        make()
