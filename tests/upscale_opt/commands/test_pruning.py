"""Tests of the command prune: what it writes is what the library chooses, and others take it; and clear errors."""

import json
from pathlib import Path

import lessons
import numpy as np
import pytest
import torch
from command_line import words
from safetensors.torch import load_file

from upscale_opt import (
    IMPORTANCES,
    Importance,
    MaskError,
    ModelReference,
    constrained_masks,
    importance_masks,
    load_model,
    read_masks,
    read_plan,
    register_importance,
    trace,
)
from upscale_opt.learning.datasets import load_data

FILE = Path(lessons.__file__)
NAME = f"{FILE}:dropping"
MODEL = ("--model", NAME)
SHAPE = ("--input-shape", "1,1,8,8")
DIGITS = ("--data", "digits")


@pytest.fixture
def graph():
    """As the command line builds it."""
    return trace(load_model(ModelReference(NAME)), torch.zeros(1, 1, 8, 8))


def masks_in(directory):
    return {name: np.array(mask) for name, mask in read_masks(directory / "masks.json").items()}


def same(found, expected):
    return found.keys() == expected.keys() and all(np.array_equal(found[name], own) for name, own in expected.items())


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_masks_are_those_of_the_library_and_weights_are_zero_where_they_drop(run, tmp_path, graph, importance):
    needs = IMPORTANCES[importance].needs_data
    if needs:
        pytest.importorskip("sklearn")
    out, document = tmp_path / "out", tmp_path / "a.json"
    given = (*DIGITS, "--images", 40) if needs else SHAPE
    options = ("--importance", importance, "--amount", "0.75", "--scope", "global", *given)
    code, text, err = run("prune", *MODEL, *options, "--out", out, "--json", document)
    assert code == 0, err
    data = load_data("digits").sampled(40) if needs else None
    expected = importance_masks(graph, importance, "0.75", scope="global", data=data)
    found = masks_in(out)
    assert same(found, expected) and sum(int(own.sum()) for own in found.values()) == 20
    assert f"{importance}, amount 0.75 global, input: 20 of 80 input channels kept in 7 layers" in words(text)
    state, dense = load_file(out / "model.safetensors"), graph.module.state_dict()
    for name, tensor in state.items():
        keep = found.get(name, np.ones(tensor.shape[1] if tensor.ndim > 1 else 1, dtype=bool))
        assert torch.equal(
            tensor[:, keep] if tensor.ndim > 1 else tensor, dense[name][:, keep] if tensor.ndim > 1 else dense[name]
        )
        assert tensor.ndim < 2 or not tensor[:, ~keep].any()
    assert json.loads(document.read_text())["kept"] == {name: int(own.sum()) for name, own in found.items()}


def test_constrained_masks_are_exported_without_copies(run, tmp_path, graph):
    options = ("--mode", "constrained", "--amount", "0.6", *SHAPE, "--export", tmp_path / "pruned")
    code, _, err = run("prune", *MODEL, *options, "--out", tmp_path / "out", "--json", tmp_path / "a.json")
    assert code == 0, err
    assert same(masks_in(tmp_path / "out"), constrained_masks(graph, "0.6"))
    plan = json.loads((tmp_path / "pruned" / "plan.json").read_text())
    assert set(plan["reads"].values()) == {"view"}
    assert all(error < 1e-9 for error in json.loads((tmp_path / "a.json").read_text())["verified"].values())


def test_output_masks_are_exported_solved_and_fine_tuned(run, tmp_path, graph):
    out, pruned = tmp_path / "out", tmp_path / "pruned"
    options = ("--mode", "output", "--importance", "l1", "--amount", "0.6", *SHAPE, "--export", pruned)
    code, text, err = run("prune", *MODEL, *options, "--out", out, "--json", tmp_path / "a.json")
    assert code == 0, err
    assert "output channels kept" in words(text) and not (out / "masks.json").exists()
    wanted = importance_masks(graph, "l1", "0.6", mode="output")
    found = {name: np.array(own) for name, own in read_masks(out / "output_masks.json").items()}
    assert same(found, wanted)
    dense = graph.module.state_dict()
    assert all(torch.equal(own, dense[name]) for name, own in load_file(out / "model.safetensors").items())
    assert all(error < 1e-9 for error in json.loads((tmp_path / "a.json").read_text())["verified"].values())
    assert same(read_plan(pruned / "plan.json").output_masks, found)
    again = ("--output-masks", out / "output_masks.json", "--input-shape", "1,1,8,8")
    code, text, err = run("solve", *MODEL, *again, "--json", tmp_path / "b.json")
    assert code == 0, err
    document = json.loads((tmp_path / "b.json").read_text())
    assert document["amount"] is None and {own["weight"] for own in document["outputs"]} == set(wanted)
    code, _, err = run("solve", *MODEL, *again, "--mode", "output")
    assert code == 2 and "--output-masks already selects the channels; leave out --mode" in err
    pytest.importorskip("sklearn")
    code, _, err = run("train", *DIGITS, "--plan", pruned / "plan.json", "--epochs", "1", "--out", tmp_path / "tuned")
    assert code == 0, err


def test_what_it_writes_is_evaluated_exported_and_fine_tuned(run, tmp_path):
    pytest.importorskip("sklearn")
    out = tmp_path / "out"
    code, _, err = run(
        "prune", *MODEL, "--importance", "taylor", *DIGITS, "--out", out, "--export", tmp_path / "pruned"
    )
    assert code == 0, err
    weights = ("--weights", out / "model.safetensors")
    accuracies = []
    for arguments in ((*MODEL, *weights), ("--plan", tmp_path / "pruned" / "plan.json")):
        code, _, err = run("evaluate", *arguments, *DIGITS, "--json", tmp_path / "b.json")
        assert code == 0, err
        accuracies.append(json.loads((tmp_path / "b.json").read_text())["top1"])
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.004)
    code, _, err = run("solve", *MODEL, *weights, "--masks", out / "masks.json", *SHAPE, "--solver", "greedy")
    assert code == 0, err
    options = ("--masks", out / "masks.json", "--epochs", 1, "--out", tmp_path / "tuned")
    code, _, err = run("train", *MODEL, *weights, *DIGITS, *options)
    assert code == 0, err
    assert same(masks_in(tmp_path / "tuned"), masks_in(out))


def test_layers_have_amounts_of_their_own_from_a_profile_and_one_by_one(run, tmp_path, graph):
    (tmp_path / "profile.txt").write_text("0.2500 blocks.0.conv1.0\n0.8750 blocks.0.conv2.0\n")
    own = ("--profile", tmp_path / "profile.txt", "--layer-amount", "blocks.0.conv2.*=0.5", "--ignore", "blocks.2.*")
    code, _, err = run("prune", *MODEL, *SHAPE, "--amount", "0.75", *own, "--out", tmp_path / "out")
    assert code == 0, err
    kept = {name: int(mask.sum()) for name, mask in masks_in(tmp_path / "out").items()}
    assert kept == {
        "blocks.0.conv1.0.weight": 6,
        "blocks.0.conv2.0.weight": 4,
        "blocks.1.conv1.0.weight": 2,
        "blocks.1.conv2.0.weight": 4,
        "blocks.1.down.0.weight": 2,
    }


def test_the_file_of_the_model_may_register_an_importance(run, tmp_path, monkeypatch):
    """With an export the file is loaded twice."""
    monkeypatch.setattr("upscale_opt.importance.registry.IMPORTANCES", {**IMPORTANCES})
    (tmp_path / "own.py").write_text(
        "import numpy as np\nfrom lessons import Small\nfrom upscale_opt import Importance, register_importance\n"
        "register_importance(Importance('mine', lambda _, name: np.arange(16.0 if '2.conv' in name else 8.0), 'me'))\n"
    )
    options = ("--importance", "mine", "--ignore", "blocks.1.*", *SHAPE, "--export", tmp_path / "export")
    code, _, err = run("prune", "--model", f"{tmp_path}/own.py:Small", *options, "--out", tmp_path / "out")
    assert code == 0, err
    assert all(not mask[: len(mask) // 2].any() for mask in masks_in(tmp_path / "out").values())
    with pytest.raises(MaskError, match="there is an importance 'mine' already"):
        register_importance(Importance("mine", lambda _, name: np.zeros(8), "somebody else"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            (*SHAPE, "--importance", "taylor"),
            "the importance taylor looks at images; give --data: digits, mnist5k, file.py:function or",
        ),
        ((*SHAPE, "--importance", "hrnak"), "there is no importance 'hrnak'; did you mean hrank?"),
        (
            ("--importance", "hrank", "--data", "nowhere"),
            "there is no folder nowhere; give digits, mnist5k, path/to/file.py:function, or a folder",
        ),
        (("--importance", "hrank", *DIGITS, "--model", f"{FILE}:three"), "has 3 outputs, but digits has 10 classes"),
        (("--importance", "hrank", *DIGITS, "--model", f"{FILE}:coloured"), "of shape 1x8x8"),
        (("--importance", "hrank", *DIGITS, "--images", "0"), "the number of images is 0"),
        (
            (*SHAPE, "--amount", "0.99", "--scope", "global"),
            "each of 7 layers keeps one; choose an amount of at most 0.9",
        ),
        ((*SHAPE, "--amount", "1"), "amount 1 is outside [0, 1)"),
        ((*SHAPE, "--mode", "both"), "there is no mode 'both' for prune; choose input, constrained or output"),
        ((*SHAPE, "--scope", "some"), "there is no scope 'some'"),
        ((*SHAPE, "--layer-amount", "0.5"), "--layer-amount '0.5' is not understood; write it like layer4.*=0.7"),
        ((*SHAPE, "--layer-amount", "layer9.*=0.5"), "matches no convolution"),
        ((*SHAPE, "--layer-amount", "blocks.*=2"), "amount 2 is outside [0, 1)"),
        ((*SHAPE, "--profile", "nowhere.txt"), "cannot read nowhere.txt"),
        ((*SHAPE, "--ignore", "blocks.*"), "the network has no convolution whose inputs can be dropped"),
        ((*SHAPE, "--importance", "bn-scale", "--out", __file__), "is no directory"),
    ],
)
def test_errors_are_one_sentence_and_nothing_is_written(run, tmp_path, options, message):
    if "digits" in options:
        pytest.importorskip("sklearn")
    model = () if "--model" in options else MODEL
    out = () if "--out" in options else ("--out", tmp_path / "out")
    code, text, err = run("prune", *model, *options, *out, "--export", tmp_path / "pruned")
    assert code == 2 and text == "" and message in err and len(err.strip().splitlines()) == 1, err
    assert not list(tmp_path.iterdir())


def test_a_directory_is_needed(run):
    code, _, err = run("prune", *MODEL, *SHAPE)
    assert code == 2 and "give --out, a directory for masks and weights" in err
