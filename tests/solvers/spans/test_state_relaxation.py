"""Proves the state relaxation valid: its parts against enumeration, its bounds against the exact optimum."""

from __future__ import annotations

import time

import numpy as np
import pytest

from solvers import SolverError
from solvers.common.block_rows import BlockRows
from solvers.common.row_parts import row_parts
from solvers.spans.bounds.state_graph import EventStates, event_states
from solvers.spans.bounds.state_paths import StatePaths
from solvers.spans.bounds.states import state_relaxation
from solvers.spans.exact.placed_sets import cheapest_sequence


def random_rows(seed: int, most_classes: int, most_rows: int, *, slopes: tuple[int, int] = (0, 4)) -> BlockRows:
    rng = np.random.default_rng([4, seed])
    num_classes, num_rows = int(rng.integers(1, most_classes + 1)), int(rng.integers(1, most_rows + 1))
    bits = rng.random((num_classes, num_rows)) < rng.choice([0.2, 0.35, 0.5])
    bits[rng.integers(num_classes, size=num_rows), np.arange(num_rows)] = True
    left = rng.random(num_rows) < 0.15
    right = (rng.random(num_rows) < 0.15) & ~left
    slope = rng.integers(*slopes, num_rows) if seed % 2 else np.ones(num_rows, dtype=np.int64)
    return BlockRows(rng.integers(1, 9, num_classes), bits, slope, left, right)


def arguments(rows: BlockRows) -> tuple[np.ndarray, ...]:
    return rows.weight, rows.bits, rows.slope, rows.left, rows.right


def all_paths(states: EventStates) -> list[list[int]]:
    following: dict[int, list[int]] = {}
    for k in range(1, states.num_levels):
        for column, tails in enumerate(states.before[k].T):
            for tail in tails[tails < len(states)].tolist():
                following.setdefault(tail, []).append(int(states.bounds[k]) + column)
    done, stack = [], [[0]]
    while stack:
        path = stack.pop()
        if path[-1] == len(states) - 1:
            done.append(path)
        else:
            stack.extend([*path, after] for after in following[path[-1]])
    return done


def gain_of(rows: BlockRows, states: EventStates, path: list[int], price: np.ndarray) -> float:
    """What classes gain on a path, by the rule of `state_paths`, class by class and state by state."""
    total = 0.0
    for s, weight in enumerate(rows.weight):
        own = sum(1 << int(r) for r in np.flatnonzero(rows.bits[s]))
        for i, state in enumerate(path):
            is_open = int(states.open_rows[state])
            if own & ~is_open:
                continue
            slope = sum(int(rows.slope[r]) for r in range(rows.num_rows) if is_open >> r & 1)
            gain = max(0.0, float(price[s] - weight * slope))
            opened = int(states.opened[state] ^ states.opened[path[i - 1]]) if i else 0
            last = i + 1 == len(path)
            closed = 0 if last else int(states.closed[state] ^ states.closed[path[i + 1]])
            times = bool(opened & own) + bool(closed & own) + (not opened and not closed)
            total += times * gain
    return total


@pytest.mark.parametrize("seed", range(40))
def test_the_best_path_is_the_best_of_all_paths(seed: int) -> None:
    rows = random_rows(seed, 8, 3, slopes=(1, 4))
    states = event_states(rows.bits, rows.left, rows.right)
    price = np.random.default_rng(seed).integers(0, 60, len(rows.weight)).astype(float)
    gains = {tuple(path): gain_of(rows, states, path, price) for path in all_paths(states)}
    paths = StatePaths(rows, states, 1)
    best = paths.best(price)
    assert best.gain == max(gains.values()) == gains[tuple(best.states.tolist())]
    through = [max(gain for path, gain in gains.items() if z in path) for z in range(len(states))]
    assert paths.through(price).tolist() == through


@pytest.mark.parametrize("seed", range(40))
def test_every_order_is_a_path_through_the_states(seed: int) -> None:
    rows = random_rows(seed, 8, 4)
    states = event_states(rows.bits, rows.left, rows.right)
    known = set(zip(states.opened.tolist(), states.closed.tolist()))
    kept = rows.bits[np.random.default_rng(seed).permutation(len(rows.weight))]
    power = 1 << np.arange(rows.num_rows)
    for place in range(len(kept)):
        opened = kept[: place + 1].any(axis=0) | rows.left
        closed = ~kept[place:].any(axis=0) & ~rows.right & opened
        assert (int(opened @ power), int(closed @ power)) in known


def test_states_left_out_take_their_paths_with_them() -> None:
    rows = random_rows(8, 8, 3, slopes=(1, 4))
    states = event_states(rows.bits, rows.left, rows.right)
    paths = all_paths(states)
    for z in range(1, len(states) - 1):
        kept = np.arange(len(states)) != z
        rest = {tuple(path) for path in paths if z not in path}
        on_rest = np.isin(np.arange(len(states)), [state for path in rest for state in path])
        if rest:
            fewer = states.only(kept & on_rest)
            assert len(all_paths(fewer)) == len(rest)


@pytest.mark.parametrize("seed", range(120))
def test_the_bound_is_valid_and_the_sequence_has_its_cost(seed: int) -> None:
    rows = random_rows(seed, 12, 6)
    best = cheapest_sequence(*arguments(rows))
    found = state_relaxation(*arguments(rows))
    assert best is not None
    assert found.bound <= best.cost <= found.cost == rows.cost(found.sequence)
    assert sorted(found.sequence.tolist()) == list(range(len(rows.weight)))
    assert found.multipliers.shape == rows.weight.shape


def test_the_bound_is_tight_on_most_small_blocks() -> None:
    found = [state_relaxation(*arguments(random_rows(seed, 12, 6))) for seed in range(60)]
    assert sum(own.optimal for own in found) >= 45
    assert sum(own.bound for own in found) >= 0.98 * sum(own.cost for own in found)


@pytest.mark.parametrize("seed", range(60))
def test_parts_cost_together_what_the_block_costs(seed: int) -> None:
    rows = random_rows(seed, 10, 5)
    whole = cheapest_sequence(*arguments(rows))
    total, sequence = 0, []
    for part in row_parts(rows.bits, rows.slope, rows.left, rows.right):
        own = part.rows
        best = cheapest_sequence(
            rows.weight[part.classes],
            rows.bits[np.ix_(part.classes, own)],
            rows.slope[own],
            rows.left[own],
            rows.right[own],
        )
        assert best is not None
        total += best.cost
        sequence.extend(part.classes[best.sequence])
    assert whole is not None
    assert whole.cost == total == rows.cost(np.array(sequence))


def test_a_passed_deadline_leaves_a_valid_bound() -> None:
    rows = random_rows(7, 12, 6)
    found = state_relaxation(*arguments(rows), deadline=time.perf_counter())
    best = cheapest_sequence(*arguments(rows))
    assert best is not None
    assert found.bound <= best.cost <= found.cost


def test_too_many_states_or_too_large_costs_are_refused() -> None:
    rows = random_rows(1, 12, 6)
    with pytest.raises(SolverError, match="states"):
        state_relaxation(*arguments(rows), max_states=3)
    with pytest.raises(SolverError, match="exact"):
        state_relaxation(rows.weight * 2**50, *arguments(rows)[1:])
