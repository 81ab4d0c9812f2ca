"""Follows dimensions of tensors that are computed from parameters and buffers: ``weight[None, :, None, None]``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

MOST_FOLLOWED = 2**22
"""A tensor with more elements is not followed through operators that rearrange it."""
_SAME = ("contiguous", "clone", "detach", "to", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda")
_REARRANGING = (
    *("unsqueeze", "squeeze", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "flatten"),
)
_ATTRIBUTES = ("data", "T", "mT")
_KINDS = ("dtype", "device", "ndim", "requires_grad", "is_cuda", "layout", "is_floating_point", "is_complex")


@dataclass(frozen=True)
class Origin:
    """A parameter or buffer from which the entries of a dimension come.

    Attributes
    ----------
    attribute
        The node that reads the parameter or buffer.
    dimension
        The dimension of the parameter or buffer that has these entries.
    uses
        Pairs (user, node) of node names on the path from the parameter or buffer.
    reshapes
        Names of the reshapes on this path whose arguments include the length of the dimension. Each name has the
        position of the dimension in the result.
    """

    attribute: fx.Node
    dimension: int
    uses: frozenset[tuple[str, str]] = frozenset()
    reshapes: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True)
class Derivation:
    """How tensors are computed from parameters and buffers, entry by entry.

    Attributes
    ----------
    shapes
        Node name to the shape of the node's tensor. Not a tuple if the node computes no tensor.
    maps
        Names of the nodes that compute entry by entry.
    is_used_whole
        Tells of a ``get_attr`` node whether the dimensions of its tensor must not follow channels.
    """

    shapes: Mapping[str, Any]
    maps: Container[str]
    is_used_whole: Callable[[fx.Node], bool]

    def origins(self, node: fx.Node, from_right: int, length: int) -> list[Origin] | None:
        """Return the parameters and buffers from which a dimension comes. None if it has other sources, too.

        Parameters
        ----------
        node
            A node of a traced graph.
        from_right
            The dimension of the node's tensor, counted from the right, starting with 1.
        length
            The length of the dimension.
        """
        shape = self.shapes.get(node.name)
        if not isinstance(shape, tuple) or len(shape) < from_right or shape[-from_right] != length:
            return None
        here = len(shape) - from_right
        if node.op == "get_attr":
            return None if self.is_used_whole(node) else [Origin(node, here)]
        sources = self._sources(node, from_right)
        if sources is None:
            return None
        reads, position, names_length = sources
        reshapes = frozenset({(node.name, here)} if names_length else ())
        found = []
        for source in reads:
            own = self.origins(source, position, length)
            if own is None:
                return None
            found += [
                replace(origin, uses=origin.uses | {(node.name, source.name)}, reshapes=origin.reshapes | reshapes)
                for origin in own
            ]
        return found

    def _sources(self, node: fx.Node, from_right: int) -> tuple[list[Any], int, bool] | None:
        """Return the inputs from which a node computes a dimension, and the position of the dimension in them.

        The third part says whether the node's arguments include the length of the dimension. The result is None if the
        node does not compute the dimension entry by entry.
        """
        if node.op == "call_method" and node.target == "expand":
            given = node.args[1:]
            if len(given) < from_right or type(given[-from_right]) is not int:
                return None
            return [node.args[0]], from_right, bool(given[-from_right] != -1)
        if node.op == "call_method" and node.target in ("view", "reshape"):
            source, given = node.args[0], node.args[1:]
            lengths: Any = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
            assert isinstance(source, fx.Node)
            if len(lengths) != len(self.shapes[node.name]) or len(self.shapes.get(source.name) or ()) != 1:
                return None
            if type(lengths[-from_right]) is not int:
                return None
            return [source], 1, bool(lengths[-from_right] != -1)
        if node.name in self.maps:
            shapes = {
                own: shape for own in node.all_input_nodes if isinstance(shape := self.shapes.get(own.name), tuple)
            }
            spread = {own: shape for own, shape in shapes.items() if math.prod(shape) > 1 and len(shape) >= from_right}
            return [own for own, shape in spread.items() if shape[-from_right] > 1], from_right, False
        moved = position_before(node, lambda own: self.shapes.get(own.name), from_right)
        return None if moved is None else ([node.args[0]], moved, False)


def asks_for_kind(node: fx.Node) -> bool:
    """Whether a node reads an attribute of a tensor that does not depend on the number of channels."""
    return node.target is getattr and node.args[1] in _KINDS


def position_before(node: fx.Node, shape: Callable[[fx.Node], Sequence[int] | None], from_right: int) -> int | None:
    """Return the position of a dimension before a node: the matching dimension of the node's first argument.

    Both are counted from the right, starting with 1. Three conditions must hold, otherwise the result is None. The node
    only rearranges its input. The entries of the dimension keep their order. The arguments include no length.

    Parameters
    ----------
    node
        A node of a traced graph.
    shape
        Returns the shape of a node's tensor, or None if the node computes no tensor.
    from_right
        The dimension of the node's tensor.
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
        moved = applied(node, places).movedim(-from_right, -1)
        if bool((moved == torch.arange(length)).all()):
            return len(before) - d
    return None


def applied(node: fx.Node, tensor: torch.Tensor) -> torch.Tensor:
    """Apply a node's operator to a tensor that replaces its first argument."""
    if node.op == "call_method":
        result: Any = getattr(tensor, str(node.target))(*node.args[1:], **node.kwargs)
    else:
        assert callable(node.target)
        result = node.target(tensor, *node.args[1:], **node.kwargs)
    assert isinstance(result, torch.Tensor)
    return result
