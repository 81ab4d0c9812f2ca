"""Tests of the commands train and evaluate: every method on digits, resuming after kill -9, and clear errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lessons
import numpy as np
import pytest
from command_line import words
from safetensors.torch import load_file

from upscale_opt import read_masks

ROOT = Path(__file__).resolve().parents[3]
FILE = Path(lessons.__file__)
MODEL = ("--model", f"{FILE}:dropping")
DIGITS = ("--data", "digits")


@pytest.fixture(autouse=True)
def _digits():
    pytest.importorskip("sklearn")


METHODS = {
    "none": (),
    "finetune": ("--amount", "0.75"),
    "bip": ("--amount", "0.75", "--scope", "global", "--finetune-epochs", "1"),
    "cgap": ("--amount", "0.75", "--partitions", "3", "--rounds", "1"),
    "pgap": ("--amount", "0.75", "--partitions", "2", "--rounds", "1", "--processes", "0"),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_weights_masks_and_log_that_evaluate_and_export_take(run, tmp_path, method):
    out = tmp_path / "out"
    code, text, err = run("train", *MODEL, *DIGITS, "--method", method, *METHODS[method], "--epochs", "1", "--out", out)
    assert code == 0, err
    assert "digits: 1297 images to learn from, 500 to test, 10 classes" in words(text) and f"written to {out}" in words(
        text
    )
    log = json.loads((out / "log.json").read_text())
    state = load_file(out / "model.safetensors")
    if method == "none":
        assert not (out / "masks.json").exists() and log["kept"] == {}
    else:
        masks = {name: np.array(mask) for name, mask in read_masks(out / "masks.json").items()}
        assert sum(int(mask.sum()) for mask in masks.values()) == 20 == sum(log["kept"].values())
        assert all(not state[name][:, ~mask].any() for name, mask in masks.items())
    code, text, err = run("evaluate", *MODEL, *DIGITS, "--weights", out / "model.safetensors", "--json", out / "a.json")
    assert code == 0, err
    found = json.loads((out / "a.json").read_text())
    assert found["images"] == 500 and found["top1"] == log["test"]["top1"] and found["top5"] == log["test"]["top5"]
    if method == "bip":
        weights = ("--weights", out / "model.safetensors", "--masks", out / "masks.json", "--input-shape", "1,1,8,8")
        code, _, err = run("export", *MODEL, *weights, "--solver", "greedy", "--export", tmp_path / "export")
        assert code == 0, err
        plan = tmp_path / "export" / "plan.json"
        code, text, err = run("evaluate", *DIGITS, "--plan", plan, "--json", out / "b.json")
        assert code == 0, err
        assert json.loads((out / "b.json").read_text())["top1"] == pytest.approx(found["top1"], abs=0.004)
        code, text, err = run("train", *DIGITS, "--plan", plan, "--epochs", "1", "--out", tmp_path / "tuned")
        assert code == 0, err
        shapes = {name: tensor.shape for name, tensor in load_file(tmp_path / "export" / "model.safetensors").items()}
        tuned = load_file(tmp_path / "tuned" / "model.safetensors")
        assert {name: tensor.shape for name, tensor in tuned.items()} == shapes
        assert run("evaluate", *DIGITS, "--plan", tmp_path / "tuned" / "plan.json")[0] == 0


def test_masks_of_a_file_are_fine_tuned_under(run, tmp_path):
    (tmp_path / "masks.json").write_text(json.dumps({"blocks.0.conv1.0": [0, 3]}))
    out = tmp_path / "out"
    code, _, err = run("train", *MODEL, *DIGITS, "--masks", tmp_path / "masks.json", "--epochs", "1", "--out", out)
    assert code == 0, err
    weight = load_file(out / "model.safetensors")["blocks.0.conv1.0.weight"]
    assert weight.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == [0, 3]


def program(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return [sys.executable, "-m", "upscale_opt", "train", *map(str, arguments)], environment


def stopped(command, environment, checkpoint, signal_number):
    """Run a program until it writes a checkpoint, and stop it then; exit code and standard error."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None

    def listen_to_interrupts():  # a shell that started the tests in the background has them ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_interrupts
    ) as process:
        while process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        process.send_signal(signal_number)
        _, err = process.communicate()
    return process.returncode, err


@pytest.mark.slow
def test_a_stopped_training_is_resumed_and_ends_with_the_same_weights(run, tmp_path):
    """The program is killed as soon as it has written a checkpoint, resumed, interrupted, and resumed again."""
    options = (*MODEL, *DIGITS, "--method", "bip", "--epochs", "12", "--batch-size", "256")
    command, environment = program(*options, "--out", tmp_path / "whole")
    whole = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    command, environment = program(*options, "--out", tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoint.pt"
    code, _ = stopped(command, environment, checkpoint, signal.SIGKILL)
    assert code == -signal.SIGKILL and not (tmp_path / "out" / "model.safetensors").exists()
    code, _, err = run("train", *options, "--out", tmp_path / "out")
    assert code == 2 and err.strip().endswith("add --resume to go on with it, or choose another directory")
    code, err = stopped([*command, "--resume"], environment, checkpoint, signal.SIGINT)
    assert code == 130 and "go on with --resume" in err and "Traceback" not in err
    assert not (tmp_path / "out" / "model.safetensors").exists()
    resumed = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("model.safetensors", "masks.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    logs = [json.loads((tmp_path / where / "log.json").read_text()) for where in ("out", "whole")]
    assert logs[0]["epochs"] == logs[1]["epochs"] and logs[0]["log"] == logs[1]["log"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--data", "nowhere"),
            "there is no folder nowhere; give digits, mnist5k, path/to/file.py:function, or a folder",
        ),
        ((), "give --data: digits (scikit-learn's), mnist5k"),
        ((*DIGITS, "--method", "snip"), "there is no method 'snip'; choose from none, finetune, bip, cgap, pgap"),
        ((*DIGITS, "--amount", "1"), "amount 1 is outside [0, 1)"),
        ((*DIGITS, "--amount", "0.99", "--scope", "global"), "each of 7 layers keeps one; choose an amount of at most"),
        ((*DIGITS, "--method", "cgap", "--partitions", "9"), "the network cannot be cut into 9 partitions"),
        ((*DIGITS, "--epochs", "0"), "epochs is 0; give a whole number of at least 1"),
        ((*DIGITS, "--method", "bip", "--masks", "a.json"), "--masks goes with --method finetune"),
        ((*DIGITS, "--model", "resnet18"), "the model cannot take the images of digits, of shape 1x8x8"),
        ((*DIGITS, "--model", f"{FILE}:Block2"), "has no factory 'Block2'"),
        ((*DIGITS, "--model", f"{FILE}:three"), "the model has 3 outputs, but digits has 10 classes"),
        ((*DIGITS, "--plan", "missing.json"), "missing.json"),
    ],
)
def test_errors_are_one_sentence(run, tmp_path, options, message):
    model = () if "--model" in options else MODEL
    code, _, err = run("train", *model, *options, "--out", tmp_path / "out")
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err
    assert not list(tmp_path.glob("out/*"))


def test_a_directory_is_needed_and_evaluate_says_what_is_missing(run, tmp_path):
    code, _, err = run("train", *MODEL, *DIGITS)
    assert code == 2 and "give --out" in err
    code, _, err = run("evaluate", *MODEL, "--data", tmp_path)
    assert code == 2 and "holds no pictures" in err
    code, _, err = run("evaluate", *MODEL, *DIGITS, "--weights", tmp_path / "a.pt")
    assert code == 2 and "cannot read the checkpoint" in err


def test_a_folder_of_images_is_evaluated(run, tmp_path):
    from PIL import Image

    for name in "abc":
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (300, 260), (90, 60, 30)).save(tmp_path / "val" / name / "0.png")
    code, text, err = run("evaluate", "--model", f"{FILE}:coloured", "--data", tmp_path)
    assert code == 0, err
    assert "of 3 images" in words(text) and "top-5" not in words(text)
    (tmp_path / "val" / "a" / "0.png").write_bytes(b"nothing")
    code, _, err = run("evaluate", "--model", f"{FILE}:coloured", "--data", tmp_path)
    assert code == 2 and "0.png cannot be read as an image" in err and len(err.strip().splitlines()) == 1
