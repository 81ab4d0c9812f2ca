"""Comparison of the outputs of two modules: the tensors in an output, and the error between two tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import SUPPORTED_NODES, tree_leaves

from upscale_opt.models.nested import map_tensors

NO_TENSOR = "there is no tensor in the network's output, so nothing can be compared; return the tensors that count"
"""Message about a network whose output has no tensor."""

_ATOMS = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device, torch.Size, range, set, frozenset)
_CODE = (type, FunctionType, MethodType, ModuleType, nn.Module, torch.Generator)


def tensors(outputs: Any) -> list[torch.Tensor]:
    """Return all tensors in a network's outputs, at any depth, in a fixed order.

    The search covers lists, tuples (also named ones), mappings (also HuggingFace's ModelOutput), dataclasses, and types
    registered with torch's pytree. Of other objects, such as distributions, it covers the attributes. It skips sets,
    because they have no order. A tensor that is reachable in two ways counts twice. A cyclic reference is followed
    once.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Output:
    ...     logits: torch.Tensor
    ...     loss: torch.Tensor | None = None
    >>> len(tensors({"first": Output(torch.ones(2)), "second": (torch.ones(3), 4)}))
    2
    """
    return list(_tensors(outputs, frozenset()))


def _tensors(value: Any, above: frozenset[int]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, (*_ATOMS, *_CODE)) or id(value) in above:
        return
    above = above | {id(value)}
    for part in _parts(value):
        yield from _tensors(part, above)


def _parts(value: Any) -> list[Any]:
    """Return the parts of an object, in a fixed order."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    if type(value) in SUPPORTED_NODES:
        return tree_leaves(value)
    # Slots come from the classes, other attributes from the object itself. Dataclasses and attrs use one of the two.
    slots = [name for kind in reversed(type(value).__mro__) for name in _slots(kind)]
    own = [getattr(value, name) for name in slots if hasattr(value, name)]
    return [*own, *getattr(value, "__dict__", {}).values()]


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def clones(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy the tensors among the inputs, because a network may change its input in place."""
    copies: tuple[Any, ...] = map_tensors(torch.clone, inputs)
    return copies


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return max |a - b| / max |b|.

    The result is infinite in three cases: the shapes differ, an entry is NaN, or an entry is infinite in only one of
    the tensors. Equal infinite entries count as equal. The result is never NaN, because the maximum over several
    outputs would lose a NaN.

    Examples
    --------
    >>> relative_error(torch.tensor([1.0, 4.5]), torch.tensor([1.0, 4.0]))
    0.125
    """
    if a.shape != b.shape:
        return float("inf")
    if b.numel() == 0:
        return 0.0
    a, b = a.detach(), b.detach()
    sizes = b.abs()
    scale = float(torch.where(sizes.isfinite(), sizes, 0).max())
    difference = float(torch.where(a == b, 0, (a - b).abs()).max())
    if not math.isfinite(difference):
        return float("inf")
    return difference / scale if scale > 0 else float("inf") if difference > 0 else 0.0
