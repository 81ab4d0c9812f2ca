"""`--align` on the command line: padded widths in what is printed, in the JSON document and in the plan."""

import json

import pytest
from command_line import RESIDUAL, upscale_opt, words

from upscale_opt import read_plan


def test_widths_are_aligned_reported_and_kept_in_the_plan(tmp_path):
    outputs = ("--json", tmp_path / "a.json", "--save-plan", tmp_path / "plan.json", "--export", tmp_path / "export")
    solved = upscale_opt("solve", *RESIDUAL, "--align", "4", "--no-measure", *outputs)
    assert solved.returncode == 0 and "of them to align" in words(solved.stdout), solved.stderr
    padding = json.loads((tmp_path / "a.json").read_text())["padding"]
    plan = read_plan(tmp_path / "plan.json")
    assert padding and padding == {name: len(channels) for name, channels in plan.padding.items()}
    exported = upscale_opt(
        "export", "--model", RESIDUAL[1], "--plan", tmp_path / "plan.json", "--export", tmp_path / "b"
    )
    assert exported.returncode == 0, exported.stderr
    off = upscale_opt("solve", *RESIDUAL, "--align", "off", "--no-measure", "--json", tmp_path / "off.json")
    assert (
        "of them to align" not in words(off.stdout) and json.loads((tmp_path / "off.json").read_text())["padding"] == {}
    )


def test_auto_is_what_calibrate_has_measured(tmp_path):
    tables = ("--tables", tmp_path / "tables")
    assert upscale_opt("calibrate", *RESIDUAL, *tables, "--quick").returncode == 0
    (widths,) = (tmp_path / "tables").glob("widths-*.json")
    document = json.loads(widths.read_text())
    for operator in document["operators"]:  # every wider width is twice as fast
        first = min(map(int, operator["timings"]))
        operator["timings"] = {w: [2000 if int(w) == first else 1000] * len(t) for w, t in operator["timings"].items()}
    widths.write_text(json.dumps(document))
    assert upscale_opt("calibrate", *RESIDUAL, *tables, "--quick").returncode == 0  # the reads of the other widths
    solved = upscale_opt("solve", *RESIDUAL, *tables, "--no-measure", "--json", tmp_path / "a.json")
    assert solved.returncode == 0 and "of them to align" in words(solved.stdout), solved.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["padding"] and found["objective"] == "latency", "the default where everything is measured"
    plain = upscale_opt("solve", *RESIDUAL, *tables, "--objective", "copies", "--no-measure")
    assert "of them to align" not in words(plain.stdout), "tables are for the objective latency"


def test_the_answer_is_said_where_tables_were_measured(tmp_path):
    tables = ("--tables", tmp_path / "tables", "--align", "off")
    assert upscale_opt("calibrate", *RESIDUAL, *tables).returncode == 0
    assert not list((tmp_path / "tables").glob("widths-*.json"))
    latency = (*RESIDUAL, *tables, "--objective", "latency")
    solved = upscale_opt("solve", *latency, "--save-plan", tmp_path / "plan.json")
    assert solved.returncode == 0 and "answer: " in solved.stdout, solved.stderr
    assert read_plan(tmp_path / "plan.json").model is not None
    compared = upscale_opt("compare", *latency, "--repeats", "3")
    assert compared.returncode == 0 and "answer: " in compared.stdout and "upscale" in compared.stdout, compared.stderr
    exported = upscale_opt("export", *latency, "--export", tmp_path / "export")
    assert exported.returncode == 0 and "answer: " in exported.stdout, exported.stderr


@pytest.mark.parametrize("wrong", ["much", "0", "-8", "1.5"])
@pytest.mark.parametrize("command", ["solve", "compare", "export", "calibrate", "check"])
def test_alignments_that_make_no_sense_are_refused_before_any_work(command, wrong, tmp_path):
    found = upscale_opt(command, *RESIDUAL, "--align", wrong, "--json", tmp_path / "a.json")
    assert found.returncode == 2 and "--align" in found.stderr and "Traceback" not in found.stderr
    assert not (tmp_path / "a.json").exists()


def test_allocate_does_not_align(tmp_path):
    model = ("--model", RESIDUAL[1], "--input-shape", "1,3,8,8", "--data", "digits", "--out", tmp_path / "out")
    found = upscale_opt("allocate", *model, "--speedup", "1.2", "--align", "8")
    assert found.returncode == 2 and "--align" in found.stderr
