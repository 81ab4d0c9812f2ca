"""Reconstructions: repaired layers err less, masks nest, dropped columns are zero, and a killed run goes on exactly."""

import itertools

import networks
import numpy as np
import pytest
import torch
from torch import nn

from problems import sparsity_grid
from upscale_opt import MaskError, trace
from upscale_opt.spdy import reconstructions as module
from upscale_opt.spdy.calibration_data import CalibrationData, calibration_data
from upscale_opt.spdy.least_squares import moments_of
from upscale_opt.spdy.prunable_layers import prunable_layers
from upscale_opt.spdy.reconstructions import Repair, reconstruct, strongest

GRID = sparsity_grid(steps=4, highest=0.9)


@pytest.fixture(scope="module")
def example():
    model, (x, *_) = networks.make(networks.Residual)
    layers = prunable_layers(trace(model, x))
    data = CalibrationData((torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(1)),))
    return model, layers, {own.name: GRID for own in layers}, data


QUICK = {"adaprune": Repair(passes=3), "least-squares": Repair("least-squares")}


@pytest.mark.parametrize("method", QUICK)
def test_repaired_layers_err_less_and_masks_nest(example, method):
    model, layers, levels, data = example
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = reconstruct(model, layers, levels, data, QUICK[method])
    for layer in layers:
        counts = sorted(set(layer.counts(GRID)) - {layer.channels}, reverse=True)
        masks = [found.mask(layer, layer.channels), *(found.mask(layer, n) for n in counts)]
        assert all((small <= large).all() for large, small in itertools.pairwise(masks))
        for n in counts:
            level = found.levels[layer.name, n]
            assert level.kept.sum() == n
            assert level.error < level.mask_only_error
            weight = level.weight
            assert (weight[:, ~level.kept] == 0).all() and not (weight[:, level.kept] == 0).all()
            assert weight.shape == model.get_parameter(layer.weight).shape
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert len(found.levels) == sum(len(set(own.counts(GRID))) - 1 for own in layers)


def test_least_squares_are_exact_never_worse_and_monotone(example):
    model, layers, _, data = example
    layer = layers[0]
    dense = model.get_parameter(layer.weight).detach()
    moments = moments_of(model, [layer.name], data)[layer.name]
    rng = np.random.default_rng(0)
    for _ in range(5):
        kept = rng.random(layer.channels) < 0.7
        smaller = kept & (rng.random(layer.channels) < 0.7)
        smaller[np.flatnonzero(kept)[0]] = True
        values = []
        for mask in (np.ones(layer.channels, dtype=bool), kept, smaller):
            dropped = dense.clone()
            dropped[:, ~mask] = 0
            weight = moments.solve(dense, mask)
            values.append(moments.penalised_error(weight, dense))
            assert moments.error(weight, dense) <= moments.error(dropped, dense) * (1 + 1e-6)
            for _ in range(3):  # no other weight on these columns does better
                other = weight + 0.01 * torch.randn_like(weight) * torch.from_numpy(mask)[None, :, None, None]
                assert moments.penalised_error(other, dense) > values[-1]
        assert values == sorted(values)
        assert values[0] < 1e-9  # all channels kept: the dense weight


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(5, 4, 3, padding=1, stride=2),
        nn.Conv2d(5, 4, (1, 3), dilation=(1, 2), padding=(0, 1)),
        nn.Linear(5, 4),
    ],
)
def test_moments_say_what_the_layer_computes(conv):
    torch.manual_seed(0)
    x = torch.randn(6, 5) if isinstance(conv, nn.Linear) else torch.randn(6, 5, 7, 7)
    model = nn.Sequential(conv).eval()
    moments = moments_of(model, ["0"], CalibrationData((x,)), batch_size=4)["0"]
    changed = conv.weight.detach() + torch.randn_like(conv.weight.detach())
    with torch.no_grad():
        wanted = float((model(x) - torch.func.functional_call(conv, {"weight": changed}, (x,))).square().sum())
        power = float(model(x).square().sum())
    assert moments.error(changed, conv.weight.detach()) * moments.power == pytest.approx(wanted, rel=1e-5)
    assert moments.power == pytest.approx(power, rel=1e-5)


@pytest.mark.parametrize("method", QUICK)
def test_a_killed_run_goes_on_and_finds_the_same_numbers(example, method, tmp_path, monkeypatch):
    model, layers, levels, data = example
    whole = reconstruct(model, layers, levels, data, QUICK[method])
    honest, steps = module._step, []

    def killed(*arguments):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(arguments)
        return honest(*arguments)

    monkeypatch.setattr(module, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(model, layers, levels, data, QUICK[method], directory=tmp_path)
    steps.clear()
    monkeypatch.setattr(module, "_step", lambda *given: steps.append(given) or honest(*given))
    resumed = reconstruct(model, layers, levels, data, QUICK[method], directory=tmp_path)
    assert len(steps) == len(GRID) - 1 - 2
    assert whole.levels.keys() == resumed.levels.keys()
    for key, level in whole.levels.items():
        assert torch.equal(level.columns, resumed.levels[key].columns)
        assert (level.kept == resumed.levels[key].kept).all()
        assert (level.error, level.mask_only_error) == (resumed.levels[key].error, resumed.levels[key].mask_only_error)
    with pytest.raises(MaskError, match="another model, data, seed or method"):
        reconstruct(model, layers, levels, data, Repair(seed=5), directory=tmp_path)
    next(tmp_path.iterdir()).write_bytes(b"nothing")
    with pytest.raises(MaskError, match="cannot be read"):
        reconstruct(model, layers, levels, data, QUICK[method], directory=tmp_path)


def test_the_weakest_columns_go_first_and_of_equals_the_first():
    weight = torch.tensor([[3.0, 1.0, 1.0, 2.0, 0.0]])
    all_of_them = np.ones(5, dtype=bool)
    assert strongest(weight, all_of_them, 5).all()
    assert strongest(weight, all_of_them, 3).tolist() == [True, False, True, True, False]
    assert strongest(weight, np.array([True, False, True, True, False]), 3).tolist() == [True, False, True, True, False]


def test_data_is_gathered_from_batches():
    model = nn.Conv2d(1, 1, 1)
    batches = [(torch.zeros(3, 1, 8, 8), torch.arange(3)), (torch.ones(2, 1, 8, 8), torch.arange(2))]
    data = calibration_data(iter(batches), model)
    assert data.num_images == 5 and data.labels.tolist() == [0, 1, 2, 0, 1]
    assert [len(inputs[0]) for inputs, _ in data.batches(2)] == [2, 2, 1]
    _, shuffled = next(data.batches(5, torch.Generator().manual_seed(0)))
    assert sorted(shuffled.tolist()) == [0, 0, 1, 1, 2]
    assert calibration_data(torch.zeros(2, 1, 8, 8), model).labels is None
    one = torch.zeros(1)
    for wrong in ([], [(one, one, one)], [(one, 3)], [*batches, batches[0][0]]):
        with pytest.raises(MaskError):
            calibration_data(wrong, model)


@pytest.mark.parametrize("values", [{"method": "magic"}, {"learning_rate": 0.0}, {"passes": -1}, {"seed": -1}])
def test_repairs_that_make_no_sense_are_refused(values):
    with pytest.raises(MaskError):
        Repair(**values)
