import csv

import pytest
import torch

from benchmarks import results
from benchmarks.accuracy import cells
from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.cells import Cell, cells_of
from benchmarks.accuracy.equal_latency import counted, differences
from benchmarks.accuracy.learning import learn, train_dense
from benchmarks.accuracy.tables import page
from upscale_opt import MaskError

SHORT = {"network": "residual", "seed": "0", "method": "l2", "status": "ok", "dense": "98.0", "of": "10", "kept": "5"}


def row(mode, amount, exact, tuned, seed="0"):
    found = {**SHORT, "seed": seed, "mode": mode, "amount": amount, "exact": exact, "greedy": exact}
    return {**found, "greedy_copies": "3", "exact_copies": "0", "pruned": "10", "reestimated": "50", "tuned": tuned}


def test_what_is_learnt_is_learnt_for_inputs_only():
    found = cells_of(["residual"], [0], ["l2", "bip"], cells.MODES, ["0.5"])
    assert [(own.method, own.mode) for own in found] == [
        ("l2", "input"),
        ("l2", "constrained"),
        ("l2", "output"),
        ("bip", "input"),
    ]


def test_modes_are_compared_at_equal_latency():
    rows = [row("constrained", "0.5", "0.5", "90", seed) for seed in "012"]
    rows += [row("input", "0.3", "0.75", tuned, seed) for seed, tuned in zip("012", ("96", "97", "98"), strict=True)]
    rows += [row("input", "0.9", "0.4", "99", seed) for seed in "012"]  # faster than all that is constrained
    found = {(own.amount, own.export, own.stage): own for own in differences(rows)}
    assert {key[0] for key in found} == {"0.3"}
    own = found["0.3", "exact", "tuned"]
    assert own.points == (2.0, 3.0, 4.0)
    assert own.verdict == "better"
    assert found["0.3", "exact", "reestimated"].verdict == "worse"  # 50 where the line from 98 to 50 has 74
    counts = {(own["stage"], own["export"]): own for own in counted(differences(rows))}
    assert counts["tuned", "exact"]["better"] == 1
    text = page(rows, "command", "picture.png")
    assert "better than constrained pruning as fast in 1 of 1 comparisons" in text
    assert "| residual | l2 | input | 0.3 | 3 | 0.50 ± 0.00 | 10.0 ± 0.0 |" in text


@pytest.fixture
def brief(monkeypatch):
    """One epoch of everything."""
    pytest.importorskip("sklearn")
    for name in ("DENSE", "TUNING"):
        short = cells.Recipe(epochs=1, seed=getattr(cells, name).seed)
        monkeypatch.setattr(f"benchmarks.accuracy.learning.{name}", short)


@pytest.mark.slow
def test_command_resumes_measures_and_draws(brief, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setattr("benchmarks.accuracy.__main__.each_row", lambda own, work, jobs: _in_turn(own, work))
    options = [
        "--networks",
        "inverted",
        "--seeds",
        "0",
        "--amounts",
        "0.5",
        "--runs",
        "2",
        "--batch",
        "2",
        "--time-limit",
        "0.1",
    ]
    options += ["--work", str(tmp_path / "work")]
    threads = torch.get_num_threads()
    assert main([*options, "--methods", "l2"]) == 0
    with (tmp_path / "accuracy.csv").open() as file:
        first = list(csv.DictReader(file))
    assert [own["mode"] for own in first] == ["input", "constrained", "output"]
    assert {own["status"] for own in first} == {"ok"}
    assert all(float(own["exact"]) > 0 and 0 <= float(own["tuned"]) <= 100 for own in first)
    assert all(int(own["kept"]) < int(own["of"]) for own in first)
    assert main([*options, "--methods", "l2", "random"]) == 0
    with (tmp_path / "accuracy.csv").open() as file:
        second = list(csv.DictReader(file))
    assert second[:3] == first
    assert len(second) == 6
    assert (tmp_path / "accuracy.png").stat().st_size > 1000
    assert "At equal latency" in capsys.readouterr().out
    assert torch.get_num_threads() == threads


def _in_turn(own, work):
    for cell in own:
        train_dense(cell.network, cell.seed, work=work)
        yield cell, learn(cell, work)


def test_refused_cells_are_kept(brief, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise MaskError("no scores here; choose another importance")

    monkeypatch.setattr("benchmarks.accuracy.learning.importance_masks", refuse)
    train_dense("inverted", 0, work=tmp_path)
    found = learn(Cell("inverted", 0, "l2", "input", "0.5"), tmp_path)
    assert (found["status"], found["reason"]) == ("refused", "no scores here; choose another importance")
    assert "- l2 inverted input: no scores here" in page([found], "command", "picture.png")
