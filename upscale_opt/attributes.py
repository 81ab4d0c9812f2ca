"""Parameters, buffers and other tensors of a module by their qualified names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def copy_with(module: Module, tensor_of: Callable[[str, torch.Tensor], torch.Tensor]) -> Module:
    """A deep copy of a module that holds other tensors; its own are not copied on the way.

    Parameters
    ----------
    module
        Any module; it is not changed.
    tensor_of
        Qualified name and parameter or buffer to what takes its place. Called once per tensor: what modules share they
        share in the copy, too.
    """
    memo: dict[int, Any] = dict(computed_tensors(module))
    for name, tensor in named_tensors(module):
        if id(tensor) not in memo:
            new = tensor_of(name, tensor)
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(new, requires_grad=tensor.requires_grad) if is_parameter else new
    return copy.deepcopy(module, memo)


def computed_tensors(module: nn.Module) -> dict[int, torch.Tensor]:
    """What ``copy.deepcopy`` refuses to copy, by identity, with copies: tensors that hooks left in modules.

    ``torch.nn.utils.weight_norm`` and its kind compute a weight at every call; it is an attribute with a gradient.
    """
    left = [own for part in module.modules() for own in vars(part).values() if isinstance(own, torch.Tensor)]
    return {id(own): own.detach().clone() for own in left if not own.is_leaf}


def named_tensors(module: nn.Module) -> list[tuple[str, Any]]:
    """All parameters and buffers under all their names."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def attribute_of(module: nn.Module, name: str) -> Any:
    """A parameter, buffer or other attribute by its qualified name."""
    path, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(path), attribute)
