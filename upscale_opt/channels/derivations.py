"""Where a dimension comes from in what is computed from parameters and buffers: ``weight[None, :, None, None]``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

MOST_FOLLOWED = 2**22
"""A tensor with more elements is not followed through what rearranges it."""
_SAME = ("contiguous", "clone", "detach", "to", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda")
_REARRANGING = (
    *("unsqueeze", "squeeze", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "flatten"),
)
_ATTRIBUTES = ("data", "T", "mT")
_KINDS = ("dtype", "device", "ndim", "requires_grad", "is_cuda", "layout", "is_floating_point", "is_complex")


def asks_for_kind(node: fx.Node) -> bool:
    """Whether a node asks a tensor for something that does not depend on how many channels it has."""
    return node.target is getattr and node.args[1] in _KINDS


def position_before(node: fx.Node, shape: Callable[[fx.Node], Sequence[int] | None], from_right: int) -> int | None:
    """Which dimension of its first argument a dimension of a node's tensor is, both counted from the right, from 1.

    None unless a node only rearranges, every entry of the dimension is what it was, and no length is named.

    Parameters
    ----------
    node
        A node of a traced graph.
    shape
        The shape of what a node computes; None if that is no tensor.
    from_right
        The dimension.
    """
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    if name in _SAME:
        return from_right
    is_attribute = node.target is getattr and node.args[1] in _ATTRIBUTES
    if node.target is not operator.getitem and name not in _REARRANGING and not is_attribute:
        return None
    before, after = shape(source), shape(node)
    if before is None or after is None or len(node.all_input_nodes) > 1 or not 0 < math.prod(before) <= MOST_FOLLOWED:
        return None
    length = after[-from_right]
    for d in (d for d, size in enumerate(before) if size == length):
        places = torch.arange(length).reshape([-1 if own == d else 1 for own in range(len(before))]).expand(*before)
        moved = _applied(node, places).movedim(-from_right, -1)
        if bool((moved == torch.arange(length)).all()):
            return len(before) - d
    return None


def _applied(node: fx.Node, tensor: torch.Tensor) -> torch.Tensor:
    """What a node makes of a tensor in place of its first argument."""
    if node.op == "call_method":
        result: Any = getattr(tensor, str(node.target))(*node.args[1:], **node.kwargs)
    else:
        assert callable(node.target)
        result = node.target(tensor, *node.args[1:], **node.kwargs)
    assert isinstance(result, torch.Tensor)
    return result
