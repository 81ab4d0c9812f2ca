"""What the sweep has to know about a network: how to build it, and what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Inputs = Sequence[int] | Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Network:
    """One network of the table.

    Attributes
    ----------
    build
        Makes the module; its weights are random and come from torch's global generator.
    inputs
        Shape of the one input tensor, or a function that makes the tuple of positional inputs.
    attention
        Whether positions attend to each other in it.
    package
        The package that it needs beyond torch and torchvision, as `importlib` names it. Empty if none.
    """

    build: Callable[[], nn.Module]
    inputs: Inputs
    attention: bool = False
    package: str = ""

    def example_inputs(self) -> tuple[Any, ...]:
        """The positional inputs; random where they are numbers."""
        return tuple(self.inputs()) if callable(self.inputs) else (torch.randn(*self.inputs),)


class Cut(nn.Module):
    """A part of a network that people prune without the rest, such as a detector without its post-processing.

    Parameters
    ----------
    parts
        Modules, applied one after the other.
    """

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Any) -> Any:
        """The last part's result."""
        for part in self.parts:
            x = part(x)
        return x
