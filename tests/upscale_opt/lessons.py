"""What the tests of learning share: a small residual network, and images that take no time to learn."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from upscale_opt.learning.datasets import Dataset
from upscale_opt.learning.loop import Method


def conv(inputs, outputs, size, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.conv2 = conv(outputs, outputs, 3)
        self.down = conv(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.down(x))


class Small(nn.Module):
    """A residual network for 8 x 8 images with seven prunable convolutions in three blocks."""

    def __init__(self, width=8, dropout=0.0):
        super().__init__()
        self.stem = conv(1, width, 3)
        self.blocks = nn.Sequential(Block(width, width), Block(width, 2 * width, 2), Block(2 * width, 2 * width))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x):
        x = self.blocks(functional.relu(self.stem(x)))
        return self.head(self.dropout(x.mean((2, 3))))


def small(seed=0, **kwargs):
    torch.manual_seed(seed)
    return Small(**kwargs).eval()


def dropping():
    """For the command line: a network with something random in training."""
    return Small(dropout=0.2)


def toy_data(images=96, *, classes=10, seed=0):
    """Images of one bright place per class, with noise: labels that can be learnt in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    x = 0.3 * torch.randn(images, 1, 8, 8, generator=generator)
    places = torch.randperm(64, generator=torch.Generator().manual_seed(1))[:classes]
    x.flatten(1)[torch.arange(images), places[labels]] += 2
    half = images // 3
    return Dataset(
        "toy", TensorDataset(x[half:], labels[half:]), TensorDataset(x[:half], labels[:half]), classes, (1, 8, 8)
    )


class Stop(Method):
    """Stops a training in the middle of an epoch."""

    def __init__(self, epoch, stop, phase=0):
        self.where, self.stop, self.steps = (phase, epoch), stop, 0

    def after_step(self, training):
        self.steps += (training.phase, training.epoch) == self.where
        if self.steps == 2:
            self.stop()


def same_state(a, b):
    """Whether two state dictionaries are equal bit for bit."""
    a, b = (state.state_dict() if isinstance(state, nn.Module) else state for state in (a, b))
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def zero_where_dropped(model, masks):
    """Whether every dropped column is +0 in every bit."""
    state = model.state_dict()
    return all(not state[name][:, ~mask].contiguous().view(torch.int32).any() for name, mask in masks.items())


def three():
    """A network of three classes."""
    return nn.Sequential(Small(), nn.Linear(10, 3))


def coloured():
    """A network of three classes for coloured images."""
    return nn.Sequential(conv(3, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
