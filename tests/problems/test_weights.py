"""Proves that an access with a weight costs as much as so many equal accesses, everywhere in `problems`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from problems import (
    OBJECTIVES,
    Access,
    Block,
    CostTable,
    Curve,
    Objective,
    Order,
    Problem,
    ProblemError,
    evaluate,
    evaluate_batch,
    read_instance,
    write_instance,
)
from problems.checker.least_costs import costs_alone, least_cost
from problems.generators import grouped_masks, random_concat, with_tables
from problems.signatures import content_hash, signature_form
from problems.weights import without_weights

GOALS = [*OBJECTIVES.values(), Objective("mixed", alpha=2, gamma=3)]


def weighted(problem: Problem, seed: int) -> Problem:
    """The problem with random weights, drawn once for every access."""
    rng = np.random.default_rng(seed)
    accesses = (replace(own, weight=int(rng.integers(1, 5)), channel_size=1 + seed % 3) for own in problem.accesses)
    return replace(problem, accesses=tuple(accesses))


def repeated(problem: Problem) -> Problem:
    """Equal accesses in the place of weights, written down independently of `without_weights`."""
    accesses = []
    for access in problem.accesses:
        accesses += [replace(access, name=f"{access.name}.{k}", weight=1) for k in range(access.weight)]
    return Problem(problem.blocks, tuple(accesses), problem.name, problem.bundles)


def instances() -> list[Problem]:
    """Several blocks, pinned ones among them; tables with and without steps; bundles."""
    plain = [random_concat(3, 4, 4, pinned=0.3, seed=seed) for seed in range(12)]
    grouped = [grouped_masks(3, 3, 3, seed=seed) for seed in range(3)]
    return [weighted(with_tables(own, concave=k % 2 == 0, seed=k), k) for k, own in enumerate([*plain, *grouped])]


def random_order(problem: Problem, seed: int) -> Order:
    rng = np.random.default_rng(seed)
    channels = [s if block.pinned else rng.permutation(s) for block, s in zip(problem.blocks, problem.stored)]
    return Order(channels, [rng.permutation(len(own.units)) for own in problem.bundles])


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.name)
def test_weights_mean_repeated_accesses(goal: Objective) -> None:
    for problem in instances():
        often, plain = repeated(problem), without_weights(problem, goal)
        assert all(access.weight == 1 for access in plain.accesses)
        scale = goal.ticks_of(often) // goal.ticks_of(problem)
        for seed in range(4):
            order = random_order(problem, seed)
            own, other = evaluate(problem, order, goal), evaluate(often, order, goal)
            assert own.value * scale == other.value
            assert evaluate(plain, order, goal).value == own.value and goal.ticks_of(plain) == goal.ticks_of(problem)
            for figure in ("views", "over_reads", "pieces", "copies", "copied_channels", "span", "runs"):
                assert getattr(own, figure) == getattr(other, figure)
            if not problem.bundles:
                assert evaluate_batch(problem, [row[np.newaxis] for row in order.channels], goal) == [own.value]


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.name)
def test_the_checkers_least_costs_know_weights(goal: Objective) -> None:
    for seed in range(4):
        problem = weighted(with_tables(random_concat(2, 3, 3, seed=seed), seed=seed), seed)
        often = repeated(problem)
        scale = goal.ticks_of(often) // goal.ticks_of(problem)
        assert sum(costs_alone(problem, goal)) * scale == sum(costs_alone(often, goal))
        own, other = least_cost(problem, goal), least_cost(often, goal)
        assert own.lower <= other.upper // scale and own.upper >= -(-other.lower // scale)
        assert own.lower * scale <= other.upper


def test_weights_survive_files_and_count_in_hashes(tmp_path: Path) -> None:
    for problem in instances():
        write_instance(problem, tmp_path / "weights.json")
        assert read_instance(tmp_path / "weights.json") == problem
        plain = replace(problem, accesses=tuple(replace(own, weight=1) for own in problem.accesses))
        assert content_hash(problem) != content_hash(plain) or problem == plain
        assert [own.weight for own in signature_form(problem).accesses] == [own.weight for own in problem.accesses]
        assert [own.weight for own in problem.restricted([0]).accesses] == [problem.accesses[0].weight]
        assert hash(problem.accesses[0]) != hash(replace(problem.accesses[0], weight=9))


def test_names_of_repeated_accesses_are_new() -> None:
    kept = np.ones(2, dtype=bool)
    accesses = (Access("a", (0,), kept, weight=3), Access("a#2", (0,), kept, weight=2), Access("a#2#2", (0,), kept))
    plain = without_weights(Problem((Block("x", 2),), accesses), "runs")
    assert [own.name for own in plain.accesses] == ["a", "a#3", "a#4", "a#2", "a#2#3", "a#2#2"]


def test_weights_too_large_are_refused() -> None:
    kept, table = np.ones(2, dtype=bool), CostTable(Curve((2,), (2**30,)))
    for arguments in ({"channel_size": 2**20, "weight": 2**5}, {"table": table, "weight": 2**11}):
        with pytest.raises(ProblemError, match="too large for its costs"):
            Access("a", (0,), kept, **arguments)
    for weight in (0, -1, 1.5, "2"):
        with pytest.raises(ProblemError, match="weight"):
            Access("a", (0,), kept, weight=weight)
    many = Problem((Block("x", 2),), (Access("a", (0,), kept, weight=20_000),))
    with pytest.raises(ProblemError, match="divide the weights"):
        without_weights(many, "runs")
    assert without_weights(many, "span").accesses[0].channel_size == 20_000
    assert evaluate(many, Order([[0, 1]]), "runs").value == 20_000
