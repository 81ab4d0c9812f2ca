"""Parameters, buffers and other tensors of a module by their qualified names."""

from __future__ import annotations

from typing import Any

from torch import nn


def named_tensors(module: nn.Module) -> list[tuple[str, Any]]:
    """All parameters and buffers under all their names."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def attribute_of(module: nn.Module, name: str) -> Any:
    """A parameter, buffer or other attribute by its qualified name."""
    path, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(path), attribute)
