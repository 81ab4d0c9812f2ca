"""Tests of masks from Torch-Pruning: against the package where it is installed, and on groups as it makes them."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from upscale_opt import MaskError, effective_masks, from_torch_pruning, prepare, read_masks, save_masks, trace

X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


class Network(nn.Module):
    """A residual stream, a concat, a depthwise and a grouped convolution, and a linear layer behind a flatten."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.inner = nn.Sequential(nn.Conv2d(12, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 12, 1))
        self.depthwise, self.side = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 8, 1)
        self.join, self.grouped = nn.Conv2d(20, 8, 1), nn.Conv2d(8, 8, 1, groups=2)
        self.head = nn.Linear(8 * 4, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.inner(x))
        x = self.join(torch.cat([self.depthwise(x), self.side(x)], 1))
        return self.head(nn.functional.adaptive_avg_pool2d(torch.relu(self.grouped(x)), 2).flatten(1))


def network():
    torch.manual_seed(0)
    model = Network().eval()
    for own in model.modules():
        if isinstance(own, nn.BatchNorm2d):
            nn.init.uniform_(own.running_mean), nn.init.uniform_(own.bias), nn.init.uniform_(own.running_var, 0.5, 2)
    return model


def prune_in_channels():
    """As the package names its functions."""


def prune_out_channels():
    """As the package names its functions."""


def group(*items):
    """A group as the package makes it: pairs of a dependency and channels."""
    return [
        SimpleNamespace(dep=SimpleNamespace(target=SimpleNamespace(module=own), handler=function), idxs=list(idxs))
        for own, function, idxs in items
    ]


def test_groups_are_masks_of_consumers_with_features_behind_a_flatten():
    model = network()
    stem = group(
        (model.stem, prune_out_channels, [1, 5]),
        (model.norm, prune_out_channels, [1, 5]),
        (nn.ReLU(), prune_out_channels, [1, 5]),
        (model.depthwise, prune_out_channels, [1, 5]),
        (model.inner[0], prune_in_channels, [SimpleNamespace(idx=1), SimpleNamespace(idx=5)]),
    )
    last = group(
        (model.grouped, prune_out_channels, [0, 4]), (model.head, prune_in_channels, [0, 1, 2, 3, 16, 17, 18, 19])
    )
    found = from_torch_pruning(model, [stem, last])
    assert {name: np.flatnonzero(~mask).tolist() for name, mask in found.columns.items()} == {
        "inner.0.weight": [1, 5],
        "head.weight": [0, 1, 2, 3, 16, 17, 18, 19],
    }
    assert np.array_equal(from_torch_pruning(model, stem).columns["inner.0.weight"], found.columns["inner.0.weight"])
    assert repr(found) == "<PruningMasks 2 weights drop 10 of 44 input channels and 0 of 0 output channels>"


def test_masks_from_groups_are_taken_directly_and_as_a_file(tmp_path):
    model = network()
    found = from_torch_pruning(model, group((model.join, prune_in_channels, [0, 19])))
    masked = prepare(model, X, found)
    assert np.flatnonzero(~masked.masks["join.weight"]).tolist() == [0, 19]
    assert masked.export().verification.passed
    save_masks(found, tmp_path / "masks.safetensors")
    again = effective_masks(trace(model, X), read_masks(tmp_path / "masks.safetensors"))
    assert np.array_equal(again.masks["join.weight"], found.columns["join.weight"])


def test_a_grouped_convolution_drops_the_same_channels_of_every_group():
    model = network()
    found = from_torch_pruning(model, group((model.grouped, prune_in_channels, [1, 5])))
    assert found.columns["grouped.weight"].tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("pruned", "text"),
    [
        (3, "pruned is 3; give groups, a pruner"),
        ([3], "pruned holds 3; give groups"),
        (lambda m: group((m.head, prune_out_channels, [0])), "outputs of head that no layer reads.*ignored_layers"),
        (lambda m: group((nn.Conv2d(2, 2, 1), prune_in_channels, [0])), "not in this network"),
        (lambda m: group((m.join, prune_in_channels, [20])), "channel 20 of join, which has 20"),
        (lambda m: group((nn.Parameter(torch.ones(3)), prune_out_channels, [0])), "a parameter of its own"),
        ([["stem", True, [0]]], "give example_inputs"),
    ],
)
def test_what_is_no_pruning_of_the_network_is_refused(pruned, text):
    model = network()
    with pytest.raises(MaskError, match=text):
        from_torch_pruning(model, pruned(model) if callable(pruned) else pruned)


def test_channels_under_a_normalisation_over_channels_are_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    pruned = group(
        (model[0], prune_out_channels, [0]), (model[1], prune_out_channels, [0]), (model[2], prune_in_channels, [0])
    )
    with pytest.raises(MaskError, match=r"channels of 1 \(LayerNorm\), which changes what it makes of the others"):
        from_torch_pruning(model, pruned)


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    with pytest.raises(MaskError, match="run pip install torch-pruning, or give groups"):
        from_torch_pruning(network(), [["stem", True, [0]]], X)


# Against the package


def pruner_of(package, model, **settings):
    importance = package.importance.GroupMagnitudeImportance(p=2)
    ignored = [model.head]
    return package.pruner.BasePruner(model, X, importance, pruning_ratio=0.5, ignored_layers=ignored, **settings)


def test_exports_compute_what_the_pruned_network_computes():
    """Groups before pruning, and the history of three steps after it: the export has the outputs of Torch-Pruning's."""
    package = pytest.importorskip("torch_pruning")
    model = network()
    groups = list(pruner_of(package, model).step(interactive=True))
    found = from_torch_pruning(model, groups)
    pruned = copy.deepcopy(model)
    pruner = pruner_of(package, pruned, iterative_steps=3)
    for _ in range(3):
        pruner.step()
    for masks, expected in ((from_torch_pruning(model, pruner, X), pruned), (found, None)):
        exported = prepare(model, X, masks).export()
        assert exported.verification.passed and any(not mask.all() for mask in masks.columns.values())
        if expected is None:
            expected = copy.deepcopy(model)
            pruner_of(package, expected).step()
        with torch.no_grad():
            assert torch.allclose(exported(X), expected(X), rtol=1e-4, atol=1e-5)
        count = sum(own.numel() for own in expected.parameters())
        assert sum(own.numel() for own in exported.module.parameters()) == count
    history = [(name, is_out, list(numbers)) for name, is_out, numbers in pruner.pruning_history()]
    again = from_torch_pruning(model, history, X)
    assert all(
        np.array_equal(mask, again.columns[name]) for name, mask in from_torch_pruning(model, pruner, X).columns.items()
    )
    with pytest.raises(MaskError, match=r"names 'stem\.x', which this network lacks"):
        from_torch_pruning(model, [("stem.x", True, [0])], X)
