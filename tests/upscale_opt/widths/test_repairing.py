"""Repair: it restores what can be restored, never makes a layer worse, and leaves alone what it says it leaves."""

import networks
import numpy as np
import pytest
import torch
import width_networks
from torch import nn
from torch.nn import functional
from width_networks import ALL, make, values_of

from upscale_opt import masked_copy, trace
from upscale_opt.models.running import reestimate_batch_norm
from upscale_opt.widths.candidates import candidate_widths, masks_of
from upscale_opt.widths.operator_groups import partition
from upscale_opt.widths.repairing import repaired, repaired_copy


class Redundant(nn.Module):
    """The last four channels of each hidden block are positive multiples of the first four."""

    def __init__(self, bias=True, in_place=True):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(8, 8, 3, padding="same", bias=bias)
        self.norm = nn.BatchNorm2d(8)
        self.third = nn.Linear(8, 5, bias=bias)
        self.relu = nn.ReLU(inplace=in_place)
        with torch.no_grad():
            for own in (self.first, self.second):
                own.weight[4:] = own.weight[:4] * torch.tensor([0.5, 1.0, 2.0, 3.0]).reshape(4, 1, 1, 1)
                if bias:
                    own.bias[4:] = own.bias[:4] * torch.tensor([0.5, 1.0, 2.0, 3.0])

    def forward(self, x):
        x = self.relu(self.first(x))
        return self.third(self.relu(self.norm(self.second(x))).mean((2, 3)))


def first_half(graph):
    scores = {block.name: np.arange(block.size, 0, -1.0) for block in graph.blocks}
    return masks_of(graph, scores, {b: graph.blocks[b].size // 2 for b in partition(graph).free})


def images(number, *shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randn(8, *shape, generator=generator).double() for shape in shapes) for _ in range(number)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_what_follows_from_kept_channels_is_restored_exactly(bias, in_place):
    torch.manual_seed(0)
    model = Redundant(bias, in_place).double().eval()
    batches = images(3, (3, 8, 8))
    reestimate_batch_norm(model, [(torch.cat([x for (x,) in batches]),)])
    graph = trace(model, batches[0])
    masks = first_half(graph)
    assert [int(mask.sum()) for mask in masks.values()] == [3, 4, 4]
    state = repaired(graph, masks, batches, ridge=0)
    mended = repaired_copy(model, state)
    x = images(1, (3, 8, 8), seed=1)[0][0]
    with torch.no_grad():
        torch.testing.assert_close(mended(x), model(x), rtol=1e-6, atol=1e-8)
        assert (masked_copy(model, masks)(x) - model(x)).abs().max() > 0.01
    for weight, mask in masks.items():
        assert not state[weight][:, ~mask].any(), "dropped columns stay empty"


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["linear", "conv", "strided", "no bias", "few images"])
def test_one_layer_is_never_worse_than_unrepaired(kind, ridge):
    torch.manual_seed(1)
    layers = {
        "linear": nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 9, 6)),
        "conv": nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 6, 3, padding=1)),
        "strided": nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 6, 2, stride=2, dilation=2, padding=1)),
        "no bias": nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 6, 3, padding="same", bias=False)),
        "few images": nn.Sequential(nn.Conv2d(3, 12, 5), nn.ReLU(), nn.Conv2d(12, 6, 1)),
    }
    model = layers[kind].double().eval()
    batches = [(x[: 1 if kind == "few images" else 8],) for (x,) in images(2, (3, 5, 5))]
    graph = trace(model, batches[0])
    masks = first_half(graph)
    mended = repaired_copy(model, repaired(graph, masks, batches, ridge=ridge))
    masked = masked_copy(model, masks)
    with torch.no_grad():
        errors = [sum(float((own(*x) - model(*x)).square().sum()) for x in batches) for own in (mended, masked)]
    assert errors[0] <= errors[1] * (1 + 1e-9)
    if ridge <= 1e-3:
        assert errors[0] < 0.9 * errors[1]


def test_nothing_dropped_is_nothing_changed():
    model, inputs = make(width_networks.PreActivation)
    graph = trace(model, inputs)
    state = repaired(graph, {}, [inputs])
    assert all(torch.equal(own, state[name]) for name, own in model.state_dict().items())


@pytest.mark.parametrize("kind", [networks.Residual, width_networks.PreActivation, networks.Flattened])
def test_statistics_are_those_of_the_repaired_network(kind):
    model, inputs = make(kind)
    model = model.double()
    graph = trace(model, [x.double() for x in inputs])
    masks = first_half(graph)
    batch = images(1, (3, 8, 8))[0]
    mended = repaired_copy(model, repaired(graph, masks, [batch]))
    seen = {}
    for name, own in mended.named_modules():
        if isinstance(own, nn.modules.batchnorm._BatchNorm):
            own.register_forward_pre_hook(lambda _, given, name=name: seen.__setitem__(name, given[0].clone()))
    with torch.no_grad():
        mended(*batch)
    renewed = 0
    for name, x in seen.items():
        own, before = mended.get_submodule(name), model.get_submodule(name)
        if not torch.equal(own.running_mean, before.running_mean):
            fresh = nn.BatchNorm2d(x.shape[1]) if x.ndim == 4 else nn.BatchNorm1d(x.shape[1])
            reestimate_batch_norm(fresh.double(), [(x,)])
            torch.testing.assert_close(own.running_mean, fresh.running_mean)
            torch.testing.assert_close(own.running_var, fresh.running_var)
            renewed += 1
    assert renewed


def test_statistics_over_batches_are_those_of_all_images():
    model, inputs = make(width_networks.PreActivation)
    model = model.double()
    graph = trace(model, [x.double() for x in inputs])
    masks = first_half(graph)
    batches = images(3, (3, 8, 8))
    parts = repaired(graph, masks, batches)
    whole = repaired(graph, masks, [(torch.cat([x for (x,) in batches]),)])
    for name, own in parts.items():
        torch.testing.assert_close(own, whole[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ALL)
def test_every_network_is_repaired_and_left_as_it_was(kind):
    model, inputs = make(kind)
    graph = trace(model, inputs)
    candidates = candidate_widths(graph, partition(graph))
    rng = np.random.default_rng(0)
    scores = {block.name: rng.lognormal(size=block.size) for block in graph.blocks}
    masks = masks_of(graph, scores, {b: widths[0] for b, widths in candidates.items()})
    before = {name: own.clone() for name, own in model.state_dict().items()}
    batches = [tuple(torch.randn(4, *x.shape[1:]) for x in inputs) for _ in range(2)]
    given = [tuple(x.clone() for x in batch) for batch in batches]
    state = repaired(graph, masks, batches)
    assert state.keys() == graph.module.state_dict().keys()
    assert all(own.isfinite().all() and own.shape == graph.module.state_dict()[name].shape
               for name, own in state.items())  # fmt: skip
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert all(torch.equal(x, y) for one, other in zip(batches, given, strict=True) for x, y in zip(one, other))
    for weight, mask in masks.items():
        dropped = state[weight].movedim(graph.consumers[weight].input_axis, 0)[torch.from_numpy(~mask)]
        assert not dropped.any()
    mended = repaired_copy(model, state)
    assert type(mended) is type(model) and not mended.training
    mended(*inputs)


def test_modules_called_twice_keep_their_values():
    model, inputs = make(networks.Shared)
    graph = trace(model, inputs)
    masks = first_half(graph)
    state = repaired(graph, masks, [inputs])
    kept = torch.from_numpy(masks["conv.weight"])
    assert torch.equal(state["conv.weight"][:, kept], model.conv.weight[:, kept])
    assert torch.equal(state["bn.running_mean"], model.bn.running_mean)
    assert not torch.equal(state["head.weight"], model.head.weight)


class Counting(nn.Module):
    """Its forward counts, and writes into its input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        self.calls += 1
        x = x.mul_(2)
        return self.second(functional.relu(self.first(x), inplace=True)).mean((2, 3))


def test_a_forward_that_changes_buffers_and_inputs_changes_nothing():
    torch.manual_seed(0)
    model = Counting().eval()
    graph = trace(model, torch.randn(4, 3, 4, 4))
    batch = torch.randn(4, 3, 4, 4)
    given = batch.clone()
    with torch.no_grad():
        wanted = model(batch.clone())
    calls = float(model.calls)
    state = repaired(graph, first_half(graph), [(batch,)] * 3, ridge=1e-6)
    assert torch.equal(batch, given) and float(model.calls) == calls == float(state["calls"])
    with torch.no_grad():
        found, masked = repaired_copy(model, state)(batch.clone()), masked_copy(model, first_half(graph))(batch.clone())
    assert (found - wanted).norm() < (masked - wanted).norm()


def test_the_state_fits_the_model_with_parts_that_do_not_run():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.aux = width_networks.FlattenedLinear(), nn.Linear(3, 3)

        def forward(self, x):
            return self.body(x) + torch.tensor(0.5)

    torch.manual_seed(0)
    model = Net().eval()
    x = torch.randn(6, 3, 8, 8)
    graph = trace(model, x)
    mended = repaired_copy(model, repaired(graph, first_half(graph), [(x,)]))
    assert torch.equal(mended.aux.weight, model.aux.weight)
    assert not torch.equal(mended.body.head[0].weight, model.body.head[0].weight)


def test_half_precision_and_thinned_rows(monkeypatch):
    monkeypatch.setattr("upscale_opt.widths.repairing.MOST_ROWS", 100)
    torch.manual_seed(0)
    model = Redundant().to(torch.bfloat16).eval()
    x = torch.randn(8, 3, 8, 8).to(torch.bfloat16)
    graph = trace(model, x)
    state = repaired(graph, first_half(graph), [(x,), (x,)])
    assert state["second.weight"].dtype == torch.bfloat16 and all(own.isfinite().all() for own in state.values())


def test_later_layers_see_what_earlier_ones_lost():
    """Every consumer is fitted to the dense outputs from the inputs that it now gets."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).double()
    batch = images(1, (3, 6, 6))[0]
    graph = trace(model.eval(), batch)
    masks = first_half(graph)
    masks["4.weight"][:] = True
    mended = repaired_copy(model, repaired(graph, masks, [batch], ridge=0))
    inputs = values_of(trace(mended, batch).module, batch)["_3"].movedim(1, -1).reshape(-1, 8)
    with torch.no_grad():
        wanted = model(*batch).movedim(1, -1).reshape(-1, 4)
        best = torch.linalg.pinv(torch.cat([inputs, torch.ones(len(inputs), 1)], 1)) @ wanted
        error = (torch.cat([inputs, torch.ones(len(inputs), 1)], 1) @ best - wanted).square().sum()
        found = (mended(*batch).movedim(1, -1).reshape(-1, 4) - wanted).square().sum()
    assert float(found) == pytest.approx(float(error), rel=1e-6)
