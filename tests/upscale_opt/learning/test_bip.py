"""Tests of BiP: its gradient is right, counts are exact, channels come back, and it sees what magnitude does not."""

from dataclasses import replace

import lessons
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from solvers import solve
from upscale_opt import effective_masks, export, extract, plan, trace
from upscale_opt.errors import LearningError
from upscale_opt.learning import bip as module
from upscale_opt.learning.bip import Bip, bip, channel_gradient, element_gradient
from upscale_opt.learning.columns import Columns
from upscale_opt.learning.datasets import load_data
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target

SHORT = Recipe(epochs=4, batch_size=16, lr=0.05)
X = torch.zeros(1, 1, 8, 8)


def hypergradient(loss, mask, gamma, hessian=None):
    """d/dm of l(m * theta(m)) by autograd through the exact solution of the lower level; l(z) = loss z + z H z / 2.

    The optimality condition is m * (loss + H (m * theta)) + gamma theta = 0, a linear system in theta.
    """
    mask = mask.clone().requires_grad_(True)
    size = len(mask)
    hessian = torch.zeros(size, size, dtype=torch.float64) if hessian is None else hessian
    system = mask[:, None] * hessian * mask[None, :] + gamma * torch.eye(size, dtype=torch.float64)
    theta = torch.linalg.solve(system, -mask * loss)
    z = mask * theta
    value = loss @ z + z @ hessian @ z / 2
    (gradient,) = torch.autograd.grad(value, mask)
    z = z.detach()
    return gradient, theta.detach(), loss + hessian @ z


@pytest.mark.parametrize("gamma", [0.3, 1.0, 4.0])
def test_the_closed_form_is_the_hypergradient_where_the_lower_level_is_linear(gamma):
    generator = torch.Generator().manual_seed(0)
    loss = torch.randn(40, generator=generator, dtype=torch.float64)
    for mask in ((torch.rand(40, generator=generator) < 0.5).double(), torch.rand(40, generator=generator).double()):
        expected, theta, gradient = hypergradient(loss, mask, gamma)
        found = element_gradient(theta, gradient, mask, gamma=gamma)
        assert float((found - expected).abs().max()) <= 1e-10 * float(expected.abs().max())
        first = element_gradient(theta, gradient, mask, gamma=gamma, implicit=False)
        assert torch.allclose(first, expected / 2, atol=1e-10)  # half of it is missing without the implicit term


def test_the_closed_form_is_the_better_the_less_curvature_there_is():
    generator = torch.Generator().manual_seed(0)
    loss, root = torch.randn(6, generator=generator).double(), torch.randn(6, 6, generator=generator).double()
    errors = []
    for curvature in (1e-1, 1e-2, 1e-3, 0):
        expected, theta, gradient = hypergradient(loss, torch.ones(6).double(), 1.0, curvature * root @ root.T)
        found = element_gradient(theta, gradient, torch.ones(6).double())
        errors.append(float((found - expected).norm() / expected.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.5 and errors[2] < 0.02 and errors[3] <= 1e-10


@pytest.mark.parametrize("implicit", [True, False])
def test_the_group_form_is_the_sum_of_the_element_form(implicit):
    """On a convolution of a network, as the method computes it."""
    model = lessons.small().double()
    columns = Columns(model, trace(model, X.double()), ["blocks.1.down.0.weight"])
    name, weight = next(iter(columns.weights.items()))
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    mask = np.arange(columns.size(name)) % 3 > 0
    found = channel_gradient(
        columns.sums(name, weight * gradient), columns.sums(name, gradient.square()), mask, gamma=0.7, implicit=implicit
    )
    spread = columns.entries(name, mask).expand_as(weight).double()
    expected = element_gradient(weight.detach(), gradient, spread, gamma=0.7, implicit=implicit).sum((0, 2, 3))
    assert np.allclose(found, expected.numpy(), rtol=1e-10, atol=0)


class Watched(module._LearntMasks):
    """Notes masks, and looks at the weights, after every step."""

    seen = None

    def after_step(self, training):
        super().after_step(training)
        masks = {name: mask.copy() for name, mask in self.columns.masks.items()}
        assert lessons.zero_where_dropped(training.model, masks)
        for name, mask in masks.items():
            state = training.optimiser.state[self.columns.weights[name]]
            assert not state["momentum_buffer"][:, ~mask].any() and not self.aside[name][:, mask].any()
        self.seen.append((training.epoch, masks, dict(training.model.state_dict())))


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(module, "_LearntMasks", Watched)
    monkeypatch.setattr(Watched, "seen", [])
    return Watched.seen


TARGETS = {
    "uniform": Target("0.75"),
    "per layer": Target("0.5", amounts={"blocks.0.*": "0.25", "blocks.1.down.*": "0.875"}),
    "global": Target("0.75", "global"),
    "none": Target(0),
}


@pytest.mark.parametrize("name", TARGETS)
def test_counts_are_exact_after_every_step_and_masks_are_frozen_in_the_last_half(watched, name):
    model, target = lessons.small(), TARGETS[name]
    found = bip(model, lessons.toy_data(), SHORT, target, Bip(lr=1.0))
    assert len(watched) == 16
    for _, masks, _ in watched:
        kept = {weight: int(mask.sum()) for weight, mask in masks.items()}
        if name == "global":
            assert sum(kept.values()) == 80 - 60 and min(kept.values()) >= 1
        elif name == "none":
            assert all(mask.all() for mask in masks.values())
        elif name == "uniform":
            assert all(number == len(masks[weight]) // 4 for weight, number in kept.items())
        else:
            assert kept["blocks.0.conv1.0.weight"] == 6 and kept["blocks.1.down.0.weight"] == 1
            assert kept["blocks.2.conv1.0.weight"] == 8
    last = [masks for epoch, masks, _ in watched if epoch >= 2]
    assert all(np.array_equal(own[weight], found.masks[weight]) for own in last for weight in own)
    assert [own.epoch for own in found.log] == [0, 1]
    assert lessons.zero_where_dropped(model, found.masks)
    assert all(own.left == own.returned for own in found.log)  # so many as were dropped came back
    assert (sum(own.returned for own in found.log) > 0) == (name != "none")


def test_pruned_channels_come_back_with_the_weights_they_left_with(watched):
    """Without a learning rate to speak of for the weights, whatever is kept is what it was at the start."""
    model = lessons.small()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = bip(model, lessons.toy_data(), replace(SHORT, lr=1e-30, weight_decay=0.0), Target(0.5), Bip(lr=1.0))
    first, last = watched[0][1], found.masks
    returned = {name: last[name] & ~first[name] for name in last}
    assert any(mask.any() for mask in returned.values())
    for name, mask in last.items():
        assert torch.equal(model.state_dict()[name][:, mask], start[name][:, mask])


class Interrupting(module._LearntMasks):
    where = None

    def after_step(self, training):
        super().after_step(training)
        if (training.phase, training.epoch) == self.where:
            raise KeyboardInterrupt


@pytest.mark.parametrize("where", [(0, 1), (0, 3), (1, 0)])
def test_a_resumed_run_ends_with_the_same_weights_masks_and_log(tmp_path, monkeypatch, where):
    """Interrupted while masks are learnt, while they are frozen, and in the fine-tuning."""

    def run(checkpoint=None):
        tail = replace(SHORT, epochs=2, seed=3)
        model, path = lessons.small(dropout=0.2), checkpoint
        return bip(model, lessons.toy_data(), SHORT, Target(0.5), Bip(lr=0.5), finetuning=tail, checkpoint=path)

    whole = run()
    path = tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_LearntMasks", Interrupting)
        patch.setattr(Interrupting, "where", where)
        run(path)
    again = run(path)
    assert lessons.same_state(whole.model, again.model)
    assert whole.log == again.log and whole.epochs == again.epochs
    assert all(np.array_equal(mask, again.masks[name]) for name, mask in whole.masks.items())


def test_scores_share_no_memory_with_weights_and_nothing_is_left_on_the_model():
    model = lessons.small()
    names = {name: set(vars(own)) for name, own in model.named_modules()}
    bip(model, lessons.toy_data(), SHORT, Target(0.5))
    assert {name: set(vars(own)) for name, own in model.named_modules()} == names


def test_settings_that_make_no_sense_are_refused():
    for settings, message in (
        ({"gamma": 0}, "gamma is 0; give a number above 0"),
        ({"lr": -1.0}, "the learning rate of masks is -1"),
        ({"momentum": 1.0}, "the momentum of masks is 1"),
        ({"frozen": 1.5}, "the share of epochs with a frozen mask is 1.5"),
    ):
        with pytest.raises(LearningError, match=message):
            Bip(**settings)


def test_the_outcome_is_exported_and_verified():
    model = lessons.small()
    found = bip(model, lessons.toy_data(480), SHORT, Target(0.5))
    graph = trace(model, X)
    masks = effective_masks(graph, found.masks)
    assert all(np.array_equal(masks.masks[name], mask) for name, mask in found.masks.items())
    problems = extract(graph, masks.masks)
    exported = export(model, X, plan(problems, masks.masks, {name: solve(own) for name, own in problems.items()}))
    assert exported.verification.passed
    images = lessons.toy_data().test.tensors[0]
    with torch.no_grad():
        assert torch.allclose(exported(images), model(images), atol=1e-4)


class Planted(nn.Module):
    """Eight channels that know something about the image beside eight of noise, read by one convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.register_buffer("scale", torch.ones(()))
        self.mixed = nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16 * 16, 10)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = torch.cat([x, self.scale * torch.randn_like(x)], 1)
        return self.head(functional.relu(self.norm(self.mixed(x))).flatten(1))


def planted(seed, epochs=10):
    """A trained network, rescaled so that its function is the same but its columns of noise are the largest.

    The test is built against magnitude: this is what the norm of a column cannot see.
    """
    torch.manual_seed(seed)
    model = Planted().eval()
    data = load_data("digits")
    fit(model, data, [Recipe(epochs=epochs, lr=0.05, seed=seed)])
    with torch.no_grad():
        model.scale.mul_(0.01)
        model.mixed.weight[:, 8:] *= 100
    return model, data


def planted_outcome(seed, amount, implicit=True, epochs=(10, 20)):
    """Informative channels that one-shot magnitude keeps, and BiP; BiP's accuracy."""
    target = Target(amount)
    model, data = planted(seed, epochs[0])
    graph = trace(model, X)
    (magnitude,) = target.masks(graph, Columns(model, graph, target.weights(graph)).norms()).values()
    found = bip(model, data, Recipe(epochs=epochs[1], lr=0.01, seed=seed), target, Bip(lr=0.1, implicit=implicit))
    (mask,) = found.masks.values()
    return int(magnitude[:8].sum()), int(mask[:8].sum()), int(mask.sum()), found.epochs[-1].test.top1


def test_planted_noise_is_what_bip_drops_and_magnitude_keeps():
    """Shortened; the slow tests train longer, with more seeds and amounts."""
    pytest.importorskip("sklearn")
    by_magnitude, informative, kept, top1 = planted_outcome(0, "0.75", epochs=(4, 10))
    assert (by_magnitude, informative, kept) == (0, 4, 4)
    assert top1 > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("amount", ["0.5", "0.75"])
@pytest.mark.parametrize("seed", range(4))
def test_planted_noise_with_every_seed(seed, amount):
    by_magnitude, informative, kept, top1 = planted_outcome(seed, amount)
    assert by_magnitude == 0 and informative == kept == 16 - 16 * float(amount)
    assert top1 > 0.93
