"""Functions that torch.fx does not trace into: unknown operators, and hooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn


@fx.wrap
def mix_neighbours(x: torch.Tensor) -> torch.Tensor:
    """Every channel plus half of the one before it."""
    return x + 0.5 * torch.roll(x, 1, 1)


@fx.wrap
def weigh_channels(x: torch.Tensor) -> torch.Tensor:
    """Channel c times 1 + c / 8: an elementwise operator that depends on the position."""
    scale = 1 + torch.arange(x.shape[1], dtype=x.dtype, device=x.device) / 8
    return x * scale.reshape(1, -1, *[1] * (x.ndim - 2))


@fx.wrap
def first_and_last(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The first channel of `x` and the last one of `y`, joined."""
    return torch.cat([x[:, :1], y[:, -1:]], 1)


class Straight(torch.autograd.Function):
    """Rounds, and lets the gradient through."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, steps: int = 4) -> torch.Tensor:
        """Multiples of 1 / steps."""
        return torch.round(x * steps) / steps

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """The gradient as it is."""
        return gradients[0], None


class Turned(torch.autograd.Function):
    """Identity with a reversed gradient, as domain adaptation has it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """The input."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """The gradient's negative."""
        return -gradients[0]


straight_through = Straight.apply


class Reverse(nn.Module):
    """An unknown module that torch.fx traces into."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The channels of `x` in reverse, plus `x`."""
        return x.flip(1) + x


class Scaled(nn.Conv2d):
    """A subclass of a known module that does something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution, channels reversed and doubled."""
        return 2 * super().forward(x).flip(1)


def reverse_output(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """A forward hook: the output's channels in reverse."""
    return output.flip(1)


def reverse_input(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """A forward pre-hook: the first input's channels in reverse."""
    return (inputs[0].flip(1), *inputs[1:])


@dataclass
class Pair:
    """Two tensors."""

    left: torch.Tensor
    right: torch.Tensor


class Structured(nn.Module):
    """Takes a list, a dictionary or a `Pair` of two tensors, and returns a list of two others."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, width, 1), nn.Conv2d(channels, width, 1)

    def forward(self, given: Any) -> list[torch.Tensor]:
        """A convolution of each, and their sum."""
        if isinstance(given, Pair):
            given = [given.left, given.right]
        values = given.values() if isinstance(given, dict) else given
        found = [layer(x) for layer, x in zip((self.first, self.second), values, strict=True)]
        return [*found, found[0] + found[1]]


class ByValue(nn.Module):
    """Python decides on the values of the input; the decision is always the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The tangent of the input."""
        return x.tanh() if x.abs().max() < 1e9 else x
