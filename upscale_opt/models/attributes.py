"""Parameters, buffers and other tensors of a module by their qualified names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from upscale_opt.models.snapshots import Snapshot

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
    memo: dict[int, Any] = {}
    for name, tensor in named_tensors(module):
        if id(tensor) not in memo:
            new = tensor_of(name, tensor)
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(new, requires_grad=tensor.requires_grad) if is_parameter else new
    return copied(module, memo)


def copied(module: Module, memo: dict[int, Any] | None = None) -> Module:
    """A deep copy of a module, also where it keeps what it has computed, which torch refuses to copy.

    ``torch.nn.utils.weight_norm`` and its kind, for instance, compute a weight at every call; it is an attribute with a
    gradient.

    Parameters
    ----------
    module
        Any module; it is not changed.
    memo
        Identities of objects to what takes their places in the copy.
    """
    memo = {} if memo is None else memo
    for tensor in Snapshot([module]).tensors:
        if not tensor.is_leaf and id(tensor) not in memo:
            memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(module, memo)


def named_tensors(module: nn.Module) -> list[tuple[str, Any]]:
    """All parameters and buffers under all their names."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def attribute_of(module: nn.Module, name: str) -> Any:
    """A parameter, buffer or other attribute by its qualified name."""
    path, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(path), attribute)
