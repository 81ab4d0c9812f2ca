"""Proves that windows are best among all orders and ranges, that bounds hold, and that no copy is left to do."""

from __future__ import annotations

import doctest
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from oracles.all_windows import least_value, losses_by_cell
from window_instances import small_problem

from problems import (
    ChannelLosses,
    Order,
    StreamAccess,
    WindowProblem,
    Windows,
    evaluate,
    evaluate_windows,
    objective_named,
    ordering_problem,
)
from problems.windows.generators import random_windows
from problems.windows.states import states_of
from problems.windows.words import cells_of_word, full_word, require_word, word_of_windows
from solvers import WINDOW_METHODS, SolverError, Status, choose_windows, solve, windows_bound
from solvers.windows.cells import CellValues, cells_of, value_of
from solvers.windows.dual import dual_bound
from solvers.windows.exact import search_paths
from solvers.windows.expansion import Expansion
from solvers.windows.gate import windows_result_of
from solvers.windows.local_search import best_insertion
from solvers.windows.projection import accesses_to_keep, projected

FOREVER = math.inf


def ignore(_: float) -> None:
    """Report nothing."""


def check_against_all_orders(seed: int) -> None:
    num_accesses, num_channels = [(2, 4), (3, 4), (3, 3), (4, 3)][seed % 4]
    problem, scores, pairs = small_problem(seed, num_accesses=num_accesses, num_channels=num_channels)
    best = least_value(scores, pairs, problem.prices, pinned=problem.pinned, full=problem.full)
    close = problem.tolerance
    for method in ("auto", "exact", "brute-force"):
        result = choose_windows(problem, method)
        assert result.value == pytest.approx(best, abs=close) and result.status is Status.OPTIMAL, method
        assert result.bound is not None and best - 2 * close <= result.bound <= result.value
    searched, constrained = choose_windows(problem, "local-search"), choose_windows(problem, "constrained")
    assert best - close <= searched.value <= constrained.value + close
    assert constrained.bound is not None and constrained.bound <= best + close
    assert windows_bound(problem) == pytest.approx(constrained.bound, abs=close)


@pytest.mark.parametrize("seed", range(60))
def test_no_order_and_no_ranges_are_better(seed: int) -> None:
    check_against_all_orders(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, 420, 60))
def test_no_order_and_no_ranges_are_better_often(first: int) -> None:
    for seed in range(first, first + 60):
        check_against_all_orders(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_four_accesses_and_four_channels(seed: int) -> None:
    problem, scores, pairs = small_problem(seed, num_accesses=4, num_channels=4, limits=False)
    best = least_value(scores, pairs, problem.prices, pinned=problem.pinned, full=problem.full)
    assert choose_windows(problem).value == pytest.approx(best, abs=problem.tolerance)


@pytest.mark.parametrize("seed", range(6))
def test_values_of_cells_are_those_of_the_definition(seed: int) -> None:
    """From moments, from the expansion, from raw scores, and by evaluating windows."""
    problem, scores, pairs = small_problem(seed, num_accesses=5, num_channels=4)
    losses = losses_by_cell(scores, pairs, 5)
    values = CellValues(problem)
    for cell, computed in enumerate(values.table):
        held = np.ones((1, 5), dtype=bool)
        held[0, list(values.bits)] = cell >> np.arange(len(values.bits)) & 1
        expected = losses[int(held[0] @ (1 << np.arange(5)))] + problem.prices[held[0]].sum(axis=0)
        expected[problem.full & ~held.all()] = np.inf
        np.testing.assert_allclose(computed, expected, atol=problem.tolerance)
        np.testing.assert_allclose(problem.values(held)[0], expected, atol=problem.tolerance)


@pytest.mark.parametrize("seed", range(8))
def test_an_insertion_is_the_best_of_all_pairs_of_places(seed: int) -> None:
    values = CellValues(random_windows(12, 5, seed=seed))
    rest = np.random.default_rng(seed).permutation(np.repeat(range(4), 2)).tolist()
    words = [
        [*rest[:i], 4, *rest[i:j], 4, *rest[j:]]
        for i, j in itertools.combinations_with_replacement(range(len(rest) + 1), 2)
    ]
    value, events = best_insertion(values, rest, 4)
    assert value == pytest.approx(min(value_of(values, word) for word in words))
    assert value == pytest.approx(value_of(values, events))


@pytest.mark.parametrize("seed", range(5))
def test_bounds_and_values_are_in_order(seed: int) -> None:
    """Constrained, windows, the dual bound over all accesses and over some, free sets; whatever nu the dual has."""
    problem = random_windows(20, 4, price=0.2 + 0.1 * (seed % 4), seed=seed)
    values, close = CellValues(problem), problem.tolerance
    constrained = choose_windows(problem, "constrained").value
    best = choose_windows(problem, "exact").value
    free = windows_bound(problem)
    assert constrained + close >= best >= free - close
    rng = np.random.default_rng(seed)
    for start in (values.always, rng.uniform(0, 1, 20) * values.always, values.table.min(axis=0)):
        settings = {"tolerance": close, "deadline": FOREVER, "report": ignore}
        found = dual_bound(values.table, values.always, start, constrained, **settings)
        assert free - close <= found.bound <= best + close
        proven = search_paths(
            values.table, values.always, found.potentials, values.events_of(full_word(problem)), constrained, **settings
        )
        assert proven.value == pytest.approx(best, abs=close) and proven.bound == pytest.approx(best, abs=close)
    for kept in ([], [1], [0, 2, 3], accesses_to_keep(problem, values.expansion, 2, values.always)):
        part = projected(problem, values.expansion, kept, values.always, FOREVER)
        assert part.num_exact == 20 and part.free_sets == pytest.approx(free, abs=close)
        found = dual_bound(part.table, part.always, part.always, constrained, **settings)
        assert free - close <= found.bound <= best + close
        nothing = projected(problem, values.expansion, kept, values.always, -FOREVER)
        assert nothing.num_exact == 0 and (nothing.table <= part.table + close).all()


@pytest.mark.parametrize("seed", range(40))
def test_bounds_and_branches_hold_for_any_table(seed: int) -> None:
    """Three accesses, values without structure, potentials that exclude little, and a word that is not good."""
    rng = np.random.default_rng(seed)
    table, always = rng.uniform(0, 1, (8, 3)) ** 2, rng.uniform(0.3, 1.5, 3)
    table[0] = always + rng.uniform(0, 1)

    def value(word: tuple[int, ...]) -> float:
        return float(np.minimum(table[cells_of(list(word))].min(axis=0), always).sum())

    words = sorted(set(itertools.permutations([0, 0, 1, 1, 2, 2])))
    best, worst = min(map(value, words)), max(words, key=value)
    settings = {"tolerance": 1e-12, "deadline": FOREVER, "report": ignore}
    start = rng.uniform(0, 1, 3) * always
    dual = dual_bound(table, always, start, value(worst), **settings)
    assert dual.bound <= best + 1e-12 and dual.value == pytest.approx(value(tuple(dual.events)))
    for potentials in (table.min(axis=0), start, always, dual.potentials):
        found = search_paths(table, always, potentials, list(worst), value(worst), **settings)
        assert found.value == pytest.approx(best) == value(tuple(found.events)) and found.bound <= best + 1e-12
    late = search_paths(table, always, dual.potentials, list(worst), value(worst), **(settings | {"deadline": 0}))
    assert late.bound == -math.inf and late.value == value(worst)


@pytest.mark.parametrize("seed", range(8))
def test_projections_hold_for_negative_prices_and_pinned_accesses(seed: int) -> None:
    problem, _, _ = small_problem(seed, num_accesses=5, num_channels=6)
    problem = problem.with_prices(problem.prices - 0.5)
    values, close = CellValues(problem), problem.tolerance
    best = choose_windows(problem, "exact").value
    for kept in ([], [0], [0, len(values.bits) - 1])[: len(values.bits)]:
        part = projected(problem, values.expansion, kept, values.always, FOREVER)
        nothing = projected(problem, values.expansion, kept, values.always, -FOREVER)
        assert (nothing.table <= part.table + close).all() and nothing.free_sets <= part.free_sets + close
        agree = np.arange(len(values.table))[:, np.newaxis] >> np.array(kept, dtype=int) & 1
        for cell, least in enumerate(part.table):
            same = (agree == cell >> np.arange(len(kept)) & 1).all(axis=1)
            np.testing.assert_allclose(least, values.table[same].min(axis=0), atol=close)
        assert part.free_sets <= best + close


@pytest.mark.parametrize("seed", range(6))
def test_the_ordering_solvers_find_no_copy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = random_windows(20, 6, seed=seed)
    full = rng.random(20) < 0.1
    accesses = [StreamAccess(own.name, own.role, own.name == "reader3" and seed % 2 == 1) for own in made.accesses]
    problem = WindowProblem(accesses, made.losses, made.prices, full)
    result = choose_windows(problem)
    ordering = ordering_problem(problem, result.windows)
    assert evaluate(ordering, Order([result.order]), objective_named("copies")).value == 0
    assert np.array_equal(ordering.stored[0], np.sort(result.order))
    for solver in ("auto", "cp-sat", "pair-of-chains"):
        assert solve(ordering, objective="copies", solver=solver).value == 0, solver
    by_place = ordering_problem(_in_order(problem, result.order), _moved(result.windows))
    assert solve(by_place, objective="copies", solver="identity").value == 0


def _in_order(problem: WindowProblem, order: np.ndarray) -> WindowProblem:
    """The stored channels of a problem, numbered by their places."""
    return WindowProblem(problem.accesses, ChannelLosses(problem.losses.moments[:, order]), problem.prices)


def _moved(windows: Windows) -> Windows:
    return Windows(np.arange(len(windows.order)), windows.starts, windows.stops)


def test_a_warm_start_is_never_left_for_worse_and_losses_are_remembered() -> None:
    problem = random_windows(30, 6, seed=2)
    result = choose_windows(problem)
    dearer = problem.with_prices(problem.prices * 1.3)
    assert dearer.losses is problem.losses
    alone = windows_result_of(dearer, result.word, method="test", seconds=0.0)
    again = choose_windows(dearer, "local-search", start=result.word, time_limit=1e-9)
    assert again.value <= alone.value + problem.tolerance
    assert choose_windows(problem, start=result.word).value == pytest.approx(result.value)
    assert word_of_windows(problem, result.windows) != ()


def test_the_same_seed_gives_the_same_windows() -> None:
    problem = random_windows(20, 5, seed=4)
    first, second = (choose_windows(problem, "local-search", seed=5) for _ in range(2))
    assert first.word == second.word and first.windows == second.windows


def test_progress_tells_of_better_values_and_bounds() -> None:
    told = []
    result = choose_windows(random_windows(40, 5, seed=0), progress=told.append)
    values = [own.value for own in told if own.value is not None]
    bounds = [own.bound for own in told if own.bound is not None]
    assert values == sorted(values, reverse=True) and bounds == sorted(bounds)
    assert values[-1] == pytest.approx(result.value) and len(values) > 1 and len(bounds) > 1


def test_many_accesses_have_values_and_a_bound() -> None:
    """More than have a table: values are computed when needed, the bound is of some accesses."""
    problem = random_windows(6, 13, images=4, seed=0)
    result = choose_windows(problem, time_limit=1.0)
    assert result.bound is not None and result.bound <= result.value <= choose_windows(problem, "constrained").value
    assert result.stats["bounded accesses"] < 13


@pytest.mark.slow
def test_twenty_accesses_and_two_thousand_channels() -> None:
    problem = random_windows(2048, 20, images=4, seed=0)
    result = choose_windows(problem, time_limit=30.0)
    assert result.bound is not None and result.value < choose_windows(problem, "constrained").value


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_six_accesses_are_proven_and_the_local_search_is_near(seed: int) -> None:
    problem = random_windows(192, 6, seed=seed)
    result = choose_windows(problem, time_limit=60.0)
    assert result.status is Status.OPTIMAL
    assert choose_windows(problem, "local-search").value <= 1.001 * result.value


def test_one_access_pinned_accesses_and_prices_that_no_channel_is_worth() -> None:
    only = WindowProblem([StreamAccess("w", "writer")], ChannelLosses(np.zeros((0, 3))), [1.0])
    assert choose_windows(only).value == 0 and len(choose_windows(only).order) == 0
    paid = WindowProblem([StreamAccess("w", "writer")], ChannelLosses(np.zeros((0, 3))), [-1.0])
    assert choose_windows(paid).value == -3 and len(choose_windows(paid).order) == 3
    problem, _, _ = small_problem(1, num_accesses=3, num_channels=4, limits=False)
    accesses = [StreamAccess(own.name, own.role, True) for own in problem.accesses]
    pinned = WindowProblem(accesses, problem.losses, problem.prices)
    for method in WINDOW_METHODS:
        result = choose_windows(pinned, method)
        assert result.word == () and result.value == pytest.approx(choose_windows(problem, "constrained").value)
    dear = problem.with_prices(np.full(3, 1e6))
    assert choose_windows(dear).value == pytest.approx(problem.losses.total.sum())
    with pytest.raises(ValueError, match="no channel is stored"):
        ordering_problem(dear, choose_windows(dear).windows)


def test_states_are_those_of_all_words() -> None:
    states = states_of(3)
    assert states.end == 26 and states.open.max() == 7 and (states.highest[:-1] >= 0).all() and states.highest[-1] == -1
    words = set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    gains = np.random.default_rng(0).uniform(0, 1, 8)
    gains[0] = 0
    best = max(gains[cells_of(list(word))].sum() for word in words)
    most = states.most_ahead(gains)
    assert len(words) == 90 and most[0] == pytest.approx(best)
    assert gains[cells_of(states.best_path(most))].sum() == pytest.approx(best)


def test_the_expansion_looks_at_some_channels_only() -> None:
    problem, _, _ = small_problem(3, num_accesses=5, num_channels=6)
    expansion = Expansion(problem)
    (own, values), *others = expansion.chunks(np.array([4, 1]))
    assert own.tolist() == [4, 1] and not others
    np.testing.assert_allclose(values.T, CellValues(problem).table[:, own])


def test_the_gate_refuses_what_is_not_so() -> None:
    problem = random_windows(6, 3)
    word = full_word(problem)
    value = windows_result_of(problem, word, method="m", seconds=0.0).value
    with pytest.raises(SolverError, match="claims the value"):
        windows_result_of(problem, word, method="m", seconds=0.0, value=value + 1)
    with pytest.raises(SolverError, match="no windows are below"):
        windows_result_of(problem, word, method="m", seconds=0.0, bound=value + 1)
    with pytest.raises(SolverError, match="lists each of the accesses"):
        windows_result_of(problem, (0, 0, 1, 1), method="m", seconds=0.0)
    full = WindowProblem(problem.accesses, problem.losses, problem.prices, np.arange(6) < 1)
    with pytest.raises(SolverError, match="not all accesses are open at once"):
        windows_result_of(full, (0, 0, 1, 1, 2, 2), method="m", seconds=0.0)
    result = windows_result_of(problem, word, method="m", seconds=0.0, bound=value)
    assert result.status is Status.OPTIMAL and result.gap == 0
    assert evaluate_windows(problem, result.windows).value == result.value
    held = cells_of_word(problem, word)[result.cells].T & (result.cells >= 0)
    assert np.array_equal(held, result.masks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "best"}, "there is no method 'best'"),
        ({"time_limit": 0}, "time_limit is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"start": [0, 0]}, "start: a word lists each"),
        ({"start": 3}, "start: a word lists each"),
        ({"start": "no"}, "start: a word"),
        ({"method": "brute-force"}, "takes at most 5 accesses"),
        ({"progress": 3}, "progress is 3"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SolverError, match=message):
        choose_windows(random_windows(4, 6), **arguments)


def test_only_window_problems_are_solved() -> None:
    with pytest.raises(SolverError, match=r"problems\.WindowProblem"):
        choose_windows("stream.json")  # type: ignore[arg-type]
    with pytest.raises(SolverError, match="at most 12 accesses"):
        choose_windows(random_windows(3, 13), "exact")
    assert require_word(random_windows(3, 2), [1, 0, 0, 1]) == (1, 0, 0, 1)


def test_the_example_of_the_page_holds() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "windows.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried and not failed
