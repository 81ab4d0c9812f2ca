"""Values that are known during tracing: those that are computed only from buffers.

A trace records how a network computes with its buffers. Python may still need a value, for a condition or for a bound
of a loop. This module then computes the value on copies, and names the buffers from which it comes. The trace is valid
only for these values of the buffers.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.shared_memory import written_by_call

MEASURES = frozenset({"shape", "size", "dim", "ndim", "numel", "nelement"})
"""Attributes and methods of a tensor that return its size as Python numbers."""
KINDS = MEASURES | {
    *("dtype", "device", "layout", "is_cuda", "is_meta", "is_leaf", "requires_grad", "is_floating_point", "is_complex"),
    *("element_size", "stride", "is_contiguous", "get_device", "is_sparse", "is_quantized", "itemsize", "nbytes"),
    *("__len__", "__hash__", "__repr__"),
}
"""Attributes, methods and functions whose results do not depend on the values of a tensor."""
_RANDOM = ("rand", "bernoulli", "multinomial", "normal_", "uniform_", "dropout", "exponential_", "poisson", "empty")
_BY_VALUE = ("nonzero", "argwhere", "unique", "masked_select", "repeat_interleave", "bincount", "histc")
"""Operators whose output shape depends on values."""


class UnknownValueError(ValueError):
    """A value is not known, because it depends on the network's inputs or parameters."""


class KnownValues:
    """Values of those nodes of a growing graph that are computed only from buffers and other fixed tensors.

    Parameters
    ----------
    tensor_of
        Returns the network's tensor of a name.
    """

    def __init__(self, tensor_of: Callable[[str], Any]) -> None:
        self._tensor_of = tensor_of
        self._sources: dict[fx.Node, frozenset[str]] = {}
        self._by_value: set[fx.Node] = set()
        self._lost: set[str] = set()
        self._values: dict[fx.Node, Any] = {}

    def add(self, node: fx.Node) -> None:
        """Register a node that was just created."""
        inputs = node.all_input_nodes
        # A module may write into all of its inputs.
        written = node.all_input_nodes if node.op == "call_module" else written_by_call(node)
        if node.op == "get_attr":
            if not isinstance(self._tensor_of(str(node.target)), nn.Parameter):
                self._sources[node] = frozenset([str(node.target)])
        elif node.op in ("call_function", "call_method") and _asks_for_no_value(node) and self._is_measurable(inputs):
            by_value = [x for x in inputs if x in self._by_value]
            self._sources[node] = frozenset().union(*(self._sources[x] for x in by_value))
            self._by_value.update([node] if by_value else [])
        elif inputs and all(x in self._sources for x in inputs) and _is_reproducible(node):
            self._sources[node] = frozenset().union(*(self._sources[x] for x in inputs))
            if has_shape_by_value(node) or any(x in self._by_value for x in inputs):
                self._by_value.add(node)
        if node not in self._sources:
            self.lose(name for x in written for name in self._sources.get(x, ()))

    def _is_measurable(self, inputs: list[fx.Node]) -> bool:
        """Whether every input is known, or is a parameter itself."""
        return bool(inputs) and all(x in self._sources or x.op == "get_attr" for x in inputs)

    def lose(self, names: Iterable[str]) -> None:
        """Mark buffers whose values are unknown from now on."""
        self._lost.update(names)

    def forget(self, nodes: Iterable[fx.Node], lost: frozenset[str]) -> None:
        """Remove nodes that were erased, and reset the set of lost buffers to `lost`."""
        for node in nodes:
            self._sources.pop(node, None)
            self._by_value.discard(node)
        self._lost = set(lost)
        self._values.clear()

    @property
    def lost(self) -> frozenset[str]:
        """Names of the buffers whose values are unknown."""
        return frozenset(self._lost)

    def has(self, node: fx.Node) -> bool:
        """Whether the value of a node is known."""
        return node in self._sources and not self._sources[node] & self._lost

    def sources(self, node: fx.Node) -> frozenset[str]:
        """Return the names of buffers and other tensors on whose values a node's value depends.

        Tensors of which only the shape or the type matters are not included.
        """
        return self._sources[node]

    def sources_of_shape(self, node: fx.Node) -> frozenset[str]:
        """Return the names of the tensors on whose values the shape of a node's tensor depends."""
        return self._sources[node] if node in self._by_value else frozenset()

    @torch.no_grad()
    def value(self, node: fx.Node) -> Any:
        """Return the value of a node at this point of the graph. The caller must not write into it.

        Raises
        ------
        UnknownValueError
            If the value is not known.
        """
        if not self.has(node):
            raise UnknownValueError(f"{node.name} depends on the network's inputs or parameters")
        with torch._C.DisableTorchFunction():
            self._replay(node)
        value = self._values[node]
        if isinstance(value, _Failure):
            raise UnknownValueError(f"{node.name} cannot be computed: {value.error}") from value.error
        return value

    def _replay(self, wanted: fx.Node) -> None:
        """Compute all known nodes that are related to the buffers of a node, in the order of the graph."""
        related, needed = set(self._sources[wanted]), {wanted}
        nodes = list(self._sources)
        while True:
            more = {x for node in needed for x in node.all_input_nodes} - needed
            more |= {node for node in nodes if self._sources[node] & related} - needed
            if not more:
                break
            needed |= more
            related |= {name for node in more for name in self._sources.get(node, ())}
        place = {node: i for i, node in enumerate(wanted.graph.nodes)}
        for node in sorted(needed - self._values.keys(), key=place.__getitem__):
            self._values[node] = self._compute(node)

    def _compute(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            tensor = self._tensor_of(str(node.target))
            return tensor.detach() if isinstance(tensor, nn.Parameter) else tensor.detach().clone()
        failed = next((own for x in node.all_input_nodes if isinstance(own := self._values[x], _Failure)), None)
        if failed is not None:
            return failed
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._values.__getitem__)
        try:
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            assert callable(node.target)
            return node.target(*args, **kwargs)
        except Exception as error:
            return _Failure(error)


class _Failure:
    """Marks a value that could not be computed. A request for the value raises the error."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _name_of(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")


def _asks_for_no_value(node: fx.Node) -> bool:
    if node.target is getattr:
        return node.args[1] in KINDS
    return _name_of(node) in KINDS


def _is_reproducible(node: fx.Node) -> bool:
    """Whether an operator always returns the same value for the same arguments."""
    name = _name_of(node)
    if node.op not in ("call_function", "call_method") or any(part in name for part in _RANDOM):
        return False
    if node.op == "call_method":
        return True
    home = getattr(node.target, "__module__", None) or ""
    known = home in ("_operator", "operator", "math", "builtins") or home.partition(".")[0] == "torch"
    return known or node.target in vars(builtins).values() or node.target in vars(math).values() or _is_of_torch(node)


def _is_of_torch(node: fx.Node) -> bool:
    """Whether a function without ``__module__`` belongs to torch, such as ``torch.add``."""
    return getattr(torch, _name_of(node), None) is node.target or isinstance(node.target, torch._ops.OpOverload)


def has_shape_by_value(node: fx.Node) -> bool:
    """Whether the shape of an operator's result may depend on the values of its inputs."""
    if node.target is operator.getitem:
        index = node.args[1]
        return any(isinstance(own, fx.Node) for own in (index if isinstance(index, tuple | list) else [index]))
    return any(part in _name_of(node) for part in _BY_VALUE)
