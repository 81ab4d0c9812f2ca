"""Tests of the pages of families: solves are kept, pictures are small and well-formed, gaps are right."""

from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import results
from benchmarks.families import __main__ as families
from benchmarks.families.pictures import Curves, picture
from benchmarks.families.standings import gaps, moments, standings, standings_text
from solvers import TrajectoryPoint

COMMAND = ["--family", "classical/random", "--per-family", "2", "--time-limit", "0.2", "--solvers", "greedy", "beam"]


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    return tmp_path


def test_pages_are_written_and_solves_are_not_repeated(directory, monkeypatch, capsys):
    command = [*COMMAND, "--objectives", "span", "runs"]
    assert families.main(command) == 0
    rows = results.read_rows(directory / "families.csv")
    assert len(rows) == 8 and {row["status"] for row in rows} >= {"refused", "FEASIBLE"}  # beam counts no runs
    page = (directory / "families" / "classical-random.md").read_text()
    assert "## span" in page and "## runs" in page and "classical-random-span.svg" in page
    drawing = (directory / "families" / "classical-random-span.svg").read_text()
    assert len(drawing) < 10_000 and ElementTree.fromstring(drawing).tag.endswith("svg")
    assert "families/classical-random.md" in (directory / "families.md").read_text()

    def unwanted(*_, **__):
        raise AssertionError("solved twice")

    monkeypatch.setattr(families, "solve", unwanted)
    assert families.main(command) == 0 and families.main([*command, "--pages"]) == 0
    assert results.read_rows(directory / "families.csv") == rows


def test_an_interrupted_run_keeps_its_rows(directory, monkeypatch, capsys):
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(*arguments, **options)

    solve = families.solve
    monkeypatch.setattr(families, "solve", interrupted)
    assert families.main([*COMMAND, "--objectives", "copies"]) == 130
    assert len(results.read_rows(directory / "families.csv")) == 2


def test_standings_survive_their_text():
    rng = np.random.default_rng(0)
    for _ in range(50):
        seconds = np.sort(rng.random(6) * 3)
        values, bounds = np.sort(rng.integers(5, 90, 6))[::-1], np.sort(rng.integers(0, 5, 6))
        points = [TrajectoryPoint(float(s), int(v), int(b)) for s, v, b in zip(seconds, values, bounds)]
        at = moments(3.0)
        found = standings(standings_text(points, at))
        assert (found[-1].value, found[-1].bound) == (points[-1].value, points[-1].bound)
        for own in found[:-1]:
            known = [point for point in points if point.seconds <= own.seconds]
            assert (own.value, own.bound) == (known[-1].value, known[-1].bound)
        above, below = gaps([found], [int(values[-1])], at)
        assert above[-1] == 0 and np.nanmin(above) >= 0 and (np.diff(above[np.isfinite(above)]) <= 0).all()
        assert (np.diff(below[np.isfinite(below)]) <= 0).all()


def test_a_picture_without_gaps_is_a_picture():
    flat = Curves(np.zeros(3), np.full(3, np.nan))
    assert ElementTree.fromstring(picture("a < b", [0.01, 0.1, 1.0], {"x": flat}))[0].text == "a < b"
