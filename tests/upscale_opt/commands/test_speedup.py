"""The command `speedup`: one sentence where something does not fit; files, report and exit codes (slow)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import words

ROOT = Path(__file__).resolve().parents[3]
MODEL = ("--model", f"{ROOT / 'benchmarks' / 'digits.py'}:Residual")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("UPSCALE_OPT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("speedup", 1, *MODEL, "--data", "digits"), "give a speedup above 1"),
        (("speedup", 2, "--data", "digits"), "--model"),
        (("speedup", 2, *MODEL), "give --data"),
        (("speedup", 2, *MODEL, "--data", "digits", "--align", 8), "leave out --align"),
        (("speedup", 2, *MODEL, "--data", "digits", "--method", "magic"), "there is no method 'magic'"),
        (("speedup", 2, *MODEL, "--data", "digits", "--backend", "magic"), "there is no backend 'magic'"),
        (("speedup", 2, *MODEL, "--data", "nowhere"), "nowhere"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(run, tmp_path, arguments, message):
    out = tmp_path / "fast"
    code, _, errors = run(*arguments, "--out", out)
    assert code != 0 and message in errors and "Traceback" not in errors
    assert not out.exists()


@pytest.mark.slow
def test_files_and_report_of_a_reached_target(run, tmp_path):
    out, document = tmp_path / "fast", tmp_path / "found.json"
    common = (*MODEL, "--data", "digits", "--images", 64, "--repeats", 3, "--rounds", 2)
    code, text, errors = run("speedup", 1.2, *common, "--out", out, "--json", document)
    assert code in (0, 1), errors
    found = json.loads(document.read_text())
    assert found["reached"] == (code == 0)
    names = {own.name for own in out.iterdir()}
    assert {"plan.json", "model.safetensors", "model.pt2", "report.html", "journal.json"} <= names
    report = text.partition("written: ")[0]  # paths come behind it
    assert "top-1" in words(text) and "next, to win accuracy back" in words(text)
    assert all(len(own) <= 80 for own in report.split("\n"))
    page = (out / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "http:" not in page and "https:" not in page and "<script" not in page
    again = run("speedup", 1.2, *common, "--out", out, "--json", document)
    rounds = json.loads(document.read_text())["rounds"]
    assert again[0] in (0, 1) and rounds[: len(found["rounds"])] == found["rounds"]


@pytest.mark.slow
def test_a_target_out_of_reach_is_refused_with_the_largest_one(run, tmp_path):
    code, _, errors = run("speedup", 500, *MODEL, "--data", "digits", "--images", 16, "--repeats", 2)
    assert code != 0 and "out of reach" in errors and "Traceback" not in errors
