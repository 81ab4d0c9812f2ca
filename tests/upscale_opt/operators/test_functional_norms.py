"""Tests of normalisations that are written out: batch_norm as a function, norms over pixels, affine parameters."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import export, trace


class Normalised(nn.BatchNorm2d):
    """A subclass that adds an activation: torch.fx traces through it to the function."""

    def forward(self, x):
        normalised = functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1)
        return torch.relu(normalised)


class Plain(nn.Module):
    def __init__(self, affine=True):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 10, 1), nn.Conv2d(12, 10, 3, padding=1)
        self.first = Normalised(12) if affine else nn.BatchNorm2d(12, affine=False)
        self.second = Normalised(10)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.first(self.a(x))
        return self.head(self.second(self.b(x) + self.c(x)).mean((2, 3)))


class Keywords(Plain):
    def forward(self, x):
        x = functional.batch_norm(
            self.a(x), running_mean=self.first.running_mean, running_var=self.first.running_var, training=False
        )
        return self.head(self.second(self.b(x) + self.c(x)).mean((2, 3)))


class Response(nn.Module):
    """Global response normalisation (ConvNeXt V2), channels last."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3), nn.Linear(12, 10)
        self.weight, self.bias = nn.Parameter(torch.randn(12)), nn.Parameter(torch.randn(12))

    def forward(self, x):
        x = self.a(x).permute(0, 2, 3, 1)
        size = x.norm(p=2, dim=(1, 2), keepdim=True)
        relative = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
        x = x + torch.addcmul(self.bias.view((1, 1, 1, -1)), self.weight.view((1, 1, 1, -1)), x * relative)
        return self.b(x).mean((1, 2))


@pytest.mark.parametrize("kind", [Plain, Keywords, Response])
def test_exports_are_exact_and_nothing_is_pinned(kind, planned):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(1, 3, 8, 8)
    for seed in range(3):
        graph, _, _, plan = planned(model, x, seed=seed)
        assert graph.unsupported == ()
        exported = export(model, x, plan, graph=graph)
        assert exported.verification.relative_error <= 1e-12 and exported.verification.negative_control > 1e-6


def test_channels_of_a_batch_norm_are_removed_with_its_statistics(planned):
    torch.manual_seed(0)
    model, x = Plain().eval(), torch.randn(1, 3, 8, 8)
    graph, masks, _, plan = planned(model, x, keep=0.3)
    kept = int((masks["b.weight"] | masks["c.weight"]).sum())
    module = export(model, x, plan, graph=graph).module
    assert kept < 12
    assert all(len(module.state_dict()[f"first.{name}"]) == kept for name in ("running_mean", "running_var", "weight"))


def test_response_norms_read_every_channel():
    graph = trace(Response().eval(), torch.zeros(1, 3, 8, 8))
    (block,) = [block for block in graph.blocks if block.name == "a"]
    assert not block.removable and not block.pinned


@pytest.mark.parametrize(
    "normalise",
    [
        lambda own, x: functional.batch_norm(x, None, None, own.weight, own.bias, True),
        lambda own, x: functional.batch_norm(x, own.running_mean, own.running_var, 2 * own.weight),
    ],
)
def test_batch_statistics_and_computed_parameters_pin(normalise):
    class Net(Plain):
        def forward(self, x):
            return self.b(normalise(self.first, self.a(x)))

    graph = trace(Net().eval(), torch.zeros(2, 3, 8, 8))
    assert next(block for block in graph.blocks if block.name == "a").pinned
    assert any("batch_norm" in pin.reason for pin in graph.unsupported)
