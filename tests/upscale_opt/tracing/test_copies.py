"""Copies that an export may lack pin channels only where one tensor is changed while the other one is needed."""

import torch
from torch import nn

from upscale_opt import trace


class Copied(nn.Module):
    """Two groups of channels, transposed and copied. The copy is changed in place."""

    def __init__(self, needed):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 1), nn.Conv3d(2, 4, 1)
        self.needed = needed

    def forward(self, x):
        groups = self.a(x).view(2, 2, 3, 4, 4)
        swapped = groups.transpose(1, 2).contiguous()
        y = self.b(groups if self.needed else swapped.transpose(1, 2))
        swapped.sigmoid_()
        return y


def pins_of(needed):
    graph = trace(Copied(needed).eval(), torch.zeros(2, 2, 4, 4))
    return [pin.reason for pin in graph.unsupported]


def test_a_copy_that_protects_a_tensor_pins_its_channels():
    assert pins_of(needed=True) == ["a copy that fewer channels may not need, of a tensor that is changed"]


def test_a_copy_of_a_tensor_that_nobody_needs_pins_nothing():
    assert pins_of(needed=False) == []
