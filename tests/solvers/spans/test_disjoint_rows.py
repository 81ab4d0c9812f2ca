"""Proves the search over settled rows right: its relations, its paths and its bounds against independent methods."""

from __future__ import annotations

import time

import numpy as np
import pytest
from row_instances import block_of

from problems.generators import random_masks
from solvers import Status, solve
from solvers.common.block_rows import BlockRows
from solvers.common.rows import merged_classes
from solvers.spans.disjoint_rows.copied_sets_search import SettledSearch, bound_by_parts
from solvers.spans.disjoint_rows.interval_orders import IntervalOrder, insertions
from solvers.spans.disjoint_rows.partial_relations import SettledOrders, Skeleton, rest_of
from solvers.spans.disjoint_rows.path_for_all_sets import NEVER, ChainSubsets, SettledPaths
from solvers.spans.disjoint_rows.path_for_relations import cheapest_meetings
from solvers.spans.exact.placed_sets import cheapest_sequence


class Block:
    """A random block of free rows, many of which share nothing; copying a row costs `copy`."""

    def __init__(self, seed: int, *, most_rows: int = 5, most_classes: int = 10) -> None:
        rng = np.random.default_rng([9, seed])
        self.num = int(rng.integers(1, most_rows + 1))
        bits = rng.random((int(rng.integers(1, most_classes + 1)), self.num)) < rng.choice([0.15, 0.25, 0.35])
        bits[rng.integers(len(bits), size=self.num), np.arange(self.num)] = True
        self.weight, self.bits, _ = merged_classes(rng.integers(1, 9, len(bits)), bits)
        self.slope = rng.integers(1, 5, self.num) if rng.random() < 0.5 else np.full(self.num, int(rng.integers(1, 4)))
        self.copy = rng.integers(0, 150, self.num)
        share = self.bits.T.astype(np.int64) @ self.bits > 0
        self.apart = (~share @ (1 << np.arange(self.num))).tolist()

    @property
    def block(self) -> BlockRows:
        return block_of(self.weight, self.bits, self.slope)

    @property
    def subsets(self) -> range:
        return range(1 << self.num)

    @property
    def extra(self) -> np.ndarray:
        """Cost of copying the rows outside every set."""
        members = np.arange(1 << self.num)[:, np.newaxis] >> np.arange(self.num) & 1
        return np.asarray((1 - members) @ self.copy)

    def rows_of(self, subset: int) -> list[int]:
        return [r for r in range(self.num) if subset >> r & 1]

    def least(self, subset: int) -> int:
        """Least cost of a set of rows, by the sets of placed classes."""
        own = self.rows_of(subset)
        if not own:
            return 0
        found = cheapest_sequence(self.block.only(np.array(own))[0])
        assert found is not None
        return found.cost

    def search(self, **options: float) -> SettledSearch:
        return SettledSearch(self.block, ChainSubsets(self.block).cost, self.extra, **options)

    def cost(self, sequence: np.ndarray, subset: int) -> int:
        """What an order of the classes costs a set of rows, by its definition."""
        ends = np.concatenate([[0], np.cumsum(self.weight[sequence])])
        total = 0
        for row in self.rows_of(subset):
            met = np.flatnonzero(self.bits[sequence, row])
            total += int(self.slope[row] * (ends[met[-1] + 1] - ends[met[0]]))
        return total


def _all_relations(block: Block, rows: list[int]) -> list[IntervalOrder]:
    found = [IntervalOrder()]
    for row in rows:
        found = [new for old in found for new in insertions(old, row, block.apart[row], first=0, last=0)]
    return found


def _settled(block: Block) -> dict[int, list[IntervalOrder]]:
    orders, found = SettledOrders(block.apart), {}
    for rows in sorted(block.subsets, key=int.bit_count):
        if rows.bit_count() >= 2:
            found[rows] = orders.of(rows)
            orders.keep(rows, found[rows])
    return found


@pytest.mark.parametrize("seed", range(30))
def test_every_relation_in_which_all_rows_are_settled_is_listed_once_or_its_mirror_image(seed: int) -> None:
    block = Block(seed)
    for rows, orders in _settled(block).items():
        expected = set()
        for relation in _all_relations(block, block.rows_of(rows)):
            after = relation.mirrored().before
            if all(a or b for a, b in zip(relation.before, after)):
                expected.add(min(relation.before, after))
        assert sorted(order.before for order in orders) == sorted(expected)
        for order in orders:
            for row in order.rows:
                part = rest_of(order, row)
                assert not part.rows or part in _settled(block)[sum(1 << r for r in part.rows)]


@pytest.mark.parametrize("seed", range(40))
def test_paths_bound_every_set_around_a_skeleton(seed: int) -> None:
    block = Block(seed)
    paths = SettledPaths(block.block)
    for rows, orders in _settled(block).items():
        for order in orders:
            prices = paths.prices(Skeleton(order))
            fewer = paths.prices(Skeleton(order), most=rows.bit_count() + 1)
            assert prices is not None and fewer is not None
            simple = all(mask.bit_count() <= 1 for mask in order.before) and len(order.rows) == 2
            for subset in block.subsets:
                if subset & rows != rows:
                    assert prices[subset] == fewer[subset] == NEVER
                    continue
                own = block.rows_of(subset)
                relation = dict.fromkeys(range(len(own)), 0)
                for row, mask in zip(order.rows, order.before):
                    relation[own.index(row)] = sum(1 << own.index(r) for r in order.rows if mask >> r & 1)
                whole = IntervalOrder(tuple(relation), tuple(relation.values()))
                truth = cheapest_meetings(block.block.only(np.array(own))[0], whole)
                assert truth is not None
                assert prices[subset] <= truth.cost
                assert not simple or prices[subset] == truth.cost
                assert fewer[subset] == (prices[subset] if len(own) <= rows.bit_count() + 1 else NEVER)


def test_sets_are_bounded_by_their_parts() -> None:
    for seed in range(60):
        block = Block(seed)
        truth = np.array([block.least(subset) for subset in block.subsets])
        exact = np.random.default_rng(seed).random(len(truth)) < 0.5
        exact[0] = True
        cost = np.where(exact, truth, 0)
        bound_by_parts(cost, exact, block.slope * (block.weight @ block.bits))
        assert (cost <= truth).all()
        assert (cost[exact] == truth[exact]).all()


def _agrees(seed: int) -> bool:
    """Whether some rows of the best set are settled."""
    block = Block(seed, most_rows=6)
    truth = min(block.least(subset) + int(block.extra[subset]) for subset in block.subsets)
    search = block.search()
    assert search.run()
    assert search.value == search.bound == truth
    if search.best is None:
        return False
    assert sorted(search.best.sequence.tolist()) == list(range(len(block.weight)))
    assert block.cost(search.best.sequence, search.subset) + block.extra[search.subset] == truth
    return True


def test_the_search_finds_the_best_set_of_rows_to_pay_for() -> None:
    assert sum(_agrees(seed) for seed in range(150)) >= 15


@pytest.mark.slow
def test_the_search_finds_the_best_set_in_thousands_of_blocks() -> None:
    assert sum(_agrees(seed) for seed in range(150, 4000)) >= 300


def test_a_search_cut_short_leaves_a_valid_bound() -> None:
    open_ones = 0
    for seed in range(60):
        block = Block(seed, most_rows=6)
        truth = min(block.least(subset) + int(block.extra[subset]) for subset in block.subsets)
        search = block.search(deadline=time.perf_counter())
        open_ones += not search.run()
        assert search.bound <= truth <= search.value
    assert open_ones >= 10


@pytest.mark.parametrize(("accesses", "channels"), [(8, 128), (12, 256)])
def test_blocks_of_which_few_channels_are_kept_are_closed(accesses: int, channels: int) -> None:
    found = solve(random_masks(channels, accesses, keep=0.1, seed=1), objective="traffic", time_limit=60)
    assert found.status is Status.OPTIMAL
