"""Tests of the table of gaps: what is measured, that nothing is measured twice, and what the page says of promises."""

import csv

import pytest

from benchmarks import auto_gaps, results


@pytest.fixture
def _directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    return tmp_path


def row(**changes):
    """A row of the CSV file."""
    own = {"accesses": "16", "channels": "256", "keep": "0.5", "correlation": "0.5", "objective": "span", "seed": "0"}
    return {**own, "time_limit": "10.0", "gap": "0.02", **changes}


def test_without_options_the_promised_cells_and_the_grid_are_measured():
    cells = list(auto_gaps.cells_of(auto_gaps._parser().parse_args([])))
    promised = [own for own in cells if own["time_limit"] == "10.0"]
    assert len(promised) == len(auto_gaps.PROMISED) * 2 * 3
    grid = [own for own in cells if own["time_limit"] == "3.0"]
    assert {own["channels"] for own in grid} == {"64", "256", "1024", "2048"}
    assert {own["keep"] for own in grid} == {"0.1", "0.25", "0.5", "0.75"}
    assert len({tuple(own.values()) for own in cells}) == len(cells)
    seconds = sum(float(own["time_limit"]) for own in cells)
    assert seconds / 2 <= 20 * 60


def test_cells_that_are_there_are_not_measured_again(_directory, capsys):
    options = ["--accesses", "3", "4", "--channels", "16", "--seeds", "0", "--objectives", "span", "--time-limit", "5"]
    assert auto_gaps.main(options) == 0
    with (_directory / "auto_gaps.csv").open(newline="") as file:
        first = list(csv.DictReader(file))
    assert [own["accesses"] for own in sorted(first, key=lambda own: own["accesses"])] == ["3", "4"]
    assert all(own["status"] == "OPTIMAL" and float(own["gap"]) == 0 for own in first)
    assert auto_gaps.main([*options, "--keep", "0.5", "0.75"]) == 0
    with (_directory / "auto_gaps.csv").open(newline="") as file:
        second = list(csv.DictReader(file))
    assert second[:2] == first and len(second) == 4
    assert "keep 75%" in (_directory / "auto_gaps.md").read_text()


def test_the_page_says_which_promise_does_not_hold():
    rows = [
        row(seed="0"),
        row(seed="1", gap="0.031"),
        row(accesses="32", gap="0.079"),
        row(time_limit="3.0", gap="0.5"),
    ]
    first, second = auto_gaps.promises(rows)
    assert (first["accesses"], first["seeds"], first["largest gap"], first["holds"]) == (16, 2, "3.10%", "NO")
    assert (second["accesses"], second["holds"]) == (32, "yes")
    table = auto_gaps.grid(rows)
    assert [line["keep 50%"] for line in table] == ["50.0%", "2.6% (to 3.1%)", "7.9%"]


def test_bad_input_is_one_sentence(_directory, capsys):
    for options in (["--keep", "2"], ["--processes", "0"], ["--time-limit", "-1"]):
        assert auto_gaps.main([*options, "--accesses", "3", "--seeds", "0"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") or "error: " in error
