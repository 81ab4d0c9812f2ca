"""What rules of operators ask about the nodes of a traced model: arguments, shapes, parameters, values so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import fx

from upscale_opt.capture.argument_names import arguments_of
from upscale_opt.capture.custom_functions import CustomFunction
from upscale_opt.channels.findings import Value
from upscale_opt.channels.table import Layout
from upscale_opt.models.attributes import attribute_of, named_tensors


class UnknownArguments(Exception):
    """A rule asks for an argument of an operator whose signature is not known."""


@dataclass
class Nodes:
    """A traced model, and what is known about its nodes.

    Attributes
    ----------
    traced
        The traced model.
    shapes
        Node name to the shape of the node's tensor, for at least two samples. None if the node computes no tensor.
    given
        The same for the example inputs.
    values
        The value of every node so far: what is known about its result.
    """

    traced: fx.GraphModule
    shapes: Mapping[str, Any]
    given: Mapping[str, Any]
    values: dict[str, Value] = field(default_factory=dict)
    _arguments: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def module(self, node: fx.Node) -> Any:
        """Return the submodule that a call_module node calls."""
        return self.traced.get_submodule(str(node.target))

    def shape(self, node: Any) -> tuple[int, ...]:
        """Return the shape of a node's tensor."""
        return self.shapes[node.name]

    def is_tensor(self, node: Any) -> bool:
        """Whether a node computes a single tensor."""
        return isinstance(node, fx.Node) and isinstance(self.shapes.get(node.name), tuple)

    def value(self, node: Any) -> Value:
        """Return what is known about the result of a node."""
        return self.values.get(node.name) if isinstance(node, fx.Node) else None

    def layout(self, node: Any) -> Layout | None:
        """Return the layout of a node's tensor. None if it has none yet (`channels` may create one)."""
        value = self.value(node)
        return value if isinstance(value, Layout) else None

    def source(self, node: fx.Node) -> Any:
        """Return the first argument of a node, its input."""
        return node.args[0]

    def argument(self, node: fx.Node, name: str, default: Any = None) -> Any:
        """Return an argument of a node by name, however the call is written; see `upscale_opt.capture.argument_names`.

        Raises
        ------
        UnknownArguments
            If the operator's signature is not known. `upscale_opt.trace` then pins the channels that the node touches.
        """
        if node.name not in self._arguments:
            self._arguments[node.name] = arguments_of(node, self.module(node) if node.op == "call_module" else None)
        known = self._arguments[node.name]
        if known is None:
            raise UnknownArguments
        return known.get(name, default)

    def is_fixed(self, node: Any) -> bool:
        """Whether a node computes a tensor that does not depend on the network's input."""
        return self.is_tensor(node) and node in self._fixed

    @cached_property
    def _fixed(self) -> set[fx.Node]:
        """Nodes that do not depend on the network's input: they are computed only from parameters and buffers."""
        fixed: set[fx.Node] = set()
        for node in self.traced.graph.nodes:
            computed = node.op in ("call_function", "call_method", "call_module") and node.all_input_nodes
            if node.op == "get_attr" or (computed and fixed.issuperset(node.all_input_nodes)):
                fixed.add(node)
        return fixed

    def parameter(self, name: str) -> Any:
        """Return a parameter, buffer or other attribute by its qualified name."""
        return attribute_of(self.traced, name)

    def canonical(self, name: str) -> str:
        """Return the first of all names of a parameter or buffer."""
        return self._names.get(id(self.parameter(name)), name)

    @cached_property
    def _names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for name, tensor in named_tensors(self.traced):
            names.setdefault(id(tensor), name)
        return names

    def operator(self, node: fx.Node) -> str:
        """Return the name of a node's operator, for messages."""
        if node.op == "call_module":
            module = self.module(node)
            return (module.function if isinstance(module, CustomFunction) else type(module)).__name__
        return getattr(node.target, "__name__", str(node.target))
