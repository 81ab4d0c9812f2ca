"""Tests of the latency comparison with apple-upscale, without it: rows by hand, files made and measured, failures."""

import copy
import importlib
import os
import warnings

import pytest
import torch

from benchmarks import results
from benchmarks.vs_upscale_latency import making, running
from benchmarks.vs_upscale_latency.cells import MASKED, OWN, PEERS, VARIANTS, Cell, Subject
from benchmarks.vs_upscale_latency.measuring import measure
from benchmarks.vs_upscale_latency.processes import ChildError, in_child, reason
from benchmarks.vs_upscale_latency.rows import CELL_KEY, Outcome, fastest, is_done, read_rows, rows_of, write_rows
from benchmarks.vs_upscale_latency.tables import page

command = importlib.import_module("benchmarks.vs_upscale_latency.__main__")

TOY = """
from torch import nn


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.left, self.middle, self.right = (nn.Conv2d(16, 8, 1, bias=False) for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head((self.left(x) + self.middle(x) * self.right(x)).mean((2, 3)))
"""


@pytest.fixture(autouse=True)
def tables(tmp_path_factory, monkeypatch):
    """Cost tables go to a directory of the test's own."""
    monkeypatch.setenv("UPSCALE_OPT_CACHE", str(tmp_path_factory.mktemp("tables")))


@pytest.fixture
def toy(tmp_path):
    """The name of a small network of three consumers that disagree."""
    (tmp_path / "toy.py").write_text(TOY)
    return f"{tmp_path / 'toy.py'}:Toy"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Nothing in children, results in a folder of the test, and a peer that seems to be installed."""

    def in_this_process(function, *arguments, num_threads=1):
        try:
            yield from function(*arguments)
        except Exception as error:
            raise ChildError(reason(error)) from error

    monkeypatch.setattr(running, "in_child", in_this_process)
    monkeypatch.setattr("upscale_opt.latency.profiling.MINIMUM_BLOCK_SECONDS", 1e-4)
    monkeypatch.setattr(results, "DIRECTORY", tmp_path / "results")
    monkeypatch.setattr(command, "version_of", lambda package: "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def make_crash(model, masks, subject):
    raise IndexError("list index out of range")


def make_wrong(model, masks, subject):
    wrong = copy.deepcopy(model)
    torch.nn.init.zeros_(wrong.head.bias)
    return lambda cell, images: wrong


def make_right(model, masks, subject):
    return lambda cell, images: model


def key(model="m"):
    values = {"model": model, "batch": "1", "format": "NCHW", "device": "cpu"}
    return tuple(values.get(name, "x") for name in CELL_KEY)


def outcome(*seconds, status="ok"):
    return Outcome(status, "" if status == "ok" else "because", 0.0, tuple(seconds))


def test_ratios_are_paired_by_round_with_the_faster_right_peer():
    """peer-index is the fastest, but wrong; round by round the other takes 2, 3 and 4 times as long as ours."""
    outcomes = {
        "peer-cat": outcome(2.0, 6.0, 16.0),
        "peer-index": outcome(0.1, 0.1, 0.1, status="wrong"),
        "greedy-copies": outcome(1.0, 2.0, 4.0),
        "auto-latency": Outcome("failed", "no"),
    }
    assert fastest(PEERS, outcomes) == "peer-cat"
    rows = {row["variant"]: row for row in rows_of(key(), outcomes, 3)}
    own = rows["greedy-copies"]
    assert [float(own[name]) for name in ("ratio_low", "ratio", "ratio_high")] == [2.5, 3.0, 3.5]
    assert (own["peer"], float(own["median_ms"]), float(own["iqr_ms"])) == ("peer-cat", 2000, 1500)
    assert not any(rows[name]["ratio"] for name in ("peer-cat", "peer-index", "auto-latency"))
    assert rows["peer-index"]["median_ms"] and not rows["auto-latency"]["median_ms"]


def test_without_a_right_peer_there_is_no_ratio():
    outcomes = {"peer-cat": outcome(status="failed"), "greedy-copies": outcome(1.0, 2.0)}
    assert [row["ratio"] for row in rows_of(key(), outcomes, 2)] == ["", ""]


def test_a_cell_is_done_with_all_variants_in_as_many_rounds(tmp_path):
    rows = rows_of(key(), {"peer-cat": outcome(1.0, 2.0), "greedy-copies": Outcome("failed", "no")}, 5)
    path = tmp_path / "rows.csv"
    assert read_rows(path) == []
    write_rows(rows, path)
    rows = read_rows(path)
    assert is_done(rows, key(), ["peer-cat", "greedy-copies"], 5) and is_done(rows, key(), ["peer-cat"], 3)
    assert not is_done(rows, key(), ["peer-cat"], 6) and not is_done(rows, key("n"), ["peer-cat"], 5)
    assert not is_done(rows, key(), VARIANTS, 5)


def test_the_page_keeps_losses_failures_and_wrong_results(tmp_path):
    cells = {
        "win": {"peer-cat": outcome(4.0, 4.4), "greedy-copies": outcome(2.0, 2.0)},
        "loss": {"peer-cat": outcome(1.0, 1.0), "greedy-copies": outcome(2.0, 2.0)},
        "tie": {"peer-cat": outcome(1.0, 3.0), "greedy-copies": outcome(2.0, 2.0)},
        "bad": {"peer-cat": Outcome("failed", "it crashed"), "greedy-copies": outcome(2.0, 2.0, status="wrong")},
    }
    path = tmp_path / "rows.csv"
    facts = {"command": "python -m it --runs 2", "commit": "abc"}
    write_rows([row for model, cell in cells.items() for row in rows_of(key(model), cell, 2, facts)], path)
    text = page(read_rows(path))
    assert text.startswith("How to read this") and "- `python -m it --runs 2` (abc)" in text.split("\n")
    (line,) = (line for line in text.split("\n") if line.startswith("| greedy-copies |"))
    assert [field.strip() for field in line.split("|")][6:11] == ["3", "1.02", "1", "1", "1"]
    assert "`peer-cat`: failed: it crashed" in text and "`greedy-copies`: wrong: because" in text
    assert all(f"| {model} |" in text for model in cells)


@pytest.mark.parametrize("memory_format", ["NCHW", "channels_last"])
def test_both_exports_go_through_their_files(toy, tmp_path, here, memory_format):
    """Made, saved, loaded, compared and timed; a file that computes something else, or none, is told apart."""
    subject = Subject(toy, "0.5", 0, 8, "cpu", 1.0)
    cell = Cell(subject, 2, memory_format)
    list(making.make_masked(subject, tmp_path))
    for variant in (MASKED, *OWN):
        assert list(making.make(variant, subject, [cell], tmp_path)) == [None]
    files = {variant: cell.file(tmp_path, variant) for variant in (MASKED, *OWN)}
    smaller = torch.jit.load(files["greedy-copies"])
    assert smaller.left.weight.shape[1] == 8, "nothing was pruned"
    smaller.left.weight.data[:, 0] += 1
    torch.jit.save(smaller, tmp_path / "wrong.ts")
    (tmp_path / "broken.ts").write_bytes(b"")
    (found,) = measure(cell, {**files, "a": tmp_path / "wrong.ts", "b": tmp_path / "broken.ts"}, 3)
    statuses = {variant: own.status for variant, own in found.items()}
    assert statuses == {**dict.fromkeys((MASKED, *OWN), "ok"), "a": "wrong", "b": "failed"}
    assert all(len(found[variant].seconds) == 3 for variant in files) and found["b"].seconds == ()
    assert max(found[variant].relative_error for variant in OWN) < 1e-5 < found["a"].relative_error


def test_the_masked_network_cannot_hide_errors(toy, tmp_path):
    """Statistics are random, weights are masked, and the same seed gives the same network."""
    subject = Subject(toy, "0.5", 0, 8, "cpu", 1.0)
    states = []
    for _ in range(2):
        list(making.make_masked(subject, tmp_path))
        states.append(torch.load(tmp_path / making.WEIGHTS_FILE)["state"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert states[0]["stem.1.running_mean"].abs().min() > 0
    assert (states[0]["left.weight"].abs().sum((0, 2, 3)) == 0).sum() == 8


def test_the_command_makes_failures_rows_and_goes_on_where_it_was(toy, tmp_path, here, monkeypatch, capsys):
    monkeypatch.setitem(making.MAKERS, "peer-cat", make_crash)
    monkeypatch.setitem(making.MAKERS, "peer-index", make_wrong)
    arguments = ["--models", toy, "--batches", "1", "--formats", "NCHW", "--image-size", "8", "--runs", "2"]
    assert command.main(arguments) == 0
    path = tmp_path / "results" / "vs_upscale_latency.csv"
    rows = {row["variant"]: row for row in read_rows(path)}
    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys((MASKED, *OWN), "ok"),
        "peer-cat": "failed",
        "peer-index": "wrong",
    }
    assert rows["peer-cat"]["reason"] == "IndexError in make_crash: list index out of range"
    text = path.with_suffix(".md").read_text()
    assert "list index out of range" in text and "Ratios in sum" not in text

    monkeypatch.setitem(making.MAKERS, "peer-cat", make_right)
    before = path.read_text()
    assert command.main(arguments) == 0 and path.read_text() == before
    assert command.main([*arguments, "--fresh"]) == 0
    rows = {row["variant"]: row for row in read_rows(path)}
    assert len(rows) == 5 == len(read_rows(path)) and rows["peer-cat"]["status"] == "ok"
    assert all(rows[name]["peer"] == "peer-cat" and float(rows[name]["ratio"]) > 0 for name in OWN)
    assert "Ratios in sum" in path.with_suffix(".md").read_text()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_exports_are_made_and_timed_in_a_dtype_of_their_own(toy, tmp_path, here, monkeypatch, dtype):
    """A cell of its own beside the float32 one, with tables of its own; outputs are compared in float32."""
    from upscale_opt.latency.cost_tables import CACHE_VARIABLE

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "tables"))
    arguments = ["--models", toy, "--batches", "1", "--formats", "NCHW", "--image-size", "8", "--runs", "2"]
    arguments += ["--variants", *OWN, "--quick", "--files", str(tmp_path / "kept")]
    assert command.main(arguments) == 0 == command.main([*arguments, "--dtype", dtype])
    rows = read_rows(tmp_path / "results" / "vs_upscale_latency.csv")
    assert [row["dtype"] for row in rows] == ["float32"] * 3 + [dtype] * 3
    assert {row["status"] for row in rows} == {"ok"}
    assert max(float(row["relative_error"]) for row in rows) < 1e-5
    assert any(dtype in path.name for path in (tmp_path / "tables").iterdir())
    scripts = [torch.jit.load(path) for path in (tmp_path / "kept").rglob("auto-latency*.ts")]
    assert {script.head.weight.dtype for script in scripts} == {torch.float32, getattr(torch, dtype)}
    text = (tmp_path / "results" / "vs_upscale_latency.md").read_text()
    assert f"| {dtype} |" in text and "| float32 |" in text


def test_rows_without_a_dtype_are_of_float32(tmp_path):
    path = tmp_path / "rows.csv"
    rows = rows_of(key(), {"peer-cat": outcome(1.0, 2.0)}, 2)
    write_rows([{**row, "dtype": "float32"} for row in rows], path)
    new = read_rows(path)
    lines = path.read_text().splitlines()
    column = lines[0].split(",").index("dtype")
    path.write_text("\n".join(",".join(v for i, v in enumerate(own.split(",")) if i != column) for own in lines))
    assert read_rows(path) == new and is_done(read_rows(path), [*key()[:6], "float32", *key()[7:]], ["peer-cat"], 2)


def test_plans_made_elsewhere_are_carried_out_without_a_solver(toy, tmp_path, here, monkeypatch):
    from benchmarks.latency import __main__ as latency

    cell = ["--models", toy, "--batches", "2", "--formats", "channels_last", "--image-size", "8"]
    cell += ["--plans", str(tmp_path / "plans")]
    assert latency.main([*cell, "--amounts", "0.5", "--plan-only", "--time-limit", "1"]) == 0
    monkeypatch.setattr(making, "each_solution", None)
    assert command.main([*cell, "--runs", "2", "--variants", *OWN]) == 0
    rows = read_rows(tmp_path / "results" / "vs_upscale_latency.csv")
    assert {row["variant"]: row["status"] for row in rows} == dict.fromkeys((MASKED, *OWN), "ok")
    assert {row["time_limit"] for row in rows} == {"plans"}, "solved here, it is another cell"
    assert making.backend_of_tables("cpu") == "eager" and making.backend_of_tables("cuda") == "torchscript"


def test_interrupting_keeps_the_cells_measured_so_far(toy, tmp_path, here, monkeypatch):
    def interrupted(cell, files, runs):
        if cell.batch == 2:
            raise KeyboardInterrupt
        return measure(cell, files, runs)

    monkeypatch.setattr(running, "measure", interrupted)
    arguments = ["--models", toy, "--batches", "1", "2", "--formats", "NCHW", "--image-size", "8", "--runs", "2"]
    arguments += ["--variants", "greedy-copies", "--files", str(tmp_path / "kept")]
    assert command.main(arguments) == 130
    rows = read_rows(tmp_path / "results" / "vs_upscale_latency.csv")
    assert [(row["variant"], row["batch"]) for row in rows] == [(MASKED, "1"), ("greedy-copies", "1")]
    assert (tmp_path / "results" / "vs_upscale_latency.md").exists()
    assert len(list((tmp_path / "kept").rglob("*.ts"))) == 4


def test_a_masked_network_that_cannot_be_made_fails_every_variant(tmp_path, here):
    (tmp_path / "bad.py").write_text("def broken():\n    raise ValueError('no such thing')\n")
    arguments = ["--models", f"{tmp_path / 'bad.py'}:broken", "--batches", "1", "--formats", "NCHW", "--runs", "2"]
    assert command.main([*arguments, "--variants", "greedy-copies"]) == 0
    rows = read_rows(tmp_path / "results" / "vs_upscale_latency.csv")
    assert len(rows) == 2 and all("no such thing" in row["reason"] for row in rows)


def test_who_brings_the_measuring_process_down_fails_alone(toy, here, tmp_path, monkeypatch):
    def crashing(cell, files, runs):
        if "greedy-copies" in files:
            raise ChildError("its process ended with exit code -11")
        return measure(cell, files, runs)

    monkeypatch.setattr(running, "measure", crashing)
    arguments = ["--models", toy, "--batches", "1", "--formats", "NCHW", "--image-size", "8", "--runs", "2"]
    assert command.main([*arguments, "--variants", *OWN]) == 0
    rows = {row["variant"]: row for row in read_rows(tmp_path / "results" / "vs_upscale_latency.csv")}
    assert {name: row["status"] for name, row in rows.items()} == {
        MASKED: "ok",
        "greedy-copies": "failed",
        "auto-latency": "ok",
    }
    assert "exit code -11" in rows["greedy-copies"]["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "1"], "needs at least 2"),
        (["--batches", "0"], "at least 1"),
        (["--amounts", "1.5"], "outside"),
        (["--models", "resnet19"], "no model 'resnet19'"),
        (["--dtype", "tf32"], "tf32 needs a CUDA device"),
        ([], "pip install --no-deps apple-upscale==0.1.1"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    """The last one: the peer is missing. Nothing is written."""
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setattr(command, "version_of", lambda package: None)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_children_report_values_errors_and_their_death():
    assert list(in_child(iter, [1, 2])) == [1, 2]
    with pytest.raises(ChildError, match="ValueError"):
        list(in_child(int, "x"))
    with pytest.raises(ChildError, match="exit code 3"):
        list(in_child(os._exit, 3))
