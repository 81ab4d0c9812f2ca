"""Which tensors of a traced model share memory, and who writes into it: what in-place operators do to others."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.graphs import Graph

_FRESH = (operator.add, operator.sub, operator.mul, torch.add, torch.sub, torch.mul, "add", "sub", "mul", "clone")
_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)
_COMPUTING = (nn.modules.batchnorm._BatchNorm, nn.modules.conv._ConvNd, nn.Linear)


class Memory:
    """What is known of the memory of the tensors of a traced model.

    Parameters
    ----------
    graph
        The traced model.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._computing = {read.node for read in (*graph.reads, *graph.grouped)}
        self._roots: dict[str, str] = {}

    def root(self, node: fx.Node) -> str:
        """Name of the first node that may share its memory with this one, which may be part of its tensor."""
        chain: list[fx.Node] = []
        while node.name not in self._roots:
            chain.append(node)
            if self.is_fresh(node):
                self._roots[node.name] = node.name
            else:
                source = node.args[0]
                assert isinstance(source, fx.Node)
                node = source
        for alias in chain:
            self._roots[alias.name] = self._roots[node.name]
        return self._roots[node.name]

    def is_fresh(self, node: fx.Node) -> bool:
        """Whether a node is known to compute a tensor of its own."""
        source = node.args[0] if node.args else None
        if node.name in self._computing or kind_of(node) in _FRESH or not isinstance(source, fx.Node):
            return True
        if node.op != "call_module":
            return False
        return isinstance(self._graph.module.get_submodule(str(node.target)), _COMPUTING)

    def is_overwritten_after(self, node: fx.Node, moment: fx.Node) -> bool:
        """Whether a later node than `moment` may write into the memory of `node`."""
        later = False
        for other in self._graph.module.graph.nodes:
            written = other.args[0] if later and writes_in_place(self._graph, other) else None
            if isinstance(written, fx.Node) and self.root(written) == self.root(node):
                return True
            later = later or other is moment
        return False


def writes_in_place(graph: Graph, node: fx.Node) -> bool:
    """Whether a node changes its first argument."""
    if not node.args:
        return False
    if node.op == "call_module":
        return getattr(graph.module.get_submodule(str(node.target)), "inplace", False) is True
    kind = kind_of(node)
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    named = name.endswith("_") and not name.endswith("__")
    # In torch.nn.functional a positional True may be `inplace`; elsewhere it is `keepdim` or the like.
    positional = getattr(kind, "__module__", "") == "torch.nn.functional" and any(own is True for own in node.args[1:])
    return kind in _IN_PLACE or named or positional or node.kwargs.get("inplace") is True


def kind_of(node: fx.Node) -> Any:
    """The function or the name of the method that a node calls; None for other nodes."""
    return node.target if node.op in ("call_function", "call_method") else None
