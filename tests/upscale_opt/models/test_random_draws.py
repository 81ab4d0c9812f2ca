"""Tests of networks that draw random numbers: run with the same ones, or told that they do, and where."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import VerificationError, export
from upscale_opt.models.random_draws import draws_of, same_draws

X = torch.zeros(1, 3, 6, 6)


class Noisy(nn.Module):
    def __init__(self, noise, layer=None):
        super().__init__()
        self.stem, self.head, self.noise, self.layer = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1), noise, layer

    def forward(self, x):
        x = self.noise(self.stem(x))
        return self.head(x if self.layer is None else self.layer(x))


def exported(model, planned):
    model = model.eval()
    for child in model.children():
        child.train(isinstance(child, (nn.Dropout, nn.RReLU)))
    _, _, _, plan = planned(model, (X,), keep=0.5)
    return export(model, X, plan)


NOISES = {
    "dropout": (lambda x: functional.dropout(x, 0.5, True), None, r"dropout\b"),
    "in a module": (lambda x: x, nn.Dropout(0.5), "dropout in layer"),
    "rrelu": (lambda x: x, nn.RReLU(), "rrelu in layer"),
    "alpha_dropout": (lambda x: functional.alpha_dropout(x, 0.2, training=True), None, "alpha_dropout"),
}


@pytest.mark.parametrize("case", NOISES)
def test_networks_that_draw_are_told_what_draws(case, planned):
    """With channels removed the draws fall on others. It is not rounding."""
    noise, layer, name = NOISES[case]
    with pytest.raises(
        VerificationError, match=rf"draws random numbers in eval mode \({name}.*\).*switch that off"
    ) as e:
        exported(Noisy(noise, layer), planned)
    assert "rounding" not in str(e.value)


DRAWS = {
    "randn_like": lambda x: x + 0.1 * torch.randn_like(x),
    "rand": lambda x: x * torch.rand(x.shape[0], 1, 1, 1),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)),
    "normal_": lambda x: x + torch.empty_like(x).normal_(),
    "multinomial": lambda x: x * torch.multinomial(torch.ones(9), 1),
    "random or numpy.random": lambda x: x * random.random() * np.random.default_rng().random(),
    "dropout": lambda x: functional.dropout(x, 0.5, True),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_named(name):
    found = draws_of(Noisy(DRAWS[name]).eval(), (X.expand(2, -1, -1, -1),))
    assert found == [name]
    inner = nn.Sequential(nn.Identity(), Noisy(DRAWS[name]).eval())
    assert draws_of(inner, (X,)) == [name if "or" in name.split() else f"{name} in 1"]
    assert draws_of(Noisy(torch.relu).eval(), (X,)) == []
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in inner.modules())


def test_networks_whose_draws_are_the_same_are_verified(planned):
    """Where the noise is as large in the export (its channels are pinned), one seed makes both networks the same."""
    found = exported(Noisy(DRAWS["randn_like"]), planned)
    assert found.verification.passed and found.verification.gradients <= 1e-9


class Counting(nn.Module):
    """Another network in every run."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_networks_that_change_themselves_are_told_so(planned):
    model = Noisy(torch.relu, nn.Identity())
    model.eval()
    _, _, _, plan = planned(model, (X,))
    model.layer = Counting()
    with pytest.raises(VerificationError, match="another output whenever it is run with the same inputs"):
        export(model, X, plan)


def test_generators_are_as_they_were():
    def drawn():
        return torch.rand(3).tolist(), random.random(), float(np.random.rand())  # noqa: NPY002

    with same_draws():
        expected = drawn()
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    first = drawn()
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    with same_draws():
        assert drawn() == expected
    assert drawn() == first
    with pytest.raises(KeyError), same_draws():
        raise KeyError
