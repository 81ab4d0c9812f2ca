"""Tests of the coverage sweep: its masks, its rows, that it goes on where it was, and that failures are rows."""

import numpy as np
import pytest
import torch

from benchmarks.coverage import __main__ as command
from benchmarks.coverage import measurement, sweep, tables
from benchmarks.coverage.measurement import Task
from benchmarks.coverage.modes import MODES
from benchmarks.coverage.networks import input_shape, names
from upscale_opt import ModelReference, load_model, trace
from upscale_opt.arguments.amounts import num_removed

ASKED = ["--models", "squeezenet1_1", "--amounts", "0.5", "--modes", "input", "--solvers", "greedy", "identity"]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "DIRECTORY", tmp_path)
    return tmp_path / "coverage.csv"


def in_this_process(tasks, num_threads):
    yield from measurement.measure(tasks)


def never(tasks, num_threads):
    raise AssertionError("measured twice")


def test_rows_are_verified_kept_and_not_measured_again(path, monkeypatch, capsys):
    """In a child process, as users run it."""
    assert command.main(ASKED) == 0
    rows = sweep.read_rows(path)
    assert [row["solver"] for row in rows] == ["greedy", "identity"]
    for row in rows:
        assert row["status"] == "verified" and float(row["error"]) <= 1e-9 < float(row["control"])
        assert int(row["free"]) + int(row["not_removable"]) + int(row["pinned"]) == int(row["channels"])
        assert float(row["trace_mb"]) >= 0 and float(row["peak_mb"]) > 0
        assert tables.within_limits({**row, "trace_seconds": "0"})
    monkeypatch.setattr(sweep, "_in_child", never)
    assert command.main(ASKED) == 0 and sweep.read_rows(path) == rows
    assert "2 of 2 verified" in capsys.readouterr().out


def test_an_interrupted_sweep_loses_one_row_only(path, monkeypatch):
    def interrupted(tasks, num_threads):
        yield {"status": "verified"}
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "_in_child", interrupted)
    assert command.main(ASKED) == 130
    assert len(sweep.read_rows(path)) == 1
    monkeypatch.setattr(sweep, "_in_child", lambda tasks, num_threads: iter([{"status": "verified"}] * len(tasks)))
    assert command.main(ASKED) == 0
    assert [row["solver"] for row in sweep.read_rows(path)] == ["greedy", "identity"]


def test_failures_are_rows_and_can_be_measured_again(path, monkeypatch):
    """A dead process costs one row; `--retry` forgets failures of what is asked for, and nothing else."""
    outcomes = iter([[measurement.failure("died")], [{"status": "verified"}], [{"status": "verified"}]])
    monkeypatch.setattr(sweep, "_in_child", lambda tasks, num_threads: iter(next(outcomes)))
    assert command.main(ASKED) == 1
    assert [row["status"] for row in sweep.read_rows(path)] == ["failed", "verified"]
    monkeypatch.setattr(sweep, "_in_child", in_this_process)
    assert command.main(ASKED) == 1
    monkeypatch.setattr(sweep, "_in_child", lambda tasks, num_threads: iter(next(outcomes)))
    assert command.main([*ASKED, "--retry"]) == 0
    assert [(row["solver"], row["status"]) for row in sweep.read_rows(path)] == [
        ("identity", "verified"),
        ("greedy", "verified"),
    ]


def test_a_process_that_dies_is_a_failure(monkeypatch):
    task = Task("squeezenet1_1", "0.5", "input", "greedy", "copies", 1.0, 0)
    monkeypatch.setattr(sweep, "_report", _die)
    (row,) = sweep._in_child([task, task], 1)
    assert row["status"] == "failed" and "exit code 3" in row["reason"]


def _die(*_):
    raise SystemExit(3)


def test_what_goes_wrong_is_said():
    tasks = [Task("resnet51", "0.5", "input", "greedy", "copies", 1.0, 0)] * 2
    rows = list(measurement.measure(tasks))
    assert len(rows) == 2 and all("did you mean resnet50" in row["reason"] for row in rows)
    tasks = [Task("squeezenet1_1", "0.5", "input", solver, "copies", 1.0, 0) for solver in ("none", "greedy")]
    rows = list(measurement.measure(tasks))
    assert [row["status"] for row in rows] == ["failed", "verified"] and "'none'" in rows[0]["reason"]


@pytest.mark.parametrize("mode", MODES)
def test_masks_remove_the_amount(mode):
    """Exactly, of every consumer or producer that is masked; others are left alone."""
    graph = trace(load_model(ModelReference("mobilenet_v3_small")), torch.zeros(input_shape("mobilenet_v3_small")))
    masks, outputs = MODES[mode](graph, "0.9", np.random.default_rng(0))
    assert set(masks) == set(graph.consumers) and bool(outputs) == (mode in ("output", "both"))
    assert all((~mask).sum() == num_removed("0.9", len(mask)) for mask in outputs.values())
    for name, read in graph.consumers.items():
        removed = int((~masks[name]).sum())
        if mode == "output" or read.reads_network_input:
            assert removed == 0
        elif mode != "constrained":
            assert removed == num_removed("0.9", len(masks[name]))
    again, rows = MODES[mode](graph, "0.9", np.random.default_rng(1))
    pairs = zip((*masks.values(), *outputs.values()), (*again.values(), *rows.values()), strict=True)
    assert any((a != b).any() for a, b in pairs) == (mode != "constrained")


def test_every_family_is_complete():
    assert len(names("classification")) == 80 == len(set(names("classification")))
    assert len(names("timm")) == 50 == len(set(names("timm")))
    assert set(names("segmentation")) >= {"fcn_resnet50", "deeplabv3_resnet101", "lraspp_mobilenet_v3_large"}


def test_the_table_keeps_failures_and_names_what_is_beyond_the_limits():
    row = {
        **dict.fromkeys(sweep.COLUMNS, ""),
        "family": "classification",
        "model": "resnet18",
        "amount": "0.5",
        "mode": "input",
        "solver": "greedy",
        "status": "verified",
        "error": "1.00e-15",
        "input": "1x3x64x64",
        "model_mb": "10.0",
        "channels": "100",
        "free": "50",
        "not_removable": "20",
        "pinned": "30",
        "pinned_by": "no rule for flip 30",
        "trace_seconds": "6.0",
        "trace_cpu_seconds": "5.0",
        "trace_mb": "1.0",
        "load": "1.0",
    }
    text = tables.document([row, {**row, "solver": "auto", "status": "failed", "reason": "it broke", "error": ""}])
    assert "of 80: input 0. " in text
    assert tables.complete_models([row, {**row, "model": "resnet34", "mode": "both"}]) == {"input": 1, "both": 1}
    assert tables.complete_models([row, {**row, "amount": "0.9", "mode": "both"}]) == {"input": 0, "both": 0}
    assert "| resnet18 | 1x3x64x64 | 1/2 | 1.0e-15 | 50.0% | 20.0% | no rule for flip 30 | 6.00 |" in text
    assert "MB: resnet18." in text and "- resnet18 (1 rows: 0.5 input auto): it broke" in text
