"""Tests of the command line's options on masks: modes, names to ignore, rounding, files and pruned models."""

import json
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from command_line import words

from upscale_opt import ModelReference, constrained_masks, l2_masks, load_model, read_plan, save_masks, trace

NETS = Path(networks.__file__)
MODEL = ("--model", f"{NETS}:Residual", "--input-shape", "1,3,8,8", "--solver", "greedy")
PRUNED = """
from torch.nn.utils import prune
from networks import Residual

def pruned():
    model = Residual()
    prune.ln_structured(model.down, "weight", amount=0.5, n=2, dim=1)
    prune.random_unstructured(model.head, "weight", amount=0.5)
    return model
"""


@pytest.fixture
def graph():
    """As the command line builds it."""
    return trace(load_model(ModelReference(f"{NETS}:Residual")), torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("command", ["solve", "compare", "export"])
def test_constrained_masks_are_solved_compared_and_exported_without_copies(run, tmp_path, command):
    document = tmp_path / "out.json"
    code, out, err = run(command, *MODEL, "--mode", "constrained", "--json", document)
    assert code == 0, err
    assert "masks: 71 of 139 input channels kept, 71 asked for" in out
    found = json.loads(document.read_text())
    assert found["mode"] == "constrained" and found["amount"] == 0.5
    assert found["totals"]["greedy"]["copies"] == found["totals"]["greedy"]["objective"] == 0
    assert {"weight": "head.weight", "inputs": 24, "asked": 12, "kept": 12} in found["masks"]
    if command == "solve":
        assert "amount 0.5 constrained: its layers keep 71 of the 139 channels" in words(out)


def test_what_was_asked_and_what_was_done_are_both_said(run, tmp_path, graph):
    """Rounded counts in the document and in one line; the plan has the masks of the library."""
    plan, document = tmp_path / "plan.json", tmp_path / "out.json"
    options = (
        "--amount",
        "0.8",
        "--round-to",
        "4",
        "--min-channels",
        "7",
        "--ignore",
        "blocks.1.*",
        "--ignore",
        "down",
    )
    code, out, err = run("solve", *MODEL, *options, "--json", document, "--save-plan", plan)
    assert code == 0, err
    assert "; rounding to multiples of 4 and keeping at least 7 raised 4 of 9 consumers" in words(out)
    found = json.loads(document.read_text())
    assert (found["mode"], found["round_to"], found["min_channels"]) == ("input", 4, 7)
    assert found["ignore"] == ["blocks.1.*", "down"]
    by_weight = {entry["weight"]: entry for entry in found["masks"]}
    assert list(by_weight) == list(graph.consumers)
    assert by_weight["blocks.0.conv1.weight"] == {
        "weight": "blocks.0.conv1.weight",
        "inputs": 16,
        "asked": 4,
        "kept": 8,
    }
    assert by_weight["down.weight"]["kept"] == by_weight["blocks.1.conv2.weight"]["asked"] == 16
    masks = read_plan(plan).masks
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        name: entry["kept"] for name, entry in by_weight.items()
    }


def test_rounding_of_shared_sets_reaches_the_export(run, tmp_path, graph):
    plan = tmp_path / "plan.json"
    options = ("--mode", "constrained", "--amount", "0.6", "--round-to", "8")
    code, out, err = run("solve", *MODEL, *options, "--save-plan", plan)
    assert code == 0 and "raised 8 of 9 consumers" in out, err
    expected = constrained_masks(graph, "0.6", round_to=8)
    found = read_plan(plan)
    assert all(np.array_equal(mask, expected[name]) for name, mask in found.masks.items())
    assert {own.mode for own in found.readings.values()} == {"view"}
    assert {len(order) % 8 for name, order in found.orders.items() if name not in ("x", "head")} == {0}


def test_masks_of_a_safetensors_file_are_used(run, tmp_path, graph):
    save_masks(l2_masks(graph, "0.75"), tmp_path / "masks.safetensors")
    code, out, err = run("solve", *MODEL, "--masks", tmp_path / "masks.safetensors", "--json", tmp_path / "out.json")
    assert code == 0, err
    assert "masks: 55 of 139 input channels kept, 55 asked for" in out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["amount"] is None
    assert {"weight": "down.weight", "inputs": 16, "asked": 4, "kept": 4} in found["masks"]


def test_a_model_pruned_by_torch_is_made_permanent_and_says_so(run, tmp_path):
    """Zero columns are masks; the plan exports the same model again."""
    path = tmp_path / "pruned.py"
    path.write_text(PRUNED)
    model = ("--model", f"{path}:pruned", *MODEL[2:], "--amount", "0")
    plan, document = tmp_path / "plan.json", tmp_path / "out.json"
    code, out, err = run("solve", *model, "--json", document, "--save-plan", plan)
    assert code == 0, err
    assert "note: the model is pruned by torch.nn.utils.prune, which is made permanent" in err
    assert "pinned:" not in out
    found = json.loads(document.read_text())
    assert "made permanent" in found["messages"][0] and max(found["verified"].values()) <= 1e-9
    assert {"weight": "down.weight", "inputs": 16, "asked": 16, "kept": 8} in found["masks"]
    code, _, err = run("export", "--plan", plan)
    assert code == 0 and "made permanent" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode", "sideways"), "there is no mode 'sideways'; choose from input, constrained"),
        (("--round-to", "0"), "round_to is 0; give a whole number of at least 1"),
        (("--min-channels", "-1"), "min_channels is -1"),
        (("--ignore", "dawn"), "the pattern 'dawn' matches no convolution"),
        (("--masks", "m.json", "--mode", "constrained"), "leave out --mode"),
        (("--masks", "m.json", "--ignore", "down"), "leave out --ignore"),
        (("--masks", "m.pt"), "may be a pickle"),
    ],
)
def test_senseless_options_are_one_sentence_and_exit_code_2(run, arguments, message):
    code, out, err = run("solve", *MODEL, *arguments)
    assert code == 2 and out == ""
    assert message in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"down": [0, 1], "down": [0]}', "the field 'down' twice"),
        ('{"down": [0, NaN]}', "NaN is no number"),
        ('{"down": [0, 0]}', "each once"),
        ('{"down": [-1]}', "from 0"),
        ('{"down": [0.5]}', "a list of kept channels, or one of Booleans"),
        ('{"down": [true, 1]}', "a list of kept channels, or one of Booleans"),
        ('{"down": "all"}', "the mask of 'down'"),
        ('{"down": null}', "the mask of 'down'"),
        ('{"down": [[0], [1]]}', "a list of kept channels, or one of Booleans"),
        ("3", "must hold an object"),
        ("[3]", "each entry must be a pair"),
    ],
)
def test_spoilt_files_of_masks_are_one_sentence(text, message, run, tmp_path):
    (tmp_path / "m.json").write_text(text)
    code, out, err = run("solve", *MODEL, "--masks", tmp_path / "m.json")
    assert code == 2 and out == "" and message in err and len(err.strip().splitlines()) == 1, err
