"""Proves that every priced move is priced right, and that searches never go below an exact optimum or above a start."""

from __future__ import annotations

import numpy as np
import pytest

from problems import Order
from problems.generators import random_masks
from solvers.common.block_rows import BlockRows, class_sequence
from solvers.common.climbing import Acceptance, descend
from solvers.spans.exact.placed_sets import cheapest_sequence
from solvers.spans.heuristics.chain_moves import ChainPair
from solvers.spans.heuristics.event_moves import EventOrder
from solvers.spans.heuristics.seriation import spectral_sequences


def random_rows(seed: int, *, most_classes: int = 10, most_rows: int = 5, keep: float = 0.4) -> BlockRows:
    rng = np.random.default_rng([3, seed])
    num_classes, num_rows = int(rng.integers(1, most_classes + 1)), int(rng.integers(1, most_rows + 1))
    bits = rng.random((num_classes, num_rows)) < keep
    bits[rng.integers(num_classes, size=num_rows), np.arange(num_rows)] = True
    left = rng.random(num_rows) < 0.2
    right = (rng.random(num_rows) < 0.2) & ~left
    return BlockRows(rng.integers(1, 9, num_classes), bits, rng.integers(0, 4, num_rows), left, right)


def least_cost(rows: BlockRows) -> int:
    best = cheapest_sequence(rows)
    assert best is not None
    return best.cost


def slow_cost(rows: BlockRows, sequence: np.ndarray) -> int:
    end = np.cumsum(rows.weight[sequence])
    begin = end - rows.weight[sequence]
    cost = 0
    for r in range(rows.num_rows):
        kept = rows.bits[sequence, r]
        first = 0 if rows.left[r] else begin[kept].min()
        last = end[-1] if rows.right[r] else end[kept].max()
        cost += int(rows.slope[r] * (last - first))
    return cost


@pytest.mark.parametrize("seed", range(60))
def test_covered_widths_are_those_of_the_definition(seed: int) -> None:
    rows = random_rows(seed)
    sequence = np.random.default_rng(seed).permutation(len(rows.weight))
    assert rows.cost(sequence) == slow_cost(rows, sequence)


@pytest.mark.parametrize("seed", range(60))
def test_every_move_of_a_row_in_a_chain_is_priced_as_if_it_were_made(seed: int) -> None:
    rows, rng = random_rows(seed), np.random.default_rng(seed)
    pair = ChainPair.of_sequence(rows, rng.permutation(len(rows.weight)))
    for _ in range(3):
        assert rows.cost(pair.sequence()) <= pair.price
        for side in (0, 1):
            if len(pair.chains[side]) == 0:
                continue
            prices = pair.prices(side)
            for k, i in np.ndindex(*prices.shape):
                trial = ChainPair(rows, (pair.chains[0], pair.chains[1]))
                trial.move(side, int(pair.movable[side][i]), k)
                assert trial.price == prices[k, i]
        pair.kick(rng)


@pytest.mark.parametrize("seed", range(60))
def test_every_move_of_an_event_is_priced_as_if_it_were_made(seed: int) -> None:
    rows, rng = random_rows(seed), np.random.default_rng(seed)
    order = EventOrder.of_sequence(rows, rng.permutation(len(rows.weight)))
    for _ in range(3):
        assert rows.cost(order.sequence()) <= order.price < 2**61
        for event in order.events.tolist():
            if rows.slope[event % rows.num_rows] == 0:
                continue
            for k, price in enumerate(order.prices(event)):
                trial = EventOrder(rows, order.events)
                trial.move(event, k)
                assert min(trial.price, 2**61) == min(price, 2**61)
        order.kick(rng)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("kind", [ChainPair, EventOrder])
def test_descents_end_between_the_optimum_and_the_start(kind: type, seed: int) -> None:
    rows, rng = random_rows(seed), np.random.default_rng(seed)
    climber = kind.of_sequence(rows, rng.permutation(len(rows.weight)))
    start, least = climber.price, least_cost(rows)
    descend(climber, rng, float("inf"))
    assert least <= rows.cost(climber.sequence()) <= climber.price <= start
    assert sorted(climber.sequence().tolist()) == list(range(len(rows.weight)))


@pytest.mark.parametrize("kind", [ChainPair, EventOrder])
def test_a_state_is_restored_whole(kind: type) -> None:
    for seed in range(20):
        rows, rng = random_rows(seed), np.random.default_rng(seed)
        climber = kind.of_sequence(rows, rng.permutation(len(rows.weight)))
        state, price, sequence = climber.state(), climber.price, climber.sequence()
        climber.kick(rng)
        climber.restore(state)
        assert climber.price == price
        assert np.array_equal(climber.sequence(), sequence)


def test_events_made_from_an_order_cost_no_more_than_the_order() -> None:
    for seed in range(100):
        rows = random_rows(seed)
        sequence = np.random.default_rng(seed).permutation(len(rows.weight))
        assert EventOrder.of_sequence(rows, sequence).price <= rows.cost(sequence)


def test_descents_over_events_mostly_reach_the_optimum() -> None:
    reached = 0
    for seed in range(60):
        rows, rng = random_rows(seed), np.random.default_rng(seed)
        order = EventOrder.of_sequence(rows, rng.permutation(len(rows.weight)))
        descend(order, rng, float("inf"))
        reached += order.price == least_cost(rows)
    assert reached >= 50


def test_seriation_recovers_a_hidden_line() -> None:
    rng = np.random.default_rng(0)
    begin = rng.integers(0, 40, 30)
    line = np.arange(50)[:, np.newaxis]
    bits = (line >= begin) & (line < begin + 10)
    hidden = rng.permutation(50)
    free = np.zeros(30, dtype=bool)
    rows = BlockRows(np.ones(50, dtype=np.int64), bits[hidden], np.ones(30, dtype=np.int64), free, free)
    kept = int(bits.sum())
    assert rows.cost(spectral_sequences(rows)[0]) <= 1.05 * kept


def test_class_sequences_follow_the_channels() -> None:
    problem = random_masks(40, 3)
    order = Order([np.random.default_rng(0).permutation(problem.stored[0])])
    sequence = class_sequence(problem, order, 0)
    again = Order.of_classes(problem, sequence.tolist())
    assert np.array_equal(class_sequence(problem, again, 0), sequence)


def test_acceptance_takes_what_is_better_and_returns_to_the_best() -> None:
    acceptance = Acceptance(100, np.random.default_rng(0))
    assert acceptance.accepts(90)
    assert (acceptance.best, acceptance.idle) == (90, 0)
    assert not any(acceptance.accepts(200) for _ in range(149))
    assert not acceptance.returns()
    acceptance.accepts(200)
    assert acceptance.returns()


def test_the_cheapest_sequence_is_exact_at_prices_beyond_float64() -> None:
    """Seed 2602 of the agreement sweep: bounds on sums passed 2**52, and `auto` failed."""
    for seed in range(20):
        rows = random_rows(seed)
        high = 2**53 + 1
        dear = BlockRows(rows.weight, rows.bits, rows.slope * high, rows.left, rows.right)
        assert least_cost(dear) == high * least_cost(rows)
