"""The command sweep, as users type it."""

import os
import sqlite3

import pytest
from command_line import NETS, upscale_opt_process

SWEEP = f"""\
models: ["{NETS}:Residual"]
input_shape: [1, 3, 8, 8]
objectives: [copies]
methods: [greedy]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UPSCALE_OPT_LOCKS", str(tmp_path / "locks"))
    path = tmp_path / "small.yaml"
    path.write_text(SWEEP)
    return path


def test_a_sweep_is_computed_once_and_reported(file, run):
    code, out, err = run("sweep", file, "--engine", "serial")
    assert code == 0, err
    assert "1 cells (1 orders)" in out and "1 computed now, 0 known before" in out
    code, out, _ = run("sweep", file, "--engine", "serial", "--amounts", "0.5,0.25", "--report", "own.html")
    assert code == 0 and "1 computed now, 1 known before" in out and "page: own.html" in out
    assert "<svg" in (file.parent / "own.html").read_text()
    code, out, _ = run("sweep", "report", "small.sqlite", "--out", "page.html")
    assert code == 0 and "2 rows of small.sqlite" in out and "<svg" in (file.parent / "page.html").read_text()
    code, out, _ = run("sweep", "rows", "small.sqlite", "--csv", "all.csv")
    assert code == 0 and out.startswith("2 rows: 2 orders done;")
    code, out, _ = run("sweep", "collect", "all.jsonl", "small.sqlite")
    assert code == 0 and "small.sqlite: 2 new rows" in out
    query = "SELECT command, cells FROM runs ORDER BY id"
    assert [cells for _, cells in sqlite3.connect("small.sqlite").execute(query)] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a sweep file, or --models"),
        (("none.yaml",), "there is no sweep file none.yaml; name a file, or one of the package: upscale-2023"),
        (("small.yaml", "--engine", "threads"), "there is no engine 'threads'"),
        (("small.yaml", "--part", "3"), "--part 3 is not understood; write it like 1/2"),
        (("small.yaml", "--amounts", "0.1:0.2"), "write FROM:TO:STEP"),
        (("small.yaml", "--batches", "no"), "conditions[0].batch[0] is 'no'; give a whole number"),
        (("small.yaml", "--job", "a"), "--job a is not understood"),
        (("small.yaml", "--job", "a=1"), "--job goes with --engine slurm"),
        (("small.yaml", "--store", "small.yaml"), "cannot use the store small.yaml"),
        (("small.yaml", "--no-resume", "--store", "small.yaml"), "leave out --no-resume to go on"),
        (("report", "none.sqlite"), "there is no store none.sqlite"),
        (("--models", "resnet18,resnt50", "--dry-run"), "there is no model 'resnt50'; did you mean resnet50"),
        (("--models", "none.py:make"), "there is no file none.py"),
        (("import", "none.csv"), "cannot read none.csv"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, file, run):
    code, _, err = run("sweep", *arguments) if arguments else run("sweep", "run")
    assert code == 2 and said in err and err.startswith("error: ") and err.count("\n") == 1


def test_how_many_cells_there_are_costs_nothing(file, run):
    paper = ("upscale-2023", "--models", "resnet18,resnet34", "--dry-run")
    code, out, _ = run("sweep", *paper)
    assert code == 0 and out == "1248 cells (1248 orders)\n" and os.listdir() == ["small.yaml"]
    _, half, _ = run("sweep", *paper, "--part", "1/2")
    assert int(half.split()[0]) * 2 == int(out.split()[0])


@pytest.mark.slow
def test_a_sweep_runs_in_processes_of_its_own(file):
    done = upscale_opt_process("sweep", file, "--workers", "2", "--amounts", "0.1:0.9:0.2", cwd=file.parent)
    assert done.returncode == 0 and "5 computed now" in done.stdout, done.stderr
