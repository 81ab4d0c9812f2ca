"""Tests of layers that a trace has no way with: each is listed with its reason, and nothing is silent about it."""

import copy
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from networks import Residual
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from problems import Order
from upscale_opt import (
    MaskError,
    ModelError,
    UpscaleWarning,
    compare,
    constrained_masks,
    effective_masks,
    export,
    extract,
    l2_masks,
    masked_copy,
    masks_from_pruning,
    normalise_output_masks,
    permanently_pruned,
    plain_weights,
    prepare,
    trace,
)
from upscale_opt import prune as prune_model
from upscale_opt.__main__ import main
from upscale_opt.models.weight_parametrisations import computed_weights
from upscale_opt.planning.plans import plan_of_orders
from upscale_opt.tracing.skipped import Skipped, grouped

X = torch.zeros(1, 3, 8, 8)


class Standardised(nn.Conv2d):
    """As timm's StdConv2d: the weight is computed in every pass."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias, self.stride, self.padding)


class Embedded(nn.Module):
    """A layer without a rule in front of a convolution."""

    def __init__(self):
        super().__init__()
        self.bilinear = nn.Bilinear(8, 8, 8)
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(self.bilinear(x, x))


def chain(wrap=lambda layer: layer, kind=nn.Conv2d):
    torch.manual_seed(0)
    layers = [wrap(kind(3, 8, 3, padding=1)), nn.ReLU(), wrap(kind(8, 8, 1)), nn.ReLU(), wrap(kind(8, 4, 1))]
    return nn.Sequential(*layers).eval()


def hooked(layer):
    layer.register_forward_hook(lambda module, inputs, output: output)
    return layer


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # weight_norm announces its successor
        yield


WRAPS = {
    "weight_norm by a hook": nn.utils.weight_norm,
    "spectral_norm by a hook": nn.utils.spectral_norm,
    "parametrised by WeightNorm": parametrizations.weight_norm,
    "parametrised by SpectralNorm": parametrizations.spectral_norm,
    r"a mask of torch\.nn\.utils\.prune": lambda layer: prune.ln_structured(layer, "weight", 0.5, n=2, dim=1),
    "forward hooks": hooked,
}


@pytest.mark.parametrize(("reason", "wrap"), WRAPS.items(), ids=WRAPS)
def test_layers_whose_weights_are_computed_are_listed_and_an_export_says_that_nothing_goes(reason, wrap):
    model = chain(wrap)
    graph = trace(model, X)
    assert not graph.consumers
    assert [(own.path, own.kind) for own in graph.skipped] == [(name, "Conv2d") for name in "024"]
    assert all(own.reason == reason.replace("\\", "") for own in graph.skipped)
    assert all(own.remedy for own in graph.skipped)
    assert f"skipped: 3 layers with parameters (Conv2d): {graph.skipped[0].reason}: 0, 2, 4" in str(graph)
    assert {pin.node for pin in graph.unsupported} == {"_0", "_2", "_4"}
    with pytest.warns(UpscaleWarning, match=rf"removes nothing.*no convolution.*3 layers.*{reason}"):
        export(model, X, baseline=True, graph=graph)


def test_standardised_convolutions_are_listed_by_their_own_class():
    graph = trace(chain(kind=Standardised), X)
    assert {str(own) for own in graph.skipped} == {
        f"{name} (Standardised): its weight is computed in every pass; make its weight plain "
        "(upscale_opt.plain_weights), or hold the computed weight in a plain layer"
        for name in "024"
    }
    assert len(graph.unsupported) == 3


def test_parts_that_torch_export_made_are_followed():
    part = torch.export.export(nn.Conv2d(3, 8, 1).eval(), (torch.zeros(2, 3, 8, 8),)).module()
    part.training = False
    model = nn.Sequential(part, nn.Conv2d(8, 4, 1))
    model.training = False
    graph = trace(model, torch.zeros(2, 3, 8, 8))
    assert not graph.skipped and list(graph.consumers) == ["0.weight", "1.weight"]
    exported = export(model, torch.zeros(2, 3, 8, 8), masks=constrained_masks(graph, 0.5), baseline=True)
    assert exported.verification.passed and exported.module.get_parameter("0.weight").shape[0] == 4


def test_only_the_layers_that_nobody_follows_are_listed():
    mixed = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), Standardised(8, 8, 1), nn.Conv2d(8, 8, 1, groups=8))
    graph = trace(mixed.append(nn.Conv2d(8, 4, 1)).eval(), X)
    assert [own.path for own in graph.skipped] == ["2"]
    assert not trace(Residual().eval(), X).skipped
    embedded = trace(Embedded().eval(), X)
    assert embedded.skipped == (Skipped("bilinear", "Bilinear", "no rule for Bilinear"),)


def test_an_export_that_removes_something_does_not_warn_and_one_that_keeps_all_says_why():
    model = chain()
    graph = trace(model, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(model, X, masks=l2_masks(graph, 0.5), baseline=True)
    with pytest.warns(UpscaleWarning, match="removes nothing, it has all 332 parameters: the masks keep every"):
        export(model, X, baseline=True)
    both = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))).eval()
    tied = trace(both, X)
    masks = {"1.0": [0, 1], "1.1": [0, 1, 2, 3]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(both, X, masks=masks, baseline=True, graph=tied)


def test_pinned_channels_that_masks_drop_are_no_removal():
    class Pinned(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)

        def forward(self, x):
            x = self.a(x)
            return self.b(x), x

    model = Pinned().eval()
    masks = effective_masks(graph := trace(model, X), {"b": [0, 5]}).masks
    problems = extract(graph, masks)
    orders = {name: Order.identity(problem) for name, problem in problems.items()}
    with pytest.warns(UpscaleWarning, match="every channel that a mask drops is pinned, or read by a layer"):
        export(model, X, plan_of_orders(problems, masks, orders, objective="span"), graph=graph)


# Weights made plain


@pytest.mark.parametrize(("reason", "wrap"), list(WRAPS.items())[:5], ids=list(WRAPS)[:5])
def test_plain_weights_compute_the_same_and_can_be_pruned(reason, wrap):
    model = chain(wrap)
    x = torch.randn(2, 3, 8, 8)
    expected, state = model(x).detach(), {name: own.clone() for name, own in model.state_dict().items()}
    plain = plain_weights(model)
    assert computed_weights(model) and not computed_weights(plain)
    assert (plain(x) - expected).abs().max() <= 1e-6 and torch.equal(model(x), expected)
    assert all(torch.equal(own, state[name]) for name, own in model.state_dict().items())
    graph = trace(plain, X)
    assert len(graph.consumers) == 3 and not graph.skipped
    with warnings.catch_warnings():
        warnings.simplefilter("error", UpscaleWarning)
        exported = export(plain, X, masks=l2_masks(graph, 0.5), baseline=True)
    assert exported.verification.passed
    assert set(plain.state_dict()) == {f"{i}.{name}" for i in "024" for name in ("weight", "bias")}


def test_weights_that_hooks_compute_are_no_obstacle_to_copies():
    """Such a weight is a tensor with a gradient among a module's attributes, which torch refuses to copy."""
    model = chain(nn.utils.weight_norm)
    model(X)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    assert torch.equal(masked_copy(model, {})(X), model(X))
    assert torch.equal(permanently_pruned(model)(X), model(X))
    assert export(model, X, baseline=True).verification.passed


# The command line

FACTORY = """
import torch
from torch import nn


def weight_normed():
    wrap = nn.utils.parametrizations.weight_norm
    return nn.Sequential(wrap(nn.Conv2d(3, 8, 3)), nn.ReLU(), wrap(nn.Conv2d(8, 8, 1)), wrap(nn.Conv2d(8, 4, 1)))


class Steered(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight * x.mean().sigmoid(), self.bias, self.stride, self.padding)


def steered():
    return nn.Sequential(Steered(3, 8, 3), nn.ReLU(), Steered(8, 4, 1))


def rows():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    nn.utils.prune.ln_structured(model[0], "weight", 0.5, n=2, dim=0)
    return model
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    (tmp_path / "factory.py").write_text(FACTORY)

    def command(name, factory, *arguments):
        model = ("--model", f"{tmp_path}/factory.py:{factory}", "--input-shape", "1,3,8,8")
        monkeypatch.setattr(sys, "argv", ["upscale-opt", name, *model, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return command


def test_the_command_line_says_what_it_skips_and_that_nothing_is_removed(run, tmp_path):
    code, _, err = run("solve", "steered", "--json", tmp_path / "a.json")
    assert code == 0
    line = "2 layers with parameters (Steered): its weight is computed in every pass: 0, 2"
    assert f"note: skipped {line}" in err
    warned = [own for own in err.splitlines() if own.startswith("warning: ")]
    assert len(warned) == 1 and "the export removes nothing, it has all" in warned[0] and line in warned[0]
    skipped = json.loads((tmp_path / "a.json").read_text())["skipped"]
    assert [own["path"] for own in skipped] == ["0", "2"]
    assert skipped[0]["kind"] == "Steered" and skipped[0]["reason"] == "its weight is computed in every pass"
    code, _, err = run("export", "steered")
    assert code == 0 and "warning: the export removes nothing" in err
    code, _, err = run("show", "steered", "--out", tmp_path)
    assert code == 0 and f"note: skipped {line}" in err


def test_the_command_line_makes_computed_weights_plain(run):
    code, out, err = run("export", "weight_normed")
    assert code == 0 and "warning" not in err
    assert "note: weights of the model are computed at every call (WeightNorm); they are made plain" in err
    assert "verified" in out


def test_rows_that_are_zero_are_said_to_stay(run):
    code, _, err = run("solve", "rows", "--amount", "0")
    assert code == 0
    assert "note: 4 output channels (of 0.weight) have weights that are all zero" in err and "--output-masks" in err


# Masks of torch.nn.utils.prune


def test_masks_of_pruning_are_taken_as_what_they_are():
    pruned = chain()
    prune.ln_structured(pruned[2], "weight", 0.5, n=2, dim=1)
    graph = trace(chain(), X)
    found = masks_from_pruning(pruned)
    assert np.array_equal(effective_masks(graph, found).masks["2.weight"], found.columns["2.weight"])
    prune.ln_structured(pruned[0], "weight", 0.5, n=2, dim=0)
    rows = masks_from_pruning(pruned)
    with pytest.raises(MaskError, match=r"output channels of 0\.weight.*rows as outputs"):
        effective_masks(graph, rows)
    outputs = normalise_output_masks(graph, rows)
    assert outputs.keys() == {"0.weight"} and outputs["0.weight"].sum() == 4
    prepared = prepare(chain(), X, rows.columns, output_masks=rows)
    assert np.array_equal(prepared.output_masks["0.weight"], rows.rows["0.weight"])
    for direct in (prepare(chain(), X, rows), prune_model(chain(), X, masks=rows)):
        assert np.array_equal(direct.output_masks["0.weight"], rows.rows["0.weight"])
        assert np.array_equal(direct.masks["2.weight"], prepared.masks["2.weight"])
        assert "pruned outputs are made zero behind normalisation and activation: of 0.weight" in direct.messages
    assert compare(chain(), X, rows, ["greedy"], measure=False).exports["greedy"].verification.passed


def test_zero_rows_are_said_unless_an_output_mask_drops_them():
    pruned = chain()
    prune.ln_structured(pruned[0], "weight", 0.5, n=2, dim=0)
    rows = masks_from_pruning(pruned)
    model = permanently_pruned(pruned)
    (message,) = prepare(model, X).messages
    assert message.startswith("4 output channels (of 0.weight) have weights that are all zero")
    assert not prepare(model, X, output_masks=rows).messages
    assert any("zero" in own for own in compare(model, X, measure=False).to_dict()["messages"])
    with pytest.warns(UpscaleWarning, match=r"4 output channels \(of 0\.weight\) have weights that are all zero"):
        export(model, X, baseline=True)


def test_reasons_are_grouped():
    layers = [Skipped(f"a{i}", "Conv2d", "hooks", "remove them") for i in range(5)] + [Skipped("", "Net", "other")]
    assert grouped(layers) == [
        "5 layers with parameters (Conv2d): hooks: a0, a1, a2 and 2 more; remove them",
        "1 layer with parameters (Net): other: the network",
    ]


# Networks that cannot be pruned now


def test_quantised_networks_are_to_be_pruned_before():
    from torch.ao import quantization

    model = chain().train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantization.prepare_qat(model).eval()
    with pytest.raises(ModelError, match=r"prune the network before \(prepare_qat"):
        trace(model, X)
