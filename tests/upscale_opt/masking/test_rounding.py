"""Tests of rounded counts, names to ignore, what is reported of both, and files of masks."""

import json

import networks
import numpy as np
import pytest
import torch

from upscale_opt import (
    KeptChannels,
    MaskError,
    effective_masks,
    export,
    extract,
    l2_masks,
    normalise_masks,
    read_masks,
    save_masks,
    save_plan,
    trace,
)
from upscale_opt.arguments.amounts import round_up
from upscale_opt.planning.plans import baseline_plan


@pytest.fixture
def graph():
    return trace(*networks.make(networks.Residual))


def test_counts_are_rounded_up_to_at_least_the_minimum_and_never_above_the_size():
    for size in range(1, 30):
        for kept in range(1, size + 1):
            for multiple in (1, 3, 8):
                for least in (1, 5):
                    found = round_up(kept, size, round_to=multiple, min_channels=least)
                    assert kept <= found <= size and found >= min(least, size)
                    assert found == size or (found % multiple == 0 and found - multiple < max(kept, least))


def test_the_strongest_removed_channels_come_back(graph):
    """Asked for 5 of 16, rounded to 8: those that an amount that keeps 8 would have kept."""
    asked = l2_masks(graph, "0.7")
    found = effective_masks(graph, asked, round_to=8)
    wanted = l2_masks(graph, 0.5)
    for name in ("down.weight", "blocks.1.conv1.weight"):
        assert asked[name].sum() == 5 and np.array_equal(found.masks[name], wanted[name])
    report = {own.weight: own for own in found.report}
    assert list(report) == list(graph.consumers)
    assert report["down.weight"] == KeptChannels("down.weight", 16, 5, 8)
    assert report["head.weight"] == KeptChannels("head.weight", 24, 24, 24)
    assert report["stem.weight"] == KeptChannels("stem.weight", 3, 3, 3)


def test_ties_come_back_in_the_order_in_which_they_would_stay(graph):
    with torch.no_grad():
        graph.module.get_parameter("down.weight").fill_(1.0)
    masks = effective_masks(graph, l2_masks(graph, "0.8"), min_channels=6).masks
    assert np.array_equal(masks["down.weight"], l2_masks(graph, 10 / 16)["down.weight"])


def test_rounding_counts_what_is_left_without_zeros_and_may_bring_one_back(graph):
    with torch.no_grad():
        graph.module.get_parameter("down.weight")[:, :3] = 0
    found = effective_masks(graph, {"down.weight": np.arange(16) < 10}, round_to=4)
    assert found.masks["down.weight"].sum() == 8 and not found.masks["down.weight"][:3].any()
    assert next(own for own in found.report if own.weight == "down.weight") == KeptChannels("down.weight", 16, 10, 8)
    everything = effective_masks(graph, {"down.weight": np.arange(16) < 10}, round_to=16)
    assert everything.masks["down.weight"].all()


def test_behind_a_flatten_whole_channels_are_counted_and_come_back():
    model, inputs = networks.make(networks.Flattened)
    graph = trace(model, inputs)
    mask = np.zeros(108, dtype=bool)
    mask[[0, 5, 40]] = True
    found = effective_masks(graph, {"fc1.weight": mask}, round_to=4)
    channels = found.masks["fc1.weight"].reshape(12, 9)
    assert channels.any(1).sum() == 4 and channels.all(1).sum() == 2 and channels[[0, 4]].sum() == 3
    norms = model.fc1.weight.detach().pow(2).sum(0).reshape(12, 9).sum(1).numpy()
    norms[[0, 4]] = np.inf
    assert set(np.flatnonzero(channels.any(1))) == set(np.argsort(norms)[-4:])
    assert next(own for own in found.report if own.weight == "fc1.weight") == KeptChannels("fc1.weight", 12, 2, 4)


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Inverted, networks.Odd])
def test_exports_of_rounded_masks_are_exact(network):
    """A zero column that rounding brings back included."""
    model, inputs = networks.make(network)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Conv2d) and name != "stem":
                module.weight[:, 0] = 0
    graph = trace(model, inputs)
    masks = effective_masks(graph, l2_masks(graph, 0.5), round_to=4, min_channels=5).masks
    made = baseline_plan(extract(graph, masks), masks)
    assert export(model, inputs, made, graph=graph).verification.relative_error <= 1e-9


def test_ignored_consumers_have_no_mask(graph):
    names = set(l2_masks(graph, 0.5))
    for ignore, gone in (
        (["down"], {"down.weight"}),
        (["blocks.1.*"], {"blocks.1.conv1.weight", "blocks.1.conv2.weight"}),
        (["*.conv1.weight", "d?wn"], {"down.weight", *(f"blocks.{i}.conv1.weight" for i in range(3))}),
        ("down", {"down.weight"}),
    ):
        assert set(l2_masks(graph, 0.5, ignore=ignore)) == names - gone


@pytest.mark.parametrize(
    ("pattern", "hint"), [("dawn", "did you mean down"), ("blocks", "blocks.\\*"), ("zzz*", "there are stem.weight")]
)
def test_a_pattern_that_matches_nothing_is_refused(graph, pattern, hint):
    with pytest.raises(MaskError, match=f"matches no convolution or linear layer of the network; .*{hint}"):
        l2_masks(graph, 0.5, ignore=["down", pattern])


@pytest.mark.parametrize("name", ["masks.json", "masks.safetensors"])
def test_masks_come_back_from_files(graph, tmp_path, name):
    masks = l2_masks(graph, 0.5)
    save_masks(masks, tmp_path / name)
    found = normalise_masks(graph, read_masks(tmp_path / name))
    assert set(found) == set(masks) and all(np.array_equal(found[weight], masks[weight]) for weight in masks)


def test_kept_channels_module_names_and_plans_are_read(graph, tmp_path):
    (tmp_path / "kept.json").write_text('{"down": [1, 2]}')
    found = normalise_masks(graph, read_masks(tmp_path / "kept.json"))
    assert np.flatnonzero(found["down.weight"]).tolist() == [1, 2]
    masks = effective_masks(graph, found).masks
    save_plan(baseline_plan(extract(graph, masks), masks), tmp_path / "plan.json")
    assert np.array_equal(read_masks(tmp_path / "plan.json")["down.weight"], masks["down.weight"])


def test_pairs_of_pruned_channels_are_read_from_json(graph, tmp_path):
    (tmp_path / "pairs.json").write_text('[["down.weight", 1], ["down.weight", 3], ["stem", 0]]')
    found = normalise_masks(graph, read_masks(tmp_path / "pairs.json"))
    assert np.flatnonzero(~found["down.weight"]).tolist() == [1, 3] and np.flatnonzero(~found["stem.weight"]) == [0]


def _wrong_files(directory):
    from safetensors.numpy import save_file

    torch.save({"down.weight": torch.ones(16, dtype=torch.bool)}, directory / "masks.pt")
    save_file({"down.weight": np.ones(16, dtype=np.float32)}, directory / "weights.safetensors")
    save_file({"down.weight": np.ones((16, 16), dtype=bool)}, directory / "matrix.safetensors")
    (directory / "garbage.safetensors").write_bytes(b"garbage")
    (directory / "binary.json").write_bytes(b"\x80\x04\x95")
    (directory / "list.json").write_text("[1]")
    (directory / "number.json").write_text("1")
    (directory / "halves.json").write_text('[["down", 0.5]]')
    (directory / "newer.json").write_text(json.dumps({"format": "upscale_opt.plan", "version": 99}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("masks.pt", "may be a pickle, which is not read"),
        ("weights.safetensors", "'down.weight' is float32 of shape"),
        ("matrix.safetensors", "masks are Boolean vectors"),
        ("garbage.safetensors", "no safetensors file of masks"),
        ("binary.json", "is not valid JSON"),
        ("list.json", "each entry must be a pair such as"),
        ("number.json", "object of weight names"),
        ("halves.json", "each entry must be a pair such as"),
        ("newer.json", "newer than"),
        ("nothing.json", "cannot read"),
    ],
)
def test_files_that_hold_no_masks_are_refused(tmp_path, name, message):
    _wrong_files(tmp_path)
    with pytest.raises(MaskError, match=message):
        read_masks(tmp_path / name)
