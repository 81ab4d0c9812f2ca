"""Stitched models and global AdaPrune: levels come and go exactly, masks hold, errors fall, interrupts do no harm."""

import networks
import numpy as np
import pytest
import torch
from torch import nn

from problems import sparsity_grid
from upscale_opt import MaskError, effective_masks, export, trace
from upscale_opt.spdy import global_adaprune as module
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.global_adaprune import Tuning, global_adaprune
from upscale_opt.spdy.prunable_layers import prunable_layers
from upscale_opt.spdy.reconstructions import Repair, reconstruct
from upscale_opt.spdy.stitching import Stitching, mean_loss

GRID = sparsity_grid(steps=3, highest=0.8)


@pytest.fixture(scope="module")
def example():
    model, (x, *_) = networks.make(networks.Residual)
    layers = prunable_layers(trace(model, x))
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    data = CalibrationData((images,)).labelled_by(model)
    found = reconstruct(model, layers, {own.name: GRID for own in layers}, data, Repair("least-squares"))
    return model, layers, data, found


def test_levels_come_and_go_exactly(example):
    model, layers, data, found = example
    stitching = Stitching(model, found)
    dense = mean_loss(stitching.model, data)
    assert dense == mean_loss(model, data)
    stitching.put({own.name: own.kept(0.8) for own in layers})
    assert mean_loss(stitching.model, data) > dense
    masks, state = stitching.masks(), stitching.state()
    assert set(masks) == {own.weight for own in layers}
    for own in layers:
        assert masks[own.weight].sum() == own.kept(0.8) and masks[own.weight].dtype == bool
        assert (state[own.weight][:, ~masks[own.weight]] == 0).all()
    stitching.put({})
    assert mean_loss(stitching.model, data) == dense
    assert all(mask.all() for mask in stitching.masks().values())
    assert all(torch.equal(a, b) for a, b in zip(stitching.state().values(), model.state_dict().values(), strict=True))


def test_statistics_can_be_estimated_again(example):
    model, layers, data, found = example
    stitching = Stitching(model, found, reestimate=True, data=data)
    stitching.put({own.name: own.kept(0.8) for own in layers})
    norm, dense = stitching.model.bn, model.bn
    assert not torch.equal(norm.running_mean, dense.running_mean)
    assert norm.momentum == dense.momentum and not norm.training
    seen = []
    handle = norm.register_forward_hook(lambda own, inputs, y: seen.append(inputs[0]))
    stitching.model(*data.inputs)
    handle.remove()
    assert torch.allclose(norm.running_mean, seen[0].mean((0, 2, 3)), atol=1e-2)  # normalised by batch upstream
    with pytest.raises(MaskError, match="give data="):
        Stitching(model, found, reestimate=True)


def test_a_score_needs_labels_that_fit(example):
    model, _, data, _ = example
    with pytest.raises(MaskError, match="needs labels"):
        mean_loss(model, CalibrationData(data.inputs))
    with pytest.raises(MaskError, match="the loss rejects"):
        mean_loss(model, CalibrationData(data.inputs, torch.full((64,), 99)))
    assert mean_loss(model, CalibrationData(data.inputs), lambda y, _: y.square().mean()) > 0


def tuned(example, **options):
    model, layers, data, found = example
    stitching = Stitching(model, found)
    stitching.put({own.name: own.kept(0.4) for own in layers})
    tuning = Tuning(passes=6, learning_rate=1e-3)
    return stitching, global_adaprune(stitching.model, model, stitching.masks(), data, tuning, **options)


def test_global_adaprune_lowers_the_error_and_keeps_the_masks(example):
    model, layers, _, _ = example
    stitching, result = tuned(example)
    assert result.error_after < result.error_before and "before" in str(result)
    masks = stitching.masks()
    for own in layers:
        assert (result.model.get_parameter(own.weight)[:, ~masks[own.weight]] == 0).all()
    assert not torch.equal(result.model.head.bias, model.head.bias)  # biases learn
    assert torch.equal(result.model.bn.running_mean, model.bn.running_mean)  # statistics do not
    assert torch.equal(stitching.model.head.bias, model.head.bias)  # the student given is not changed


def test_global_adaprune_goes_on_exactly(example, tmp_path, monkeypatch):
    _, whole = tuned(example)
    path, honest, calls = tmp_path / "global.safetensors", module._keep, []

    def killed(*arguments):
        honest(*arguments)
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        tuned(example, checkpoint=path)
    monkeypatch.setattr(module, "_keep", lambda *given: calls.append(given) or honest(*given))
    _, resumed = tuned(example, checkpoint=path)
    assert len(calls) == 6
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    model, _, data, _ = example
    with pytest.raises(MaskError, match="another model, data or tuning"):
        global_adaprune(model, model, {}, data, Tuning(passes=1), checkpoint=path)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.one(x))
        return self.relu(self.two(self.relu(self.two(x)))).mean((2, 3))


def test_in_place_work_and_second_calls_do_not_confuse_global_adaprune():
    torch.manual_seed(0)
    model, data = InPlace().eval(), CalibrationData((torch.randn(8, 3, 4, 4),))
    student = InPlace().eval()
    masks = {"two.weight": np.array([True, False, True, True])}
    found = global_adaprune(student, model, masks, data, Tuning(passes=5, learning_rate=1e-2))
    assert found.error_after < found.error_before
    assert global_adaprune(model, model, {}, data, Tuning(passes=0)).error_before == 0


def test_an_export_of_the_stitched_weights_verifies(example):
    model, layers, _, found = example
    stitching = Stitching(model, found)
    stitching.put({own.name: own.kept(0.4) for own in layers})
    x = torch.randn(1, 3, 8, 8)
    graph = trace(stitching.model, x)
    exported = export(stitching.model, x, masks=effective_masks(graph, stitching.masks()).masks, baseline=True)
    assert exported.verification.passed
