"""The benchmark of width problems: rows from a problem of the library, its page, and that it goes on."""

from __future__ import annotations

import csv

from benchmarks import results, widths
from problems import write_width_problem
from problems.widths.generators import residual_network


def test_rows_from_a_stored_problem(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    problem = residual_network(streams=(64, 128), depths=(1, 1), speedup=1.5)
    write_width_problem(problem, tmp_path / "toy-n1-eager.json")
    how = ("--models", "toy", "--targets", "1.5", "--instances", str(tmp_path), "--time-limit", "5")
    assert widths.main(how) == 0
    with (tmp_path / "widths.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(widths.METHODS) and rows["auto"]["status"] == "OPTIMAL"
    assert all(int(row["loss"]) >= int(rows["auto"]["loss"]) for row in rows.values() if row["loss"])
    page = (tmp_path / "widths.md").read_text()
    assert "1 of 1 proven optimal" in page and "toy" in capsys.readouterr().out
    before = (tmp_path / "widths.csv").read_text()
    assert widths.main(how) == 0 and (tmp_path / "widths.csv").read_text() == before


def test_targets_out_of_reach_are_rows_without_a_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    problem = residual_network(streams=(64,), depths=(1,), speedup=1.5)
    write_width_problem(problem, tmp_path / "toy-n1-eager.json")
    how = ("--models", "toy", "--targets", "1000", "--methods", "auto", "--instances", str(tmp_path))
    assert widths.main(how) == 0
    with (tmp_path / "widths.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "none" and "out of reach" in row["bound"]
