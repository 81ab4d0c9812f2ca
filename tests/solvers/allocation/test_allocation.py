"""Proves that the three methods find the least error, that budgets hold in seconds, and what happens at the limits."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from problems import (
    AllocationProblem,
    LayerLevels,
    LayerTimes,
    ProblemError,
    TimingTable,
    UnreachableSpeedupError,
    allocation_problem,
    sparsity_grid,
)
from solvers import ALLOCATION_METHODS, SolverError, Status, allocate
from solvers.allocation.buckets import Buckets, buckets_of
from solvers.allocation.gate import allocation_of

OTHERS = ("cp-sat", "milp")


def random_problem(seed: int) -> AllocationProblem:
    """Up to 5 layers of up to 5 levels; times need not fall or differ, some are 0; budgets from tight to wide."""
    rng = np.random.default_rng(seed)
    layers = []
    for name in "abcde"[: rng.integers(1, 6)]:
        num = int(rng.integers(1, 6))
        times = rng.random(num) if rng.random() < 0.5 else rng.integers(0, 6, num) / 10
        errors = np.sort(rng.integers(0, 30, num)) if rng.random() < 0.7 else rng.integers(0, 10**6, num)
        layers.append(LayerLevels(name, np.arange(num) / num, times, errors.tolist()))
    fastest = math.fsum(min(layer.times) for layer in layers)
    slowest = math.fsum(max(layer.times) for layer in layers)
    fixed = float(rng.random()) * (rng.random() < 0.5)
    budget = fastest + float(rng.random()) ** 2 * (slowest - fastest)
    return AllocationProblem(tuple(layers), 1 + fixed + slowest, budget, fixed, f"random-{seed}")


def all_choices(problem: AllocationProblem) -> np.ndarray:
    """Every choice; int, shape (choices, layers)."""
    return np.array(list(itertools.product(*(range(len(layer.times)) for layer in problem.layers))))


def least_error(problem: AllocationProblem, num_buckets: int) -> int | None:
    """By looking at every choice; None if none fits into the buckets."""
    buckets, choices = buckets_of(problem, num_buckets), all_choices(problem)
    times = sum(row[choices[:, layer]] for layer, row in enumerate(buckets.times))
    errors = sum(row[choices[:, layer]] for layer, row in enumerate(buckets.errors))
    fitting = times <= buckets.capacity
    return int(errors[fitting].min()) if fitting.any() else None


def check(problem: AllocationProblem, methods: tuple[str, ...], num_buckets: int) -> None:
    """All methods find the least error of all choices, within the budget in seconds."""
    expected = least_error(problem, num_buckets)
    for method in methods:
        found = allocate(problem, method, num_buckets=num_buckets)
        time = sum(layer.times[level] for layer, level in zip(problem.layers, found.levels))
        assert found.time == pytest.approx(time)
        assert problem.fixed + found.time <= (problem.fixed + problem.budget) * (1 + 1e-9)
        whole = problem.fixed + time
        assert found.speedup == pytest.approx(problem.base / whole if whole else math.inf)
        if expected is None:
            assert found.status == Status.FEASIBLE and found.levels == problem.fastest_choice
        else:
            assert found.status == Status.OPTIMAL and found.error == expected, (problem, method)


def test_the_dynamic_programme_equals_brute_force() -> None:
    """On 1000 tables, with many buckets and with few, where rounding matters."""
    for seed in range(1000):
        check(random_problem(seed), ("dynamic-programme",), 10_000 if seed % 2 else int(5 + seed % 23))


def test_all_methods_agree_on_whole_numbers() -> None:
    for seed in range(1000, 1100):
        check(random_problem(seed), OTHERS, 10_000 if seed % 2 else int(5 + seed % 23))


@pytest.mark.slow
def test_all_methods_agree_on_whole_numbers_in_a_thousand_tables() -> None:
    for seed in range(1000):
        check(random_problem(seed), OTHERS, 10_000 if seed % 2 else int(5 + seed % 23))


def large_problem(speedup: float, num_layers: int = 20) -> AllocationProblem:
    """Layers with the whole grid, whose times fall, on the whole, but are slower than dense at first."""
    rng = np.random.default_rng(num_layers)
    grid = np.array(sparsity_grid())
    layers = tuple(
        LayerTimes(f"conv{k}", grid, tuple(w * (1 - grid * (grid > 0.5)) * rng.uniform(0.9, 1.2, len(grid))))
        for k, w in enumerate(rng.uniform(0.5, 2, num_layers))
    )
    table = TimingTable(layers, 1.1 * math.fsum(layer.seconds[0] for layer in layers))
    problem = allocation_problem(table, speedup)
    return problem.weighted(rng.random(num_layers))


def test_all_methods_agree_on_a_network() -> None:
    """20 layers of 42 levels: the same least error, in time."""
    problem = large_problem(2.0)
    found = {method: allocate(problem, method) for method in ALLOCATION_METHODS}
    assert len({allocation.error for allocation in found.values()}) == 1
    assert all(allocation.time <= problem.budget and allocation.speedup >= 2.0 for allocation in found.values())


@pytest.mark.parametrize("method", ALLOCATION_METHODS)
@pytest.mark.parametrize("width", [0.1, 1 / 3, 0.007, 1e-7, 12345.678])
def test_exact_multiples_of_a_bucket_are_not_rounded_up(method: str, width: float) -> None:
    """Times k * width that sum to the budget but for rounding of the sum: the best choice takes all of it."""
    for budget in (width * 100, sum([width] * 100)):
        layers = tuple(
            LayerLevels(name, (0, 0.5, 0.9), (width * k, k * width * 0.5, 0), (0, 10, 50))
            for name, k in zip("abcd", (10, 20, 30, 40))
        )
        problem = AllocationProblem(layers, width * 200, budget)
        assert [t.max() for t in buckets_of(problem, 100).times] == [10, 20, 30, 40]
        found = allocate(problem, method, num_buckets=100)
        assert found.levels == (0, 0, 0, 0) and found.error == 0


def test_a_little_more_than_a_multiple_is_rounded_up() -> None:
    """Nearest rounding would let eleven times 1.04 buckets pass as eleven; the budget would be missed by 0.44."""
    layers = tuple(LayerLevels(f"c{k}", (0, 0.5), (1.04, 0.5), (0, 1)) for k in range(11))
    problem = AllocationProblem(layers, 20, 11)
    found = allocate(problem, num_buckets=11)
    assert found.time <= 11 and found.error == 11
    assert allocate(problem).error == 1 and allocate(problem).time <= 11


def test_random_budgets_hold_in_seconds_without_tolerance() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        layers = tuple(LayerLevels(f"c{k}", np.arange(6) / 6, rng.random(6), rng.integers(0, 99, 6)) for k in range(30))
        budget = math.fsum(min(layer.times) for layer in layers) * rng.uniform(1.05, 3)
        assert allocate(AllocationProblem(layers, 40, budget), num_buckets=200).time <= budget


def test_more_time_never_means_more_error() -> None:
    for seed in range(60):
        problem = random_problem(seed)
        slowest = math.fsum(max(layer.times) for layer in problem.layers)
        budgets = np.linspace(problem.fastest_time, slowest * 1.1, 25)
        errors = [allocate(replace(problem, budget=float(b)), num_buckets=37).error for b in budgets]
        assert errors == sorted(errors, reverse=True)


def test_no_speedup_leaves_everything_dense_where_dense_is_fastest() -> None:
    """At 0.4 many real layers are slower than dense. The target 1 is then the largest one, and met exactly."""
    rng = np.random.default_rng(0)
    layers = tuple(LayerTimes(f"c{k}", (0, 0.4, 0.5), (t, t * 1.2, t)) for k, t in enumerate(rng.random(50)))
    dense = math.fsum(layer.seconds[0] for layer in layers)
    for base in (dense, 1.37 * dense):
        for method in ALLOCATION_METHODS:
            found = allocate(allocation_problem(TimingTable(layers, base), 1), method)
            assert set(found.levels) == {0} and found.error == 0 and found.speedup == pytest.approx(1)


@pytest.mark.parametrize("method", ALLOCATION_METHODS)
def test_the_largest_speedup_works_and_a_larger_one_names_it(method: str) -> None:
    """At the largest the fastest levels are returned, where rounding up says that they do not fit."""
    for num_layers in (3, 7, 20):
        problem = large_problem(1, num_layers)
        most = problem.for_speedup(problem.max_speedup)
        assert not buckets_of(most, 10_000).leaves_a_choice
        found = allocate(most, method)
        assert found.levels == problem.fastest_choice and found.speedup == pytest.approx(problem.max_speedup)
        with pytest.raises(UnreachableSpeedupError, match=f"{math.floor(problem.max_speedup * 1e4) / 1e4:.4f}"):
            problem.for_speedup(problem.max_speedup * 1.00001)


@pytest.mark.parametrize("method", ALLOCATION_METHODS)
def test_slower_levels_of_higher_sparsity_are_not_smoothed(method: str) -> None:
    """0.4 is slower than dense here, and 0.6 slower than 0.5: neither is ever worth its error."""
    times = LayerTimes("a", (0, 0.4, 0.5, 0.6, 0.9), (1.0, 1.3, 0.6, 0.8, 0.3))
    problem = allocation_problem(TimingTable((times,), 1.0), 1)
    assert problem.layers[0].times == times.seconds
    levels = [allocate(problem.for_speedup(x), method).levels for x in (0.7, 1, 1.2, 1.6, 1.7, 3)]
    assert levels == [(0,), (0,), (2,), (2,), (4,), (4,)]


@pytest.mark.parametrize("method", ALLOCATION_METHODS)
def test_times_of_zero_and_single_levels(method: str) -> None:
    free = LayerLevels("free", (0, 0.5), (0, 0), (0, 7))
    single = LayerLevels("single", (0.3,), (1,), (5,))
    pair = LayerLevels("pair", (0, 0.5), (1, 0), (0, 3))
    assert allocate(AllocationProblem((free, single, pair), 2, 1.5), method).levels == (0, 0, 1)
    assert allocate(AllocationProblem((free, single, pair), 2, 2), method).levels == (0, 0, 0)
    assert allocate(AllocationProblem((free, pair), 2, 0), method).levels == (0, 1)


def test_ties_go_to_fewer_buckets_and_lower_levels() -> None:
    layers = tuple(LayerLevels(name, (0, 0.4, 0.5), (3, 2, 2), (1, 1, 1)) for name in "ab")
    assert allocate(AllocationProblem(layers, 6, 6)).levels == (1, 1)


@pytest.mark.parametrize("choice", [(0,), (0, 2), (0, 0)])
def test_nothing_wrong_passes_the_gate(choice) -> None:
    layers = tuple(LayerLevels(name, (0, 0.5), (2, 1), (0, 1)) for name in "ab")
    problem = AllocationProblem(layers, 4, 3)
    assert allocation_of(problem, (0, 1), method="liar").time == 3
    with pytest.raises(SolverError, match="'liar' returned"):
        allocation_of(problem, choice, method="liar")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, "choose one of dynamic-programme, cp-sat, milp"),
        ({"num_buckets": 1}, "from 2, one per layer"),
        ({"num_buckets": 2.5}, "num_buckets is 2.5"),
        ({"num_buckets": 10**7}, "to 1000000"),
        ({"time_limit": 0}, "more than 0"),
        ({"time_limit": math.nan}, "more than 0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(arguments, message: str) -> None:
    layers = tuple(LayerLevels(name, (0, 0.5), (2, 1), (0, 1)) for name in "ab")
    with pytest.raises(SolverError, match=message):
        allocate(AllocationProblem(layers, 4, 3), **arguments)


@pytest.mark.parametrize("method", OTHERS)
def test_a_time_limit_too_short_for_the_proof_is_no_result(method: str) -> None:
    """Hard numbers: times and errors that go together, so that a proof takes far more than a thousandth of a second."""
    rng = np.random.default_rng(0)
    layers = []
    for k in range(300):
        times = np.sort(rng.integers(1000, 9000, 20))[::-1].astype(float)
        layers.append(
            LayerLevels(f"c{k}", np.arange(20) / 20, times, (10_000 - times + rng.integers(0, 9, 20)).astype(int))
        )
    problem = AllocationProblem(tuple(layers), 3e6, 1.2e6)
    with pytest.raises(SolverError, match="use 'dynamic-programme'"):
        allocate(problem, method, time_limit=1e-3)


def test_buckets_of_a_problem_are_whole_and_bounded() -> None:
    layer = LayerLevels("a", (0, 0.3, 0.5, 0.9), (1e300, 1.0, 1.0000001, 0), (0, 1, 2, 3))
    found = buckets_of(AllocationProblem((layer,), 1e301, 1.0), 10)
    assert isinstance(found, Buckets)
    assert found.times[0].tolist() == [11, 10, 11, 0]
    assert buckets_of(AllocationProblem((layer,), 1e301, 0.0), 10).times[0].tolist() == [11, 11, 11, 0]


def test_the_dynamic_programme_loads_neither_torch_nor_ortools() -> None:
    script = (
        "import sys; from problems import *; from solvers import allocate\n"
        "layers = [LayerTimes(name, (0, 0.5), (0.5, 0.1)) for name in 'ab']\n"
        "print(allocate(allocation_problem(TimingTable(layers, base=1.0), 1.6)).levels)\n"
        "assert not {'torch', 'ortools'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_allocation_is_a_profile(tmp_path) -> None:
    problem = large_problem(1.5, 4)
    found = allocate(problem)
    assert problem.choice_of(found.profile) == found.levels
    assert f"error {found.error} OPTIMAL" in str(found)
    with pytest.raises(ProblemError):
        problem.choice_of({})
