"""Proves that the search over coefficients keeps its promises: never worse than uniform, repeatable, interruptible."""

from __future__ import annotations

import math

import numpy as np
import pytest

from problems import AllocationProblem, LayerTimes, TimingTable, allocation_problem
from solvers import SearchProgress, SolverError, allocate, search_allocation

NUM_LAYERS = 12
QUICK = {"num_buckets": 500, "num_random": 20, "patience": 15}


def problem(num_layers: int = NUM_LAYERS) -> AllocationProblem:
    rng = np.random.default_rng(7)
    grid = (0.0, 0.3, 0.5, 0.7, 0.9)
    layers = [
        LayerTimes(f"c{k}", grid, tuple(w * (1 - np.array(grid)))) for k, w in enumerate(rng.uniform(1, 3, num_layers))
    ]
    return allocation_problem(TimingTable(tuple(layers), sum(layer.seconds[0] for layer in layers)), 2)


def planted(choice: tuple[int, ...]) -> float:
    """The first half of the layers must not be pruned, the second half does not matter."""
    return float(sum(level**2 for level in choice[: len(choice) // 2]))


def run(score=planted, seed: int = 0, **options):
    return search_allocation(problem(), score, np.random.default_rng(seed), **{**QUICK, **options})


def test_the_search_is_never_worse_than_uniform_and_finds_what_is_planted() -> None:
    found = run()
    uniform = allocate(problem(), num_buckets=500)
    assert found.uniform_score == planted(uniform.levels)
    assert found.score == planted(found.allocation.levels) < found.uniform_score
    again = allocate(problem().weighted(found.coefficients), num_buckets=500)
    assert again == found.allocation and not found.interrupted
    assert "uniform" in str(found)


def test_a_score_that_likes_the_uniform_allocation_keeps_it() -> None:
    uniform = allocate(problem(), num_buckets=500).levels
    found = run(lambda choice: float(choice != uniform))
    assert found.allocation.levels == uniform and found.coefficients == (1.0,) * NUM_LAYERS


def test_the_same_seed_gives_the_same_search() -> None:
    assert run(seed=3) == run(seed=3)
    assert run(seed=3).coefficients != run(seed=4).coefficients


def test_a_choice_is_scored_once() -> None:
    asked: list[tuple[int, ...]] = []

    def score(choice: tuple[int, ...]) -> float:
        asked.append(choice)
        return planted(choice)

    found = run(score)
    assert len(asked) == len(set(asked)) == found.num_scored < found.num_tried


@pytest.mark.parametrize(("num_layers", "rounds"), [(1, 1), (4, 1), (20, 2), (30, 3)])
def test_a_search_without_improvement_takes_the_derived_number_of_trials(num_layers: int, rounds: int) -> None:
    """One uniform, the random ones, and `patience` for each radius from max(1, round(L / 10)) down to 1."""
    seen: list[SearchProgress] = []
    found = search_allocation(
        problem(num_layers), lambda _: 0.0, np.random.default_rng(0), progress=seen.append, num_buckets=50
    )
    assert found.num_tried == 1 + 100 + 100 * rounds == len(seen)
    assert [p.radius for p in seen] == [None] * 101 + [r for r in range(rounds, 0, -1) for _ in range(100)]
    assert [p.num_tried for p in seen] == list(range(1, len(seen) + 1))


def test_an_interrupted_search_returns_the_best_so_far() -> None:
    seen: list[float] = []

    def stop(progress: SearchProgress) -> None:
        seen.append(progress.score)
        if len(seen) == 30:
            raise KeyboardInterrupt

    found = run(progress=stop)
    assert found.interrupted and found.num_tried == 30 and found.score == min(seen) == seen[-1]


def test_an_interrupt_before_the_first_score_passes_through() -> None:
    def score(choice: tuple[int, ...]) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(score)


def test_other_exceptions_of_the_score_pass_through() -> None:
    def score(choice: tuple[int, ...]) -> float:
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        run(score)


def test_a_score_that_is_no_number_never_wins() -> None:
    uniform = allocate(problem(), num_buckets=500).levels
    assert run(lambda choice: math.nan if choice != uniform else 1.0).allocation.levels == uniform
    assert run(lambda choice: math.nan if choice == uniform else 1.0).score == 1.0
    assert run(lambda choice: math.nan).score == math.inf


@pytest.mark.parametrize("options", [{"num_random": -1}, {"patience": 0}, {"share": 2.0}, {"share": math.nan}])
def test_parameters_that_make_no_sense_are_refused(options) -> None:
    with pytest.raises(SolverError, match="give at least"):
        run(**options)
