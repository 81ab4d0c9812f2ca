"""Comparing what two modules compute: the tensors of their outputs, and how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import SUPPORTED_NODES, tree_leaves

NO_TENSOR = "there is no tensor in the network's output, so nothing can be compared; return the tensors that count"
"""What is said of a network whose output holds no tensor."""

_ATOMS = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device, torch.Size, range, set, frozenset)
_CODE = (type, FunctionType, MethodType, ModuleType, nn.Module, torch.Generator)


def tensors(outputs: Any) -> list[torch.Tensor]:
    """All tensors in a network's outputs, however nested, in a fixed order.

    Looked into are lists, tuples (named ones, too), mappings (HuggingFace's ModelOutput, too), dataclasses, what is
    registered with torch's pytree, and the attributes of other objects, such as distributions; not sets, which have no
    order. What is met again by another way counts again; a circle is followed once.

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
    """What an object is made of, in a fixed order."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    if type(value) in SUPPORTED_NODES:
        return tree_leaves(value)
    # Slots come from the classes, all else from the object itself; dataclasses and attrs have one or the other.
    slots = [name for kind in reversed(type(value).__mro__) for name in _slots(kind)]
    own = [getattr(value, name) for name in slots if hasattr(value, name)]
    return [*own, *getattr(value, "__dict__", {}).values()]


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def clones(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies of the tensors among the inputs: a network may change its input in place."""
    return tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in inputs)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """max |a - b| / max |b|; infinite if the shapes differ, or an entry is no number, or infinite in one of them only.

    Never NaN, which the maximum over several outputs would lose. Infinite entries that are equal count as equal.

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
