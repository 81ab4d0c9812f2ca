"""Parameters, buffers and other tensors of a module, by qualified name; copies of modules with other tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from upscale_opt.models.snapshots import Snapshot

Module = TypeVar("Module", bound=nn.Module)


def copy_with(module: Module, tensor_of: Callable[[str, torch.Tensor], torch.Tensor]) -> Module:
    """Return a deep copy of a module in which all parameters and buffers are replaced. The old ones are not copied.

    Parameters
    ----------
    module
        Any module; it is not changed.
    tensor_of
        Called with the qualified name of a parameter or buffer and the tensor itself. It returns the tensor for the
        copy. It is called once per tensor, so modules that share a tensor also share it in the copy.
    """
    memo: dict[int, Any] = {}
    for name, tensor in named_tensors(module):
        if id(tensor) not in memo:
            new = tensor_of(name, tensor)
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(new, requires_grad=tensor.requires_grad) if is_parameter else new
    return copied(module, memo)


def copied(module: Module, memo: dict[int, Any] | None = None) -> Module:
    """Return a deep copy of a module, also if the module stores computed tensors.

    torch refuses to copy tensors that are part of an autograd graph. A module may store such a tensor:
    ``torch.nn.utils.weight_norm`` and similar hooks compute a weight at every call and store it as an attribute.

    Parameters
    ----------
    module
        Any module; it is not changed.
    memo
        Maps identities of objects to their replacements in the copy.
    """
    memo = {} if memo is None else memo
    for tensor in Snapshot([module]).tensors:
        if not tensor.is_leaf and id(tensor) not in memo:
            memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(module, memo)


def named_tensors(module: nn.Module) -> list[tuple[str, Any]]:
    """Return all parameters and buffers. A tensor with several names is listed once for each name."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def attribute_of(module: nn.Module, name: str) -> Any:
    """Return a parameter, buffer or other attribute by its qualified name."""
    path, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(path), attribute)
