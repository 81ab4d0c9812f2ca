"""Tests of the options that write pages, tables and pictures."""

import csv
import re
import subprocess
import sys

import pytest
from command_line import RESIDUAL, ROOT, upscale_opt, words

from problems import write_instance
from problems.generators import random_masks


@pytest.fixture
def instance(tmp_path):
    write_instance(random_masks(24, 4, seed=2), tmp_path / "a.json")
    return tmp_path / "a.json"


def _all_outputs(folder):
    return [part for form in ("csv", "latex", "svg", "pdf") for part in (f"--{form}", folder / f"a.{form}")]


def test_everything_about_an_instance_is_written(instance, tmp_path):
    outputs = ["--report", tmp_path / "a.html", *_all_outputs(tmp_path)]
    done = upscale_opt("solve", "--instance", instance, "--objective", "span", *outputs)
    assert done.returncode == 0, done.stderr
    assert f"written: {tmp_path / 'a.html'}, " in words(done.stdout)
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!doctype html>") and "Objective: span" in page and "--objective span" in page
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 1 and rows[0]["auto status"] == "OPTIMAL"
    assert int(rows[0]["auto bound"]) == int(rows[0]["auto objective"]) <= int(rows[0]["greedy objective"])
    assert r"\toprule" in (tmp_path / "a.latex").read_text()
    assert b"bound" in (tmp_path / "a.svg").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_solve_predicts_and_compare_measures(tmp_path):
    predicted, measured = tmp_path / "solve.html", tmp_path / "compare.html"
    solved = upscale_opt(
        "solve", *RESIDUAL, "--no-verify", "--no-measure", "--objective", "copies", "--report", predicted
    )
    assert solved.returncode == 0, solved.stderr
    assert "predicted, not measured" in predicted.read_text() and "Objective: copies" in predicted.read_text()
    outputs = ("--report", measured, *_all_outputs(tmp_path))
    compared = upscale_opt("compare", *RESIDUAL, "--no-verify", "--repeats", 2, *outputs)
    assert compared.returncode == 0, compared.stderr
    page = measured.read_text()
    assert "not measured" not in page and page.count('class="noise"') == 5
    assert re.search(r"answer: [^<]*", page, re.IGNORECASE)
    table = list(csv.reader((tmp_path / "a-latency.csv").open()))
    assert [row[0] for row in table] == ["variant", "unpruned", "baseline", "greedy", "auto", "floor"]
    assert "median, ms" in table[0] and (tmp_path / "a-latency.latex").exists()


@pytest.mark.slow
def test_a_page_about_an_instance_needs_no_torch(instance, tmp_path):
    command = ["solve", "--instance", instance, "--report", tmp_path / "a.html", *_all_outputs(tmp_path)]
    code = "import sys; from upscale_opt.__main__ import main; sys.argv[0] = 'upscale-opt'\n"
    code += "try: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (("--svg", "a.pdf"), "end the name"),
        (("--pdf", "a.txt"), "end its name"),
        (("--report", "nowhere/a.html"), "choose a writable path"),
        (("--csv", "."), "name a file"),
    ],
)
def test_bad_names_are_refused_before_any_work(instance, tmp_path, option, complaint):
    done = upscale_opt("solve", "--instance", instance, option[0], tmp_path / option[1])
    assert done.returncode == 2 and complaint in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


def test_show_draws_in_the_forms_asked_for(instance, tmp_path):
    shown = upscale_opt("show", "--instance", instance, "--out", tmp_path / "p", "--format", "svg", "--format", "pdf")
    assert shown.returncode == 0, shown.stderr
    assert sorted(own.suffix for own in (tmp_path / "p").iterdir()) == [".pdf", ".svg"]
    refused = upscale_opt("show", "--instance", instance, "--out", tmp_path / "q", "--format", "gif")
    assert refused.returncode == 2 and "there is no form 'gif'" in refused.stderr and not (tmp_path / "q").exists()
