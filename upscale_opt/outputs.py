"""Comparing what two modules compute: the tensors of their outputs, and how far they are apart."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves


def tensors(outputs: Any) -> list[torch.Tensor]:
    """All tensors in a network's outputs, however nested."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def clones(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies of the tensors among the inputs: a network may change its input in place."""
    return tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in inputs)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """max |a - b| / max |b|; infinite if the shapes differ.

    Examples
    --------
    >>> relative_error(torch.tensor([1.0, 4.5]), torch.tensor([1.0, 4.0]))
    0.125
    """
    if a.shape != b.shape:
        return float("inf")
    if b.numel() == 0:
        return 0.0
    scale = float(b.detach().abs().max())
    difference = float((a - b).detach().abs().max())
    return difference / scale if scale > 0 else float("inf") if difference > 0 else 0.0
