"""Tests of axes that are split into branches and channels: selective kernels, split attention, maxout."""

import pytest
import torch
from torch import nn

from upscale_opt import constrained_masks, effective_masks, export, trace


class Net(nn.Module):
    """Two convolutions with branches between them."""

    def __init__(self, part, width):
        super().__init__()
        self.a, self.b, self.gate, self.part = nn.Conv2d(3, width, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 16, 1), part
        self.other = nn.Conv2d(3, width, 3)

    def forward(self, x):
        return self.b(self.part(self, self.a(x), self.other(x)))


def selective(m, x, y):
    both = torch.stack([x, y], 1)
    gate = m.gate(both.sum(1).mean((2, 3), keepdim=True))
    n, c, h, w = gate.shape
    return (both * torch.softmax(gate.view(n, 2, c // 2, h, w), 1)).sum(dim=1)


def split_attention(m, x, y):
    n, c, h, w = x.shape
    parts = x.reshape((n, 2, c // 2, h, w))
    gate = m.gate(parts.sum(dim=1).mean((2, 3), keepdim=True))
    gate = torch.softmax(gate.view(n, 1, 2, -1).transpose(1, 2), 1).reshape(n, -1).view(n, -1, 1, 1)
    return (parts * gate.reshape((n, 2, c // 2, 1, 1))).sum(dim=1)


def repeated(m, x, y):
    """What is global is repeated for every point (PointNet); the numbers come from other sizes."""
    return x * y.amax((2, 3), keepdim=True).repeat(1, 1, x.size(2), x.shape[-1])


def maxout(m, x, y):
    return x.view(x.shape[0], 8, 2, *x.shape[2:]).amax(2) + y.unflatten(1, (2, 8)).max(1).values


BRANCHES = {
    "selective kernel": (selective, 8),
    "split attention": (split_attention, 16),
    "maxout": (maxout, 16),
    "repeated": (repeated, 8),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_what_combines_branches_leaves_the_channels_free(name):
    part, width = BRANCHES[name]
    torch.manual_seed(0)
    model, x = Net(part, width).eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    assert {own.reason for own in graph.pins} == {"network input", "network output"}
    exported = export(model, x, masks=constrained_masks(graph, 0.5), baseline=True, graph=graph)
    assert exported.verification.passed and exported.verification.gradients is not None
    assert exported.module.a.out_channels == width // 2 and exported.module.b.in_channels == 4
    own = effective_masks(graph, {"b.weight": torch.arange(8) % 3 > 0}).masks
    assert export(model, x, masks=own, baseline=True, graph=graph).verification.passed
