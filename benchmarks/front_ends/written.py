"""What networks of one's own are made of: a trunk, a forward that is given as a function, and a list of them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Network = tuple[nn.Module, tuple[Any, ...]]
IMAGE = (1, 3, 32, 32)
NETWORKS: dict[str, Callable[[], Network]] = {}


def listed(make: Callable[[], Network]) -> Callable[[], Network]:
    """Add a network to the list under the name of its function."""
    NETWORKS[make.__name__.replace("_", "-")] = make
    return make


def trunk(width: int = 16) -> nn.Sequential:
    """A few convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()),
    )


class Written(nn.Module):
    """A trunk, a forward that is given as a function of the module and its inputs, and a head."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk(), nn.Linear(32, 5)
        for name, module in modules.items():
            self.add_module(name, module)
        self.behaviour = forward

    def forward(self, x: torch.Tensor) -> Any:
        """Call the function."""
        return self.behaviour(self, x)


def of(forward: Callable[..., Any], **modules: nn.Module) -> Network:
    """A `Written` and an image."""
    return Written(forward, **modules), (torch.zeros(IMAGE),)
