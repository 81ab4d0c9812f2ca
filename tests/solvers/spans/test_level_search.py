"""Proves that sets of rows are listed completely, and that levels found by search bound the optimum and are exact."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from oracles.level_tables import Levels
from row_instances import Rows, block_of

from problems.generators import random_masks
from solvers.common.block_rows import BlockRows, span_blocks
from solvers.common.rows import span_rows
from solvers.spans.bounds import level_search, sparing_sets
from solvers.spans.bounds.level_search import LevelSearch
from solvers.spans.bounds.levels import least_total
from solvers.spans.bounds.levels_of_many_rows import FrequentLevels
from solvers.spans.bounds.set_pools import climbed, nested_sets, resized
from solvers.spans.bounds.sparing_sets import SparingSets
from solvers.spans.exact.placed_sets import cheapest_sequence


def _random(seed: int, *, most_rows: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Which classes rows do not keep, and what they count."""
    rng = np.random.default_rng([7, seed])
    spared = rng.random((int(rng.integers(1, 25)), int(rng.integers(1, most_rows)))) < rng.choice([0.4, 0.6, 0.8])
    return spared, rng.integers(0, 300, len(spared))


def _all_sets(spared: np.ndarray, value: np.ndarray, size: int) -> dict[tuple[int, ...], int]:
    """What every set of so many rows spares."""
    num = spared.shape[1]
    return {own: int(value[spared[:, list(own)].all(axis=1)].sum()) for own in combinations(range(num), size)}


def test_all_sets_that_spare_enough_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few branches go together."""
    listed = 0
    for seed in range(150):
        spared, value = _random(seed)
        monkeypatch.setattr(sparing_sets, "_MOST_BRANCHES", 1 + seed % 3)
        for size in range(1, spared.shape[1] + 1):
            truth = _all_sets(spared, value, size)
            above = int(np.median(list(truth.values())))
            found = SparingSets(spared, value, size, above, most_sets=10**6)
            found.run(deadline=np.inf)
            sets = [tuple(np.flatnonzero(own).tolist()) for own in found.members]
            assert found.complete and len(set(sets)) == len(sets)
            assert dict(zip(sets, found.values.tolist())) == {own: v for own, v in truth.items() if v > above}
            assert (np.diff(found.values) <= 0).all()
            listed += len(sets)
    assert listed > 3000


def test_a_search_that_is_cut_off_says_so_and_goes_on() -> None:
    spared, value = np.ones((5, 12), dtype=bool), np.ones(5, dtype=np.int64)
    found = SparingSets(spared, value, 6, 1, most_sets=10**6)
    found.run(deadline=0.0)
    assert not found.complete and not found.done
    found.run(deadline=np.inf)
    assert found.complete and len(found.members) == 924
    few = SparingSets(spared, value, 6, 1, most_sets=10)
    few.run(deadline=np.inf)
    assert few.done and not few.complete


def test_pools_are_sets_of_the_right_size_that_only_get_better() -> None:
    for seed in range(60):
        spared, value = _random(seed)
        rng = np.random.default_rng(seed)
        rows = np.flatnonzero(rng.random(spared.shape[1]) < 0.8)
        sets = nested_sets(spared, value, rows)
        assert sets.sum(axis=1).tolist() == list(range(1, len(rows) + 1))
        for size in range(1, len(rows) + 1):
            own = np.concatenate([resized(spared, value, sets[k : k + 1], rows, size) for k in range(len(rows))])
            better = climbed(spared, value, own, rows)
            outside = np.setdiff1d(np.arange(spared.shape[1]), rows)
            for before, after in zip(own, better):
                assert before.sum() == after.sum() == size and not after[outside].any()
                kept = [int(value[spared[:, chosen].all(axis=1)].sum()) for chosen in (before, after)]
                assert kept[0] <= kept[1]


@pytest.mark.parametrize("pooled", [12, 1])
def test_searched_levels_bound_the_least_sum_of_any_slopes_and_anchors(
    pooled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(level_search, "_POOLED_SETS", pooled)
    tight = 0
    for seed in range(150):
        rows = Rows(seed, dense=True)
        if not rows.block.meet:
            continue
        levels = LevelSearch(rows.block)
        levels.improve(deadline=np.inf)
        truth = cheapest_sequence(rows.block)
        assert truth is not None
        caps = np.full(len(rows.slope), 10**6)
        bound = int(caps.sum()) + least_total(levels, int(rows.weight.sum()), rows.slope, caps)
        assert bound <= truth.cost
        tight += bound == truth.cost
    assert tight >= 40


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 80), marks=pytest.mark.slow)])
def test_searched_levels_are_the_largest_weights_that_pairs_of_sets_spare(seeds: range) -> None:
    """Also with anchored rows, where the two sides are not alike."""
    exact = number = 0
    for seed in seeds:
        spared, value = _random(seed, most_rows=7)
        rng = np.random.default_rng(seed)
        num = spared.shape[1]
        left = (rng.random(num) < 0.3) & (seed % 2 == 0)
        right = (rng.random(num) < 0.3) & ~left & (seed % 2 == 0)
        levels = LevelSearch(BlockRows(value, ~spared, np.ones(num, dtype=np.int64), left, right))
        levels.improve(deadline=np.inf)
        for r in range(1, num + 1):
            sides = [
                [spared[:, list(own)].all(axis=1) for own in combinations(np.flatnonzero(~fixed).tolist(), r)]
                for fixed in (left, right)
            ]
            nothing = [np.zeros(len(spared), dtype=bool)]
            most = max(int(value[a | b].sum()) for a in sides[0] or nothing for b in sides[1] or nothing)
            assert levels.most[r - 1] >= most
            exact += int(levels.most[r - 1]) == most
            number += 1
    assert exact >= 0.97 * number


def test_levels_of_sixteen_accesses_are_exact_and_nearly_close_the_problem() -> None:
    block = span_blocks(random_masks(256, 16, correlation=0.5), span_rows(random_masks(256, 16, correlation=0.5)))[0]
    rows, _ = block.rows.only(np.arange(16))
    levels = LevelSearch(rows)
    levels.improve(deadline=np.inf)
    assert (levels.most == levels.reached).all()
    excess = int((rows.weight.sum() - levels.most).sum() - rows.needed.sum())
    assert excess >= 0.97 * 1013  # an order that is known


def test_searched_levels_agree_with_tables_of_all_sets() -> None:
    for seed in range(25):
        spared, value = _random(seed, most_rows=8)
        free = np.zeros(spared.shape[1], dtype=bool)
        value = value + 1
        tables = Levels(value, ~spared, free, free)
        tables.improve(deadline=np.inf)
        found = LevelSearch(block_of(value, ~spared))
        found.improve(deadline=np.inf)
        assert (found.reached <= tables.most).all() and (tables.reached <= found.most).all()


def test_no_level_is_worked_on_after_the_deadline() -> None:
    spared, value = _random(3)
    levels = LevelSearch(block_of(value, ~spared))
    before = levels.most.tolist()
    levels.improve(deadline=0.0)
    assert levels.num_searches == 0 and levels.most.tolist() == before


def test_bounds_of_another_method_are_taken_where_they_are_better() -> None:
    bits = np.stack(random_masks(64, 12, seed=1).reads).T
    block = block_of(np.ones(len(bits), dtype=np.int64), bits)
    levels, frequent = LevelSearch(block), FrequentLevels(block)
    frequent.improve(deadline=np.inf)
    before = levels.most.copy()
    levels.lower(frequent)
    assert (levels.most <= np.minimum(before, frequent.most)).all() and (levels.most < before).any()
    assert (np.diff(levels.most) <= 0).all() and (levels.single <= levels.most).all()
