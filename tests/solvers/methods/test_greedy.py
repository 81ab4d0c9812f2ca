"""Proves that greedy is UPSCALE's Algorithm 1: hand-worked examples and a slow plain version agree with it."""

from __future__ import annotations

import numpy as np
import pytest
from solver_instances import one_block, sets, several_blocks

from problems import Access, Block, Order, Problem, evaluate
from problems.generators import random_concat, random_masks
from solvers import Greedy, greedy_order, solve
from solvers.methods.induced_paths import heaviest_paths

Channel = tuple[int, int]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        # heaviest path: {0,1} then {2,0,4}, worth 2 + 3 - 1; then {1,2}. Path: 1 | 0 shared | 2, 4
        (({0, 1}, {1, 2}, {2, 0, 4}), [1, 0, 2, 4]),
        # {0,2} and {1,2} lie inside {0,1,2}: their own path gives 0 | 2 | 1
        (({0, 1, 2}, {0, 2}, {1, 2}, {3}), [0, 2, 1, 3]),
        (({1, 2}, {1}), [1, 2]),
        (({0}, {0, 1}, {0, 1, 2}, {0, 1, 2}), [0, 1, 2]),
    ],
)
def test_worked_examples(members: tuple[set[int], ...], expected: list[int]) -> None:
    assert greedy_order(sets(*members))[0].tolist() == expected


def test_edges_between_blocks_only_where_channels_can_meet() -> None:
    # a ends with all of y, b begins with part of y: a view each needs y's channels at the seam
    blocks = (Block("x", 2), Block("y", 3), Block("z", 2))
    a = Access("a", (0, 1), np.array([1, 1, 0, 1, 1]))
    b = Access("b", (1, 2), np.array([1, 1, 0, 1, 1]))
    problem = Problem(blocks, (a, b))
    order = greedy_order(problem)
    assert order[1].tolist() == [2, 1, 0]
    assert evaluate(problem, order).value == 0


def test_channels_nobody_keeps_come_last_and_pinned_blocks_stay() -> None:
    blocks = (Block("x", 4, removable=False), Block("y", 3, pinned=True))
    problem = Problem(blocks, (Access("a", (0, 1), np.array([0, 0, 1, 1, 0, 0, 1])),))
    order = greedy_order(problem)
    assert order[0].tolist() == [2, 3, 0, 1]
    assert order[1].tolist() == [0, 1, 2]


def test_a_channel_read_twice_counts_once() -> None:
    problem = Problem((Block("x", 3),), (Access("a", (0, 0), np.array([1, 0, 1, 1, 1, 0])),))
    greedy_order(problem).require_valid(problem)


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_the_plain_version(seed: int) -> None:
    problems = [
        one_block(seed, max_channels=12, max_accesses=7),
        several_blocks(seed, max_channels=6, max_accesses=7, max_blocks=4),
        random_masks(40, 6, seed=seed, keep=[0.1, 0.2, 0.5][seed % 3], correlation=0.4),
        random_concat(4, 12, 8, seed=seed, keep=0.15),
        _chain(seed),
    ]
    for problem in problems:
        mine, plain = evaluate(problem, greedy_order(problem)), evaluate(problem, _plain_greedy(problem))
        assert (mine.copies, mine.copied_channels) == (plain.copies, plain.copied_channels)
        if all(len(set(access.blocks)) == len(access.blocks) for access in problem.accesses):
            assert greedy_order(problem) == _plain_greedy(problem)


def test_the_budget_of_the_path_search_is_deterministic_and_keeps_the_order_valid() -> None:
    problem = _chain(1, num_accesses=30)
    for budget in (0, 1, 10, 1000):
        one, two = (greedy_order(problem, max_expansions=budget) for _ in range(2))
        one.require_valid(problem)
        assert one == two
    assert solve(problem, solver=Greedy(max_expansions=5)).solver == "greedy"


def test_paths_cover_every_node_once() -> None:
    rng = np.random.default_rng(3)
    edges = rng.random((12, 12)) < 0.3
    np.fill_diagonal(edges, False)
    value = rng.integers(5, 20, size=12)
    gain = np.maximum(1, value - rng.integers(0, 5, size=(12, 12)))
    paths = heaviest_paths(gain, edges, value, max_expansions=10**6)
    assert sorted(node for path in paths for node in path) == list(range(12))


def _chain(seed: int, num_accesses: int = 9) -> Problem:
    """Accesses that overlap a few others only, so that long paths exist."""
    rng = np.random.default_rng([3, seed])
    line = rng.permutation(4 * num_accesses)
    starts = rng.integers(0, 4 * num_accesses - 8, size=num_accesses)
    members = [set(line[s : s + int(rng.integers(3, 9))].tolist()) | {int(rng.choice(line))} for s in starts]
    return sets(*members)


# A plain version on sets and lists, with full enumeration of induced paths.


def _plain_greedy(problem: Problem) -> Order:
    members: dict[int, list[Channel]] = {}
    for a, access in enumerate(problem.accesses):
        listed: list[Channel] = []
        position = 0
        for b in access.blocks:
            size = problem.blocks[b].size
            listed += [(b, c) for c in range(size) if access.kept[position + c] and (b, c) not in listed]
            position += size
        members[a] = listed
    sequence = _plain_sequence(list(members), members)
    channels = []
    for b, block in enumerate(problem.blocks):
        stored = problem.stored[b].tolist()
        placed = [c for own, c in sequence if own == b]
        channels.append(stored if block.pinned else placed + [c for c in stored if c not in placed])
    return Order(channels)


def _plain_sequence(nodes: list[int], members: dict[int, list[Channel]]) -> list[Channel]:
    inside = {a: [c for c in nodes if c != a and set(members[c]) <= set(members[a])] for a in nodes}
    roots = [
        a for a in nodes if not any(a in inside[p] and (a not in inside or p not in inside[a] or p < a) for p in nodes)
    ]
    inner: dict[int, list[Channel]] = {}
    for a in roots:
        inner[a] = _plain_sequence(inside[a], members) if inside[a] else sorted(members[a])
        inner[a] = inner[a] + [c for c in members[a] if c not in inner[a]]
    follows = {a: [c for c in roots if c != a and _plain_edge(members[a], members[c])] for a in roots}

    def heaviest(path: list[int], banned: set[int]) -> tuple[int, list[int]]:
        here = path[-1]
        best = (0, path)
        beyond = banned | {here} | set(follows[here])
        options = []
        for c in follows[here]:
            if c not in banned:
                value, whole = heaviest([*path, c], beyond)
                options.append((value - len(set(members[here]) & set(members[c])), whole))
        for option in options:
            if option[0] > best[0]:
                best = option
        return best[0] + len(members[here]), best[1]

    sequence: list[Channel] = []
    covered: set[int] = set()
    while len(covered) < len(roots):
        found = [heaviest([a], set(covered)) for a in roots if a not in covered]
        path = max(found, key=lambda option: option[0])[1]
        covered |= set(path)
        for before, here, after in zip([None, *path[:-1]], path, [*path[1:], None]):
            previous = set() if before is None else set(members[before])
            following = set() if after is None else set(members[after])
            parts = (
                [c for c in inner[here] if c in previous],
                [c for c in inner[here] if c not in previous | following],
                [c for c in inner[here] if c in following],
            )
            for part in parts:
                sequence += [c for c in part if c not in sequence]
    return sequence


def _plain_edge(first: list[Channel], second: list[Channel]) -> bool:
    shared = set(first) & set(second)
    if not shared:
        return False
    waiting = {b: {c for own, c in shared if own == b} for b in {own for own, _ in shared}}
    current = None
    for b, _ in reversed(first):
        if b == current:
            continue
        current = b
        own = {c for block, c in first if block == b}
        if own - waiting.pop(b, set()) and waiting:
            return False
    return True
