"""Tests of what a forward makes and calls: modules without tensors, and the limits of types."""

import pytest
import torch
from torch import nn

from upscale_opt import ModelError, constrained_masks, export, trace


class Net(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, part):
        super().__init__()
        self.a, self.b, self.part = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), part
        self.listed = [nn.Conv2d(8, 8, 1)]

    def forward(self, x):
        return self.b(self.part(self, self.a(x)))


@torch.fx.wrap
def fitted(sizes, most):
    """Changes its arguments, as a function of torchvision's Swin does."""
    sizes[0], most[0] = min(sizes[0], most[0]), 0
    return sizes


MADE = {
    "a tensor of a size": lambda m, x: x / torch.sqrt(torch.tensor(x.shape[3])) + torch.as_tensor(x.shape[2]),
    "a list that a function changes": lambda m, x: x * fitted([x.shape[2], 3], [4, 4])[1],
    "nn.ReLU()(x)": lambda m, x: nn.ReLU()(x),
    "pooling and softmax": lambda m, x: nn.Softmax(dim=-1)(nn.AvgPool2d(2)(x)),
    "nested": lambda m, x: nn.Sequential(nn.Identity(), nn.Upsample(scale_factor=2))(x),
    "limits of a type": lambda m, x: x.masked_fill(x > 1, torch.finfo(x.dtype).eps) * torch.iinfo(torch.int8).max,
}


@pytest.mark.parametrize("name", MADE)
def test_modules_without_tensors_that_forward_makes_are_traced_into(name):
    model, x = Net(MADE[name]).eval(), torch.randn(2, 3, 10, 10)
    graph = trace(model, x)
    assert len(graph.consumers) == 2 and not graph.unsupported
    exported = export(model, x, masks=constrained_masks(graph, 0.5), baseline=True, graph=graph)
    assert exported.verification.passed and exported.module.a.out_channels == 4


def test_layers_that_are_no_submodules_are_refused_in_a_sentence():
    with pytest.raises(ModelError, match="a Conv2d is called that is no submodule; assign it"):
        trace(Net(lambda m, x: m.listed[0](x)).eval(), torch.randn(2, 3, 10, 10), front_end="fx")
