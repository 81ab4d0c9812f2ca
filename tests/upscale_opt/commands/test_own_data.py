"""Data of one's own on the command line: prune, train, evaluate and allocate with it, with labels and without."""

import json
from pathlib import Path

import lessons
import networks
import pytest
from command_line import words
from safetensors.torch import load_file, save_file

FILE = Path(lessons.__file__)
MODEL = ("--model", f"{FILE}:dropping")
OWN = """
import torch
from lessons import toy_data

toy = toy_data(96)
def labelled():
    return toy.train, toy.test
def images():
    return [toy.train.tensors[0][i : i + 8] for i in range(0, 64, 8)]
def coloured():
    return torch.randn(40, 3, 8, 8)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return lambda function: ("--data", f"{tmp_path / 'own.py'}:{function}")


@pytest.fixture
def dense(tmp_path):
    model = lessons.small(seed=4, dropout=0.2)
    save_file(model.state_dict(), tmp_path / "dense.safetensors")
    return tmp_path / "dense.safetensors"


@pytest.mark.parametrize("function", ["labelled", "images"])
def test_a_pruned_model_learns_from_the_dense_one_and_is_compared_with_it(run, own, dense, tmp_path, function):
    data, out, pruned = own(function), tmp_path / "out", tmp_path / "pruned"
    given = ("--weights", dense, "--importance", "hrank", "--images", 10, "--out", pruned)
    code, text, err = run("prune", *MODEL, *data, *given)
    assert code == 0, err
    assert ("the first 6 of 8 batches" in err) == (function == "images")
    given = ("--weights", pruned / "model.safetensors", "--masks", pruned / "masks.json", "--distill", dense)
    code, text, err = run("train", *MODEL, *data, *given, "--epochs", 1, "--lr", 0.01, "--out", out)
    assert code == 0, err
    log = json.loads((out / "log.json").read_text())
    weight = "1" if function == "images" else "0.9"
    assert log["distillation"].startswith(f"{weight}, temperature 4, teacher ")
    assert log["test"]["of_teacher"] == (function == "images") == ("agreement with the teacher" in words(text))
    given = ("--weights", out / "model.safetensors", "--dense", dense, "--json", out / "a.json")
    code, text, err = run("evaluate", *MODEL, *data, *given)
    assert code == 0, err
    found = json.loads((out / "a.json").read_text())
    assert "KL to the dense network" in words(text) and found["kl"] > 0
    assert (found["accuracy"] is None) == (function == "images")
    if function == "images":
        assert found["agreement"] == log["test"]["top1"] and found["images"] == 16
    else:
        assert found["accuracy"]["top1"] == log["test"]["top1"]
        assert "top-1" in run("evaluate", *MODEL, *data, "--weights", dense)[1]


def test_an_export_learns_from_the_dense_model_without_labels(run, own, dense, tmp_path):
    given = ("--weights", dense, "--out", tmp_path / "pruned", "--export", tmp_path / "export")
    code, _, err = run("prune", *MODEL, *own("images"), "--importance", "hrank", *given)
    assert code == 0, err
    plan = ("--plan", tmp_path / "export" / "plan.json")
    given = ("--distill", dense, "--epochs", 1, "--lr", 0.01, "--out", tmp_path / "tuned")
    code, text, err = run("train", *own("images"), *plan, *given)
    assert code == 0 and "agreement with the teacher" in words(text), err
    assert load_file(tmp_path / "tuned" / "model.safetensors")
    code, text, err = run("evaluate", *own("images"), "--plan", tmp_path / "tuned" / "plan.json", "--dense", dense)
    assert code == 0 and "KL to the dense network" in words(text), err


def test_a_speedup_is_allocated_without_labels(run, own, tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCALE_OPT_CACHE", str(tmp_path / "cache"))
    model = ("--model", f"{Path(networks.__file__)}:Residual", "--input-shape", "1,3,8,8")
    fast = ("--images", 24, "--trials", 2, "--reconstruction", "least-squares", "--rounds", 0)
    code, text, err = run("allocate", *model, *own("coloured"), "--speedup", 0.5, *fast)
    assert code == 0, err
    assert "the first 30 of 40 images" in err and "24 images of" in words(text)
    assert "10 held out, labelled by the dense model" in words(text) and "held out: loss" in words(text)


ERRORS = {
    ("train",): "training needs labels, and {data} has none; use --method finetune with --distill WEIGHTS",
    ("train", "--method", "bip"): "training needs labels, and {data} has none; use --method finetune with --distill",
    ("train", "--method", "bip", "--distill", "a.pt"): "--distill goes with --method finetune; leave it out with bip",
    ("train", "--temperature", "2"): "there is no teacher without --distill; leave out --temperature",
    ("train", "--distill", "a.pt", "--distillation", "0.5"): "so the teacher counts alone; leave out --distillation",
    ("train", "--distill", "a.pt", "--distillation", "2"): "--distillation is 2; give a number from 0 to 1",
    ("train", "--distill", "nowhere.pt"): "cannot read the checkpoint nowhere.pt",
    ("evaluate",): "accuracy needs labels, and {data} has none; add --dense WEIGHTS to compare with the dense model",
    ("evaluate", "--dense", "nowhere.pt"): "cannot read the checkpoint nowhere.pt",
    ("prune", "--importance", "taylor"): "the importance taylor needs labels, and {data} has none; give images with",
}


@pytest.mark.parametrize("options", ERRORS)
def test_errors_are_one_sentence_and_nothing_is_written(run, own, tmp_path, options):
    command, *rest = options
    data = own("images")
    out = () if command == "evaluate" else ("--out", tmp_path / "out")
    code, _, err = run(command, *MODEL, *data, *rest, *out)
    lines = [line for line in err.strip().splitlines() if not line.startswith("note: the first 6 of 8 batches")]
    assert code == 2 and ERRORS[options].format(data=data[1]) in err and len(lines) == 1, err
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("command", ["prune", "train", "evaluate", "allocate"])
def test_help_names_all_forms_of_data(run, command):
    code, text, _ = run(command, "--help")
    text = "".join(text.replace("│", " ").split())  # lines are cut anywhere
    assert code == 0 and all(form in text for form in ("mnist5k", "FILE.py:FUNCTION", "pictureswithoutlabels"))
