"""The command `allocate`: files, figures side by side, and one sentence where something does not fit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lessons
import networks
import pytest
from command_line import words

from problems import LayerTimes, TimingTable, read_sparsity_profile, sparsity_grid, write_timing_table

ROOT = Path(__file__).resolve().parents[3]
GRID = sparsity_grid(steps=3, highest=0.8)
MODEL = ("--model", f"{Path(networks.__file__)}:Residual", "--input-shape", "1,3,8,8")
FAST = ("--images", 24, "--trials", 2, "--reconstruction", "least-squares", "--time-limit", 1, "--repeats", 2)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("UPSCALE_OPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def table(tmp_path):
    names = [*(f"blocks.{i}.conv{k}" for i in range(3) for k in (1, 2)), "down", "stem"]
    times = tuple(1e-3 * (1 - sparsity) for sparsity in GRID)
    path = tmp_path / "times.txt"
    write_timing_table(TimingTable(tuple(LayerTimes(name, GRID, times) for name in names), 10e-3), path)
    return path


@pytest.mark.parametrize("method", ["dynamic-programme", "cp-sat", "milp"])
def test_profile_masks_and_weights_are_written_and_can_be_used(run, table, tmp_path, method):
    out, document = tmp_path / "out", tmp_path / "a.json"
    arguments = ("allocate", *MODEL, "--speedup", 1.5, "--table", table, *FAST, "--out", out, "--json", document)
    code, text, errors = run(*arguments, "--method", method, "--rounds", int(method == "cp-sat"))
    assert code == 0, errors
    assert (
        "speedup 1.5 asked for" in words(text)
        and "labelled by the dense model" in words(text)
        and str(out) in words(text)
    )
    assert {"profile.txt", "masks.json", "model.safetensors", "timings.txt"} <= {own.name for own in out.iterdir()}
    profile = read_sparsity_profile(out / "profile.txt")
    assert "stem" not in profile and "down" in profile  # it reads the input, and is paid for as it is
    found = json.loads(document.read_text())
    assert found["predicted"] <= found["target"] * (1 + 1e-9) and found["score"] <= found["uniform_score"]
    assert found["method"] == method and not found["reestimate"]
    if method == "cp-sat":
        assert (
            "round 1: predicted" in words(text) and len(found["rounds"]) == 1 and found["rounds"][0]["verified"] < 1e-9
        )
    code, text, errors = run(
        "solve", *MODEL, "--weights", out / "model.safetensors", "--masks", out / "masks.json", "--solver", "greedy"
    )
    assert code == 0 and "verified" in words(text), errors


def test_a_measured_table_and_digits(run, tmp_path):
    pytest.importorskip("sklearn")
    factory = tmp_path / "own.py"
    factory.write_text(
        "from torch import nn\n\ndef network():\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 3), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    model = ("--model", f"{factory}:network", "--input-shape", "2,1,8,8", "--data", "digits")
    code, text, errors = run("allocate", *model, "--speedup", 0.5, *FAST, "--rounds", 1)  # in reach however noisy
    assert code == 0, errors
    assert (
        "24 images of digits for calibration, 24 of those to test held out" in words(text)
        and "held out: loss" in words(text)
        and "layers take" in errors
    )


def test_a_folder_of_images(run, tmp_path):
    from PIL import Image

    for part, number in (("train", 3), ("val", 1)):
        for name in "abc":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (256, 256), (50 * i, 90, 30)).save(tmp_path / part / name / f"{i}.png")
    factory = tmp_path / "own.py"
    factory.write_text(
        "from torch import nn\n\ndef network():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 9, 8), nn.ReLU(), nn.Conv2d(8, 3, 3), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten())\n"
    )
    options = ("--model", f"{factory}:network", "--speedup", 0.5, "--data", tmp_path, *FAST, "--images", 6)
    code, text, errors = run("allocate", *options, "--rounds", 0)
    assert code == 0, errors
    assert f"6 images of {tmp_path} for calibration, 3 of those to test held out" in words(text)


def one_sentence(errors):
    lines = [line for line in errors.strip().splitlines() if not line.startswith("note: ")]
    return len(lines) == 1 and lines[0].startswith("error: ")


def test_an_unreachable_speedup_is_one_sentence_and_writes_nothing(run, table, tmp_path):
    out, document = tmp_path / "out", tmp_path / "a.json"
    code, text, errors = run(
        "allocate", *MODEL, "--speedup", 9, "--table", table, *FAST, "--out", out, "--json", document
    )
    assert code == 2 and text == "" and one_sentence(errors)
    assert "the fastest levels give 2.2" in errors
    assert not out.exists() and not document.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --speedup"),
        (["--speedup", "2", "--data", "imagenet"], "there is no folder imagenet"),
        (["--speedup", "2", "--images", "1"], "at least 2"),
        (["--speedup", "2", "--method", "magic"], "no method 'magic'"),
        (["--speedup", "2", "--reconstruction", "magic"], "no reconstruction 'magic'"),
        (["--speedup", "-1", "--table", "TABLE"], "speedup is -1"),
        (["--speedup", "1.5", "--table", "TABLE", "--rounds", "-1"], "rounds is -1"),
        (["--speedup", "1.5", "--table", "TABLE", "--trials", "-1"], "num_random -1"),
        (["--speedup", "1.5", "--table", "TABLE", "--data", "digits"], "of shape 1x8x8"),
        (
            ["--speedup", "1.5", "--data", "digits", "--model", "LESSONS:three"],
            "has 3 outputs, but digits has 10 classes",
        ),
        (["--speedup", "1.5", "--data", "digits", "--model", "LESSONS:dropping"], "give --input-shape 1,1,8,8"),
        (["--speedup", "1.5", "--table", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--speedup", "1.5", "--table", "TABLE", "--ignore", "nothing"], "matches no"),
        (["--speedup", "1.5", "--table", "TABLE", "--out", "TABLE"], "is no directory"),
    ],
)
def test_bad_input_is_one_sentence(run, table, arguments, words):
    if "digits" in arguments:
        pytest.importorskip("sklearn")
    given = [str(table) if own == "TABLE" else own.replace("LESSONS", lessons.__file__) for own in arguments]
    code, _, errors = run("allocate", *MODEL, *given)
    assert code == 2 and one_sentence(errors) and words in errors


def program(*arguments):
    return [sys.executable, "-m", "upscale_opt", "allocate", *map(str, arguments)]


def stopped(command, environment, signal_number, out, step):
    """Run a program until a file, or an entry of the journal, is there; then stop it. Exit code and standard error."""
    journal = out / "journal.json"

    def listen_to_interrupts():  # a shell that started the tests in the background has them ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_interrupts
    ) as process:
        while process.poll() is None:
            if (out / step).exists() or (journal.exists() and f'"{step}"' in journal.read_text()):
                break
            time.sleep(0.005)
        process.send_signal(signal_number)
        _, err = process.communicate()
    return process.returncode, err


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_times_it_measured_and_ends_with_the_same_weights(tmp_path):
    """Killed in the middle of reconstructions, interrupted in the second round; what was measured then still holds.

    The uninterrupted run recalls the times of the stopped one: measured anew they would never be the same.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "UPSCALE_OPT_CACHE": str(tmp_path / "cache")}
    out, document = tmp_path / "out", tmp_path / "a.json"
    options = (*MODEL, "--images", 24, "--trials", 8, "--reconstruction", "least-squares", "--speedup", 0.5)  # in reach
    command = program(*options, "--repeats", 2, "--rounds", 2, "--out", out, "--json", document)
    code, _ = stopped(command, environment, signal.SIGKILL, out, "reconstructions/step-001.safetensors")
    assert code == -signal.SIGKILL
    first = json.loads((out / "journal.json").read_text())["entries"]
    code, err = stopped(command, environment, signal.SIGINT, out, "round 0")
    assert code == 130 and "go on with the same command" in err and "Traceback" not in err
    assert json.loads(document.read_text())["interrupted"] and not (out / "model.safetensors").exists()
    second = json.loads((out / "journal.json").read_text())["entries"]
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "times and choices so far are those of the journal" in resumed.stderr
    last = json.loads((out / "journal.json").read_text())
    assert first.items() <= second.items() <= last["entries"].items()
    last["entries"] = {name: own for name, own in last["entries"].items() if not name.startswith("choice")}
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "journal.json").write_text(json.dumps(last))
    again = [str(whole) if own == str(out) else own for own in command]
    assert subprocess.run(again, env=environment, capture_output=True).returncode == 0
    for name in ("model.safetensors", "masks.json", "profile.txt", "timings.txt"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
