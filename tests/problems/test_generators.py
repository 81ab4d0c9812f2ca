"""Tests that the generated families are what they are called, and the same for the same seed."""

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest

from problems import ProblemError, evaluate_batch
from problems.generators import (
    disjoint_masks,
    nested_masks,
    planted_intervals,
    planted_outliers,
    random_concat,
    random_masks,
    random_matrix,
    with_tables,
)

FAMILIES = [random_masks, random_matrix, planted_intervals, nested_masks, disjoint_masks]


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


def test_random_matrices_have_their_density_and_no_empty_row():
    kept = np.array([access.kept for access in random_matrix(200, 200, density=0.3, seed=1).accesses])
    assert abs(kept.mean() - 0.3) < 0.01
    sparse = random_matrix(5, 50, density=0.0, seed=1)
    assert [access.num_kept for access in sparse.accesses] == [1] * 50


def test_without_its_outliers_a_disturbed_instance_has_an_order_without_copies():
    """Some set of two of eight channels can be left out so that the others have such an order."""
    for seed in range(3):
        problem = planted_outliers(8, 5, outliers=2, seed=seed)
        kept = np.array([access.kept for access in problem.accesses])
        assert any(_consecutive(np.delete(kept, pair, axis=1)) for pair in combinations(range(8), 2))
    plain = planted_outliers(7, 4, outliers=0, seed=1)
    assert _consecutive(np.array([access.kept for access in plain.accesses]))


def _consecutive(kept):
    """Whether some order of the columns makes every row one run, by trying all."""
    orders = kept[:, np.array(list(permutations(range(kept.shape[1]))))]
    runs = orders[..., 0].astype(int) + (orders[..., 1:] & ~orders[..., :-1]).sum(axis=-1)
    return bool((runs <= 1).all(axis=0).any())


def test_grids_of_tables_can_be_thinned():
    problem = random_masks(200, 3, keep=0.5)
    full, thin = with_tables(problem), with_tables(problem, points=6)
    for few, many, access in zip(thin.accesses, full.accesses, problem.accesses):
        assert len(few.table.read.points) == 6 < len(many.table.read.points)
        assert set(few.table.read.points) <= set(many.table.read.points) and few.table.read.is_concave
        assert few.table.read.covers(access.num_kept, len(problem.stored[0]))


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
        (lambda: random_matrix(5, 2, density=1.5), "density is 1.5"),
        (lambda: planted_outliers(5, 2, outliers=6), "outliers is 6"),
        (lambda: with_tables(random_masks(5, 2), points=1), "points is 1"),
        (lambda: disjoint_masks(3, 4), "at least as many channels"),
    ],
)
def test_impossible_families_are_refused(make, message):
    with pytest.raises(ProblemError, match=message):
        make()
