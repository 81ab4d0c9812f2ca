"""Runs of the dense model in which the inputs and outputs of its layers are observed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Look = Callable[[str, nn.Module, torch.Tensor, torch.Tensor], None]
"""``look(name, module, input, output)``. It is called directly after the module, before any in-place change."""


def frozen_copy(model: nn.Module) -> Any:
    """A deep copy in eval mode. Its parameters require no gradients."""
    own = copy.deepcopy(model).eval()
    return own.requires_grad_(False)


@contextmanager
def watched(model: nn.Module, names: Iterable[str], look: Look) -> Iterator[None]:
    """A context in which `look` is called for every call of the modules with these names."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda module, inputs, output: look(name, module, inputs[0], output)

    handles = [model.get_submodule(name).register_forward_hook(hook_of(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layer_output(module: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The output of a convolution (with zero padding) or linear layer with another weight."""
    if isinstance(module, nn.Conv2d):
        padding: Any = module.padding
        return functional.conv2d(x, weight, module.bias, module.stride, padding, module.dilation, module.groups)
    assert isinstance(module, nn.Linear)
    return functional.linear(x, weight, module.bias)
