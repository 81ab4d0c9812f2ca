"""Proves the consecutive-ones test, Tucker's three-row conflicts and the inequalities against enumeration."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pytest
from solver_instances import one_block, several_blocks

from solvers import solve
from solvers.common.rows import span_rows
from solvers.views.conflicts import at_most, conflicting_accesses, conflicting_rows
from solvers.views.consecutive import consecutive_order


def _contiguous(bits: np.ndarray, left: np.ndarray, right: np.ndarray) -> bool:
    for r in range(bits.shape[1]):
        kept = np.flatnonzero(bits[:, r])
        begin = 0 if left[r] else kept.min()
        end = len(bits) if right[r] else kept.max() + 1
        if end - begin != len(kept):
            return False
    return True


@pytest.mark.parametrize("density", [0.3, 0.5, 0.7])
def test_the_order_exists_exactly_if_enumeration_finds_one(density: float) -> None:
    rng = np.random.default_rng(int(10 * density))
    found = 0
    for _ in range(400):
        num_classes, num_rows = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        bits = rng.random((num_classes, num_rows)) < density
        bits[rng.integers(num_classes, size=num_rows), np.arange(num_rows)] = True
        left = rng.random(num_rows) < 0.2
        right = (rng.random(num_rows) < 0.2) & ~left
        exists = any(_contiguous(bits[list(p)], left, right) for p in permutations(range(num_classes)))
        order = consecutive_order(bits, left, right)
        assert (order is not None) == exists
        if order is not None:
            found += 1
            assert sorted(order.tolist()) == list(range(num_classes))
            assert _contiguous(bits[order], left, right)
    assert 0 < found < 400


def test_a_hidden_line_of_many_classes_is_recovered() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ends = np.sort(rng.integers(0, 201, size=(30, 2)), axis=1)
        line = np.arange(200)[:, np.newaxis]
        bits = ((line >= ends[:, 0]) & (line <= ends[:, 1]))[rng.permutation(200)]
        free = np.zeros(30, dtype=bool)
        bits = bits[:, bits.any(axis=0)]
        free = free[: bits.shape[1]]
        order = consecutive_order(bits, free, free)
        assert order is not None and _contiguous(bits[order], free, free)


def test_three_rows_conflict_exactly_if_they_contain_one_of_two_column_sets() -> None:
    columns = list(product([False, True], repeat=3))
    free = np.zeros(3, dtype=bool)
    for present in product([False, True], repeat=8):
        bits = np.array([c for c, here in zip(columns, present) if here], dtype=bool).reshape(-1, 3)
        if not bits.any(axis=0).all():
            continue
        truth = not any(_contiguous(bits[list(p)], free, free) for p in permutations(range(len(bits))))
        assert bool(conflicting_rows(bits)[0, 1, 2]) == truth
        if len(bits) >= 7:
            break


def test_conflicts_forbid_no_order_and_inequalities_cover_them() -> None:
    for seed in range(60):
        for problem in (one_block(seed, max_channels=6), several_blocks(seed, max_channels=3)):
            conflict = conflicting_accesses(problem, span_rows(problem))
            views = {
                a
                for a, cost in enumerate(solve(problem, solver="placed-sets").evaluation.accesses)
                if cost.mode == "view"
            }
            for members in combinations(sorted(views), min(3, len(views))):
                padded = (*members, members[-1], members[-1])[:3] if members else ()
                assert not members or not conflict[padded]
            limits = at_most(conflict)
            for limit, members in limits:
                assert len(views & set(members)) <= limit
            for members in map(set, zip(*(index.tolist() for index in np.nonzero(conflict)))):
                assert any(len(members & set(own)) > limit for limit, own in limits)
