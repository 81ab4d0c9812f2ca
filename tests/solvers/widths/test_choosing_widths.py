"""Proves that bounds hold, that the exact search equals brute force, and what happens at the limits."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from problems import (
    AllocationProblem,
    LayerLevels,
    TimedWork,
    TimeTable,
    UnreachableSpeedupError,
    WidthBlock,
    WidthProblem,
    check_certificate,
)
from problems.widths.certificates import BoundCertificate
from problems.widths.generators import dense_network, inverted_network, random_widths, residual_network
from solvers import WIDTH_METHODS, SolverError, Status, allocate, choose_widths, least_time
from solvers.widths.branching import WidthSearch
from solvers.widths.gate import width_result_of
from solvers.widths.incumbent import WidthIncumbent
from solvers.widths.moves import Moves

BASELINES = ("uniform", "halp", "mdp", "spdy")


def small_problem(seed: int) -> WidthProblem:
    """3 to 6 blocks; some with sums, some without; budgets may be out of reach."""
    return random_widths(3 + seed % 4, 2 + seed % 8, sums=seed % 3 > 0, seed=seed)


def optimum(problem: WidthProblem) -> int | UnreachableSpeedupError:
    try:
        return choose_widths(problem, "brute-force").loss
    except UnreachableSpeedupError as error:
        return error


def check(problem: WidthProblem) -> bool:
    """`auto` and `lagrangian` against brute force; says whether the budget can be kept."""
    best = optimum(problem)
    if isinstance(best, UnreachableSpeedupError):
        for method in ("auto", "lagrangian"):
            with pytest.raises(UnreachableSpeedupError) as caught:
                choose_widths(problem, method)
            assert caught.value.max_speedup == best.max_speedup
        assert least_time(problem) > problem.budget
        return False
    found, filled = choose_widths(problem), choose_widths(problem, "lagrangian")
    assert (found.loss, found.bound, found.status, found.gap) == (best, best, Status.OPTIMAL, 0)
    assert filled.bound <= best <= filled.loss
    for result in (found, filled):
        assert result.certificate is not None
        assert result.certificate.bound <= check_certificate(problem, result.certificate) <= best
    return True


def test_the_exact_search_equals_brute_force_and_the_bound_is_below() -> None:
    assert 10 < sum(check(small_problem(seed)) for seed in range(40)) < 40


@pytest.mark.slow
def test_the_exact_search_equals_brute_force_on_five_hundred_problems() -> None:
    assert sum(check(small_problem(seed)) for seed in range(1000, 1500)) > 250


def check_small_memory(seed: int) -> bool:
    """With tables and labels that are too small for the problem, the search is still exact; says whether it split."""
    problem = random_widths(4 + seed % 3, 3 + seed % 8, seed=seed)
    best, entries = optimum(problem), 8 + seed % 40
    incumbent = WidthIncumbent(problem, deadline=time.perf_counter() + 60)
    while True:
        try:
            search = WidthSearch(incumbent, max_entries=entries, max_labels=1 + seed % 9)
            break
        except SolverError:  # a single table has more entries
            entries *= 2
    try:
        search.bound_and_fill()
        assert isinstance(best, UnreachableSpeedupError) or incumbent.bound <= best
        search.close()
        assert incumbent.loss == incumbent.bound == best
    except UnreachableSpeedupError:
        assert isinstance(best, UnreachableSpeedupError)
    return search.relaxed


def test_variables_with_copies_and_divided_windows_lose_nothing() -> None:
    assert sum(check_small_memory(seed) for seed in range(16)) > 4


@pytest.mark.slow
def test_variables_with_copies_and_divided_windows_lose_nothing_in_many_problems() -> None:
    assert sum(check_small_memory(seed) for seed in range(2000, 2400)) > 100


def test_constraint_programming_agrees() -> None:
    for seed in range(12):
        problem = small_problem(seed)
        best = optimum(problem)
        if isinstance(best, UnreachableSpeedupError):
            with pytest.raises(UnreachableSpeedupError):
                choose_widths(problem, "cp-sat")
        else:
            found = choose_widths(problem, "cp-sat")
            assert found.loss == found.bound == best


def test_baselines_keep_the_budget_and_prove_nothing() -> None:
    for seed in range(12):
        problem = small_problem(seed)
        best = optimum(problem)
        for method in BASELINES:
            try:
                found = choose_widths(problem, method)
            except SolverError as error:
                assert "use 'auto'" in str(error)
                continue
            assert not isinstance(best, UnreachableSpeedupError) and found.loss >= best and found.bound == 0
            assert found.time <= problem.budget


NETWORKS = {
    "residual": lambda **kw: residual_network(streams=(64, 128), depths=(2, 2), **kw),
    "inverted": lambda **kw: inverted_network(streams=(16, 24, 32), depths=(1, 2, 2), head=256, **kw),
    "squeezed": lambda **kw: inverted_network(streams=(16, 24), depths=(1, 2), head=128, squeeze=True, **kw),
    "dense": lambda **kw: dense_network(depths=(3, 4), **kw),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_are_solved_and_baselines_are_no_better(name: str) -> None:
    problem = NETWORKS[name](speedup=1.5)
    found = choose_widths(problem)
    assert found.status == Status.OPTIMAL and found.speedup >= 1.5
    assert found.certificate is not None and check_certificate(problem, found.certificate) <= found.loss
    for method in ("lagrangian", "uniform", "mdp"):
        assert choose_widths(problem, method).loss >= found.loss


@pytest.mark.slow
@pytest.mark.parametrize("speedup", [1.3, 2.0])
@pytest.mark.parametrize(
    ("make", "gap"),
    [
        (residual_network, 0.005),
        (lambda **kw: residual_network(grid=8, **kw), 0.005),
        (inverted_network, 0.005),
        (lambda **kw: inverted_network(squeeze=True, **kw), 0.005),
        (dense_network, 0.05),
    ],
    ids=["resnet50", "resnet50-fine", "mobilenetv2", "efficientnet", "densenet121"],
)
def test_networks_of_full_size_are_within_the_gap(make, gap: float, speedup: float) -> None:
    for seed in range(2):
        problem = make(speedup=speedup, seed=seed)
        found = choose_widths(problem, time_limit=60)
        assert found.gap <= gap
        assert found.certificate is not None
        assert check_certificate(problem, found.certificate) >= found.certificate.bound


def test_tables_of_one_dimension_are_the_knapsack_of_halp() -> None:
    """Every block has a time of its own: what HALP calls its groups. The dynamic programme of `allocate` agrees."""
    rng = np.random.default_rng(0)
    blocks, works, tables, layers = [], [], [], []
    for b in range(6):
        widths = tuple(range(8, 65, 8))
        losses = tuple(sorted(rng.integers(0, 1000, len(widths)).tolist(), reverse=True))
        times = rng.integers(1, 50, (1, len(widths)))
        blocks.append(WidthBlock(f"b{b}", widths, losses))
        works.append(TimedWork(f"b{b}", (), (b,), b))
        tables.append(TimeTable((0,), widths, times))
        sparsities = tuple(k / len(widths) for k in range(len(widths)))
        layers.append(LayerLevels(f"b{b}", sparsities, tuple(times[0].tolist()), losses))
    problem = WidthProblem(tuple(blocks), tuple(works), tuple(tables), 120, 300)
    found = choose_widths(problem)
    exact = allocate(AllocationProblem(tuple(layers), 300, 120), num_buckets=120)
    assert found.status == Status.OPTIMAL and found.loss == exact.error


def test_two_sided_tables_are_the_bilinear_programme_of_mdp() -> None:
    """The time of a choice is ``z_in' T z_out`` of the one-hot vectors of its widths, summed over the layers."""
    problem = residual_network(streams=(64,), depths=(2,))
    rng = np.random.default_rng(0)
    for _ in range(20):
        choice = [int(rng.integers(0, len(block.widths))) for block in problem.blocks]
        one_hot = [np.eye(len(b.widths), dtype=np.int64)[place] for b, place in zip(problem.blocks, choice)]
        time = problem.fixed
        for work in problem.works:
            sides = [one_hot[own[0]] if own else np.ones(1, dtype=np.int64) for own in (work.inputs, work.outputs)]
            time += int(sides[0] @ problem.tables[work.table].nanoseconds @ sides[1])
        assert time == problem.evaluate(choice).time


def test_moves_are_differences_of_evaluations() -> None:
    for seed in range(10):
        problem = small_problem(seed)
        moves, choice = Moves(problem), [len(block.widths) // 2 for block in problem.blocks]
        before = problem.evaluate(choice)
        after = [problem.evaluate(moves.after(choice, k)) for k in range(len(moves.block))]
        assert moves.times(choice).tolist() == [own.time - before.time for own in after]
        assert moves.losses(choice).tolist() == [own.loss - before.loss for own in after]


@pytest.mark.parametrize("method", ["auto", "cp-sat"])
def test_an_interrupted_search_returns_its_best_choice(method: str) -> None:
    problem = NETWORKS["residual"](speedup=1.5)

    def interrupt(progress) -> None:
        if progress.choice is not None:
            raise KeyboardInterrupt

    found = choose_widths(problem, method, progress=interrupt)
    assert found.time <= problem.budget

    def interrupt_at_once(progress) -> None:
        assert progress.choice is None
        raise KeyboardInterrupt

    incumbent = WidthIncumbent(problem, deadline=math.inf, progress=interrupt_at_once)
    with pytest.raises(KeyboardInterrupt):
        incumbent.raise_bound(1)


def test_progress_only_improves() -> None:
    seen = []
    found = choose_widths(NETWORKS["dense"](speedup=1.5), progress=seen.append)
    losses = [own.loss for own in seen if own.loss is not None]
    bounds = [own.bound for own in seen]
    assert losses == sorted(losses, reverse=True) and bounds == sorted(bounds)
    assert (seen[-1].loss, seen[-1].bound) == (found.loss, found.bound)


def test_extreme_numbers_are_exact() -> None:
    """Losses and times near 2^52 do not overflow, and no bound is above the optimum."""
    huge = 2**48
    blocks = tuple(WidthBlock(f"b{b}", (8, 16, 24), (huge + b, 3 * b + 1, 0)) for b in range(4))
    table = TimeTable((8, 16, 24), (8, 16, 24), np.outer([1, 2, 4], [1, 3, 5]) * (huge // 7) + 1)
    works = tuple(TimedWork(f"w{b}", (b,), (b + 1,), 0) for b in range(3))
    problem = WidthProblem(blocks, works, (table,), huge, 2**51)
    assert check(problem) and check(problem.with_budget(least_time(problem)))
    assert not check(problem.with_budget(least_time(problem) - 1))


def test_steep_multipliers_in_small_windows_do_not_overflow() -> None:
    """Losses near 2^50 against times of a few nanoseconds, and the other way round."""
    rng = np.random.default_rng(1)
    for most_loss, most_time in ((2**49, 4), (4, 2**48)):
        for _ in range(10):
            blocks = tuple(
                WidthBlock(f"b{b}", (8, 16, 24), tuple(rng.integers(0, most_loss, 3).tolist())) for b in range(4)
            )
            tables = tuple(TimeTable((8, 16, 24), (8, 16, 24), rng.integers(0, most_time, (3, 3))) for _ in range(3))
            works = tuple(TimedWork(f"w{b}", (b,), (b + 1,), b) for b in range(3))
            check(WidthProblem(blocks, works, tables, int(1.2 * most_time), 2**50))


def test_wrong_calls_and_wrong_findings_are_refused() -> None:
    problem = NETWORKS["residual"](speedup=1.5)
    with pytest.raises(SolverError, match="no method 'best'"):
        choose_widths(problem, "best")
    with pytest.raises(SolverError, match="time_limit"):
        choose_widths(problem, time_limit=0)
    with pytest.raises(SolverError, match="WidthProblem"):
        choose_widths("problem.json")  # type: ignore[arg-type]
    with pytest.raises(SolverError, match="choices at most"):
        choose_widths(residual_network(), "brute-force")
    with pytest.raises(SolverError, match="no valid choice"):
        width_result_of(problem, (0,), bound=0, method="x", seconds=0)
    with pytest.raises(SolverError, match="more than the budget"):
        width_result_of(problem, problem.full_choice, bound=0, method="x", seconds=0)
    narrow = (0,) * problem.num_blocks
    loss = problem.evaluate(narrow).loss
    with pytest.raises(SolverError, match="no loss is below"):
        width_result_of(problem, narrow, bound=loss + 1, method="x", seconds=0)
    with pytest.raises(SolverError, match="no loss is below"):
        width_result_of(problem, narrow, bound=0, method="x", seconds=0, certificate=BoundCertificate(1, 0, loss + 1))
    assert set(BASELINES) < set(WIDTH_METHODS)


def test_a_result_says_how_good_it_is() -> None:
    problem = NETWORKS["residual"](speedup=1.5)
    found = choose_widths(problem)
    assert "OPTIMAL" in str(found) and problem.choice_of(found.widths) == found.choice
    assert math.isclose(found.speedup, problem.base / found.time)
