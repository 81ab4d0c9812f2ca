"""Proves that timing tables, levels and budgets mean what they say, and that bad ones are refused in one sentence."""

from __future__ import annotations

import math

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
    distinct_levels,
    error_units,
    rank_errors,
    read_sparsity_profile,
    read_timing_table,
    sparsity_grid,
    write_sparsity_profile,
    write_timing_table,
)

GOLDEN = """base
1.0
prunable
0.9
stem
0.2 0.0000
0.1 0.5000
a
0.4 0.0000
0.15 0.5000
0.1 0.9000
b
0.05 0.9000
0.3 0.0000

0.12 0.5000
"""
"""Three layers, of which the first is to stay dense; the levels of the last are not sorted."""


def table(tmp_path, text=GOLDEN):
    path = tmp_path / "times.txt"
    path.write_text(text)
    return read_timing_table(path)


def test_the_golden_table_is_read_sorted(tmp_path) -> None:
    found = table(tmp_path)
    assert (found.base, found.prunable, [layer.name for layer in found.layers]) == (1.0, 0.9, ["stem", "a", "b"])
    assert found.layers[2] == LayerTimes("b", (0, 0.5, 0.9), (0.3, 0.12, 0.05))


def test_a_layer_that_stays_dense_is_paid_for(tmp_path) -> None:
    """The claimed speedup is the true one: base over everything that the model then takes, the dense stem included."""
    problem = allocation_problem(table(tmp_path), 2, dense=["stem"])
    assert problem.fixed == pytest.approx(0.1 + 0.2)
    assert problem.budget == pytest.approx(0.5 - 0.3)
    totals = problem.evaluate((1, 2))
    true_time = 0.1 + 0.2 + 0.15 + 0.05
    assert totals.speedup == pytest.approx(1.0 / true_time) == pytest.approx(2.0)
    assert problem.fits(totals.time) and not problem.fits(problem.evaluate((1, 1)).time)
    assert problem.max_speedup == pytest.approx(1 / 0.45)


def test_timing_tables_round_trip(tmp_path) -> None:
    rng = np.random.default_rng(0)
    grid = sparsity_grid()
    layers = tuple(LayerTimes(f"{k}.conv", grid, tuple(rng.random(len(grid)))) for k in range(5))
    for before in (TimingTable(layers, 3.3), TimingTable((LayerTimes("1", (0, 0.123456), (0, 1e-7)),), 1.0, 0.5)):
        write_timing_table(before, tmp_path / "t.txt")
        assert read_timing_table(tmp_path / "t.txt") == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base\n1.0", "base\nx", "line 2: 'base' needs its seconds"),
        ("base\n1.0", "base\n0", "line 2: 'base' needs its seconds"),
        ("base\n1.0", "base\n-1", "line 2: 'base' needs its seconds"),
        ("base\n1.0", "base\nnan", "line 2: 'base' needs its seconds"),
        ("prunable", "a", "line 3: 'a' stands where a line 'prunable'"),
        (GOLDEN, "", "ends where a line 'base' should be"),
        (GOLDEN, "base\n1\nprunable\n", "line 3: 'prunable' needs its seconds"),
        (GOLDEN, "base\n1\nprunable\n1\n", "lists no layers"),
        ("stem\n", "", "line 5: a level before the first layer"),
        ("0.1 0.5000", "0.1 0.5000 9", "line 7: '0.1 0.5000 9' is neither"),
        ("0.1 0.5000", "0.1 x", "line 7: '0.1 x' is neither"),
        ("0.1 0.5000", "nan 0.5", "line 7: 'nan 0.5' is neither"),
        ("0.1 0.5000", "-0.1 0.5", "line 7: -0.1 seconds"),
        ("0.1 0.5000", "0.1 1.0", "line 7: 0.1 seconds at sparsity 1.0"),
        ("0.1 0.5000", "0.1 0", "line 5: layer 'stem' has sparsity 0.0 twice"),
        ("0.2 0.0000\n", "", "line 5: layer 'stem' has no level of sparsity 0.0000"),
        ("0.1 0.5000", "0.1", "line 7: layer '0.1' has no levels.*lacks its sparsity"),
        ("0.15 0.5000", "0.15", "line 10: layer '0.15' has no level of sparsity 0.0000.*lacks its sparsity"),
        ("a\n", "stem\n", "'stem' is listed twice"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path, old: str, new: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        table(tmp_path, GOLDEN.replace(old, new, 1))


def test_files_that_cannot_be_read_are_named(tmp_path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    for read in (read_timing_table, read_sparsity_profile):
        with pytest.raises(ProblemError, match="cannot read"):
            read(tmp_path / "none")
        with pytest.raises(ProblemError, match="no text file"):
            read(tmp_path / "b")


def test_profiles_round_trip_to_four_decimals(tmp_path) -> None:
    path = tmp_path / "profile.txt"
    write_sparsity_profile({"conv1": 0, "layer1.0.conv1": 0.45838}, path)
    assert path.read_text() == "0.0000 conv1\n0.4584 layer1.0.conv1\n"
    assert read_sparsity_profile(path) == {"conv1": 0.0, "layer1.0.conv1": 0.4584}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5 a\n0.5 a\n", "line 2: layer 'a' occurs twice"),
        ("\n0.5\n", "line 2: '0.5' is not"),
        ("a 0.5\n", "line 1: 'a 0.5' is not"),
        ("1.0 a\n", "line 1: '1.0 a' is not"),
        ("nan a\n", "line 1: 'nan a' is not"),
        ("0.5 a b\n", "line 1: '0.5 a b' is not"),
        ("", "lists no layers"),
    ],
)
def test_a_damaged_profile_is_refused_with_its_line(tmp_path, text: str, message: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(ProblemError, match=message):
        read_sparsity_profile(tmp_path / "p")


@pytest.mark.parametrize("profile", [{}, {"a b": 0.5}, {"a": 0.99999}, {"a": -0.5}, {"a": math.nan}])
def test_no_profile_is_written_that_cannot_be_read(tmp_path, profile) -> None:
    with pytest.raises(ProblemError):
        write_sparsity_profile(profile, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_levels_of_equal_counts_collapse_as_often_as_derived() -> None:
    """The 42 levels leave 11 to 40 distinct counts where the number kept is rounded to the nearest, half up."""
    grid = sparsity_grid()
    left = [
        len(distinct_levels([max(1, math.floor((1 - s) * n + 0.5)) for s in grid])) for n in (16, 32, 64, 128, 256, 512)
    ]
    assert left == [11, 17, 24, 31, 36, 40]


def test_dropped_levels_keep_the_ranks_of_those_that_stay() -> None:
    times = LayerTimes("a", (0, 0.2, 0.4, 0.6, 0.8), (5, 4, 4, 3, 1))
    problem = allocation_problem(TimingTable((times,), 5), counts={"a": (4, 4, 3, 3, 1)})
    assert problem.layers[0].sparsities == (0, 0.4, 0.8)
    assert problem.layers[0].errors == rank_errors((0, 2, 4), 5) == (0, 250_000, 1_000_000)


def test_ranks_may_be_counted_in_a_grid_of_which_the_table_has_some_levels() -> None:
    times = LayerTimes("a", (0, 0.4584, 0.99), (5, 4, 1))
    problem = allocation_problem(TimingTable((times,), 5), grid=sparsity_grid(), coefficients={"a": 0.5})
    assert problem.layers[0].errors == rank_errors((0, 2, 41), 42, 0.5)
    with pytest.raises(ProblemError, match="none of the 2 levels"):
        allocation_problem(TimingTable((times,), 5), grid=(0, 0.99))


def test_a_target_out_of_reach_is_refused_with_the_largest(tmp_path) -> None:
    with pytest.raises(UnreachableSpeedupError, match=r"2\.2222") as caught:
        allocation_problem(table(tmp_path), 2.23, dense=["stem"])
    problem = allocation_problem(table(tmp_path), caught.value.max_speedup, dense=["stem"])
    assert problem.fits(problem.fastest_time)
    for speedup in (3, 1e9):
        with pytest.raises(UnreachableSpeedupError):
            problem.for_speedup(speedup)


@pytest.mark.parametrize("speedup", [0, -1, math.nan, math.inf])
def test_a_speedup_that_is_no_number_above_zero_is_refused(tmp_path, speedup) -> None:
    with pytest.raises(ProblemError, match="give a number above 0"):
        allocation_problem(table(tmp_path), speedup)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dense": ["x"]}, "dense names layer 'x'"),
        ({"counts": {"x": [1]}}, "counts names layer 'x'"),
        ({"coefficients": {"x": 1}}, "coefficients names layer 'x'"),
        ({"dense": ["stem", "a", "b"]}, "leave at least one"),
        ({"counts": {"a": [1]}}, "3 levels in the table and 1 counts"),
        ({"counts": {"a": [4, 1, 2]}}, "rise and fall"),
        ({"coefficients": {"a": -1}}, "give numbers from 0"),
    ],
)
def test_arguments_that_do_not_fit_the_table_are_refused(tmp_path, arguments, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        allocation_problem(table(tmp_path), 1.5, **arguments)


def test_layers_slower_than_their_model_are_refused() -> None:
    layers = (LayerTimes("a", (0,), (0.7,)), LayerTimes("b", (0,), (0.7,)))
    with pytest.raises(ProblemError, match="more than the 1 s of the whole model"):
        allocation_problem(TimingTable(layers, 1.0), 1)
    assert allocation_problem(TimingTable(layers, 1.0), 1, dense=["b"]).fixed == pytest.approx(0.3)


LAYER = {"name": "a", "sparsities": (0, 0.5), "times": (2, 1), "errors": (0, 5)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"sparsities": (0.5, 0)},
        {"sparsities": (0, 0)},
        {"sparsities": (0, 1)},
        {"sparsities": (0, math.nan)},
        {"sparsities": (0,)},
        {"times": (2, -1)},
        {"times": (2, math.inf)},
        {"errors": (0, 0.5)},
        {"errors": (0, -1)},
        {"errors": (0,)},
        {"sparsities": (), "times": (), "errors": ()},
    ],
)
def test_levels_that_make_no_sense_are_refused(wrong) -> None:
    LayerLevels(**LAYER)
    with pytest.raises(ProblemError):
        LayerLevels(**{**LAYER, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"layers": ()}, {"base": 0}, {"base": math.nan}, {"fixed": -1}, {"budget": math.nan}, {"budget": 0.5}],
)
def test_problems_that_make_no_sense_are_refused(wrong) -> None:
    right = {"layers": (LayerLevels(**LAYER),), "base": 3, "budget": 2}
    AllocationProblem(**right)
    with pytest.raises(ProblemError):
        AllocationProblem(**{**right, **wrong})
    with pytest.raises(ProblemError, match="names must be unique"):
        AllocationProblem(right["layers"] * 2, base=3, budget=4)


@pytest.mark.parametrize("choice", [(), (0, 0), (2,), (-1,), (0.0,)])
def test_choices_that_do_not_fit_are_refused(choice) -> None:
    with pytest.raises(ProblemError):
        AllocationProblem((LayerLevels(**LAYER),), base=3, budget=2).evaluate(choice)


def test_profiles_and_choices_are_the_same(tmp_path) -> None:
    problem = allocation_problem(table(tmp_path), 1.5)
    assert problem.profile((0, 1, 2)) == {"stem": 0.0, "a": 0.5, "b": 0.9}
    assert problem.choice_of({"stem": 0.0, "a": 0.50001, "b": 0.9, "other": 0.1}) == (0, 1, 2)
    with pytest.raises(ProblemError, match="lacks layer 'a'"):
        problem.choice_of({"stem": 0.0})
    with pytest.raises(ProblemError, match="none of the 2 levels"):
        problem.choice_of({"stem": 0.1, "a": 0.5, "b": 0.9})


def test_weights_of_layers_multiply_errors(tmp_path) -> None:
    problem = allocation_problem(table(tmp_path), 1.5).weighted((0, 0.5, 1))
    assert [layer.errors for layer in problem.layers] == [(0, 0), (0, 125_000, 500_000), (0, 250_000, 1_000_000)]
    for wrong in ((1, 1), (1, 1, -1), (1, 1, math.nan)):
        with pytest.raises(ProblemError):
            problem.weighted(wrong)


@pytest.mark.parametrize("arguments", [(0, 0.9, 4), (0.5, 0.4, 4), (0.4, 1, 4), (0.4, 0.9, 0), (0.4, 0.41, 400)])
def test_grids_that_make_no_sense_are_refused(arguments) -> None:
    with pytest.raises(ProblemError):
        sparsity_grid(*arguments)


@pytest.mark.parametrize("error", [-1.0, math.nan, math.inf, 1e12])
def test_errors_beyond_the_scale_are_refused(error) -> None:
    with pytest.raises(ProblemError):
        error_units([error])
