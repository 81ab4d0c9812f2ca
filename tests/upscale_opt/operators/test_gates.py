"""Products of two halves of one producer, and padded shortcuts: channels that belong together are removed together."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from solvers import solve
from upscale_opt import constrained_masks, effective_masks, export, extract, l2_masks, plan, trace


class Gate(nn.Module):
    """A layer whose two halves are combined by a function, between layers."""

    def __init__(self, combine, linear=False):
        super().__init__()
        layer = nn.Linear if linear else lambda a, b: nn.Conv2d(a, b, 1)
        self.a, self.b, self.c, self.d = layer(3, 8), layer(8, 24), layer(12, 8), layer(8, 4)
        self.combine = combine

    def forward(self, x):
        x = self.a(x)
        return self.d(x + self.c(self.combine(self.b(x))))


class Ghost(nn.Module):
    """GhostNet's module: half of the channels are computed from the other half, one by one. A residual is added."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 6, 1), nn.Conv2d(12, 4, 1)
        self.cheap = nn.Conv2d(6, 6, 3, padding=1, groups=6)

    def forward(self, x):
        x = self.a(x)
        y = self.b(x)
        return self.c(x + torch.cat([y, self.cheap(y)], 1))


class Modulated(nn.Module):
    """FiLM: one linear layer computes a factor and a summand for every channel."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.film = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 4, 1), nn.Linear(5, 24)

    def forward(self, x, condition):
        factor, summand = self.film(condition)[:, :, None, None].chunk(2, 1)
        return self.b(torch.relu(self.a(x) * (1 + factor) + summand))


class SpatialGate(nn.Module):
    """gMLP: one half is normalised, mixed along the sequence and multiplied with the other half."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(6, 24), nn.Linear(12, 5), nn.LayerNorm(12)
        self.mix = nn.Conv1d(7, 7, 1)

    def forward(self, x):
        u, v = torch.nn.functional.gelu(self.a(x)).chunk(2, -1)
        return self.b(u * self.mix(self.norm(v)))


class Residual(nn.Module):
    """A CIFAR ResNet's block whose shortcut is padded with zero channels (option A)."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (
            nn.Conv2d(i, o, 3, s, 1) for i, o, s in ((3, 8, 1), (8, 16, 2), (16, 16, 1), (16, 4, 1))
        )
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x):
        x = torch.relu(self.a(x))
        y = self.c(torch.relu(self.b(x))) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0)
        return self.d(torch.relu(self.norm(y)))


def halves(axis):
    def multiplied(y):
        first, second = y.chunk(2, axis)
        return first * second

    return multiplied


IMAGE, SEQUENCE = torch.randn(1, 3, 6, 6), torch.randn(2, 7, 3)
GATES = {
    "halves, multiplied": (lambda: Gate(halves(1)), IMAGE),
    "swish of one half": (lambda: Gate(lambda y: functional.silu(y[:, :12]) * y[:, 12:]), IMAGE),
    "GLU as a module": (lambda: Gate(nn.GLU(1)), IMAGE),
    "GLU as a function": (lambda: Gate(lambda y: functional.glu(y, dim=1)), IMAGE),
    "WaveNet's": (lambda: Gate(lambda y: torch.tanh(y.split(12, 1)[0]) * torch.sigmoid(y.split(12, 1)[1])), IMAGE),
    "SwiGLU of linear layers": (
        lambda: Gate(lambda y: functional.silu(y.chunk(2, -1)[0]) * y.chunk(2, -1)[1], True),
        SEQUENCE,
    ),
    "GLU of linear layers": (lambda: Gate(functional.glu, True), SEQUENCE),
    "Ghost": (Ghost, IMAGE),
    "FiLM": (Modulated, (IMAGE, torch.randn(1, 5))),
    "gMLP": (SpatialGate, torch.randn(2, 7, 6)),
    "padded shortcut": (Residual, IMAGE),
}
ROWS = {
    "Ghost": ("a.weight", 12),
    "FiLM": ("film.weight", 24),
    "gMLP": ("a.weight", 24),
    "padded shortcut": ("c.weight", 16),
}


@pytest.mark.parametrize("name", GATES)
def test_gates_lose_channels_in_pairs_and_exports_are_exact(name):
    make, inputs = GATES[name]
    torch.manual_seed(0)
    model = make().eval()
    graph = trace(model, inputs)
    assert not any(pin.num_channels for pin in graph.unsupported)
    weight, rows = ROWS.get(name, ("b.weight", 24))
    for choose in (l2_masks, constrained_masks):
        masks = effective_masks(graph, choose(graph, 0.5)).masks
        problems = extract(graph, masks)
        results = {own: solve(problem, objective="traffic", time_limit=1) for own, problem in problems.items()}
        exported = export(model, inputs, plan(problems, masks, results), graph=graph)
        assert exported.verification.relative_error <= 1e-9 and exported.verification.gradients <= 1e-9
        left = exported.module.get_parameter(weight).shape[0]
        # The normalisation of gMLP needs all channels: they may only move.
        assert left == (rows if name == "gMLP" else rows // 2) or choose is l2_masks


def test_rows_of_a_gate_may_be_masked_one_by_one():
    """A producer's own mask may drop one row of a pair only: the other is still stored, and the product is zero."""
    torch.manual_seed(0)
    model = Gate(halves(1)).eval()
    graph = trace(model, IMAGE)
    outputs = {"b.weight": np.arange(24) % 5 != 0}
    masks = effective_masks(graph, l2_masks(graph, 0.25)).masks
    problems = extract(graph, masks, output_masks=outputs)
    results = {own: solve(problem, time_limit=1) for own, problem in problems.items()}
    made = plan(problems, masks, results, output_masks=outputs)
    assert export(model, IMAGE, made, graph=graph).verification.relative_error <= 1e-9
