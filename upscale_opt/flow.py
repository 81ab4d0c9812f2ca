"""What the operator rules work with: layouts, shapes and the channel table during one pass over a traced model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import fx, nn

from upscale_opt.channels import ChannelTable, Layout


@dataclass(frozen=True)
class ChannelSlice:
    """A constant slice along the channel axis that an export must rewrite.

    Attributes
    ----------
    node
        Name of the fx node.
    start, stop
        Bounds in original channels.
    entry
        Which entry of the index expression it is; None for ``narrow``.
    """

    node: str
    start: int
    stop: int
    entry: int | None


@dataclass
class Flow:
    """One pass over the nodes of a traced model; what the rules in `upscale_opt.rules` work with.

    Attributes
    ----------
    traced
        The traced model.
    shapes
        Node name to the shape of the tensor it computes; None where it computes something else.
    table
        All channels so far.
    layouts, reads, followers, outputs, slices
        What the rules have found: layouts by node name, reads in execution order, layouts by module path of
        what follows channels and of what produces them, and channel slices by node name.
    """

    traced: fx.GraphModule
    shapes: Mapping[str, Any]
    table: ChannelTable = field(default_factory=ChannelTable)
    layouts: dict[str, Layout | None] = field(default_factory=dict)
    reads: list[tuple[fx.Node, Layout]] = field(default_factory=list)
    followers: dict[str, Layout] = field(default_factory=dict)
    outputs: dict[str, Layout] = field(default_factory=dict)
    _shared: dict[int, np.ndarray] = field(default_factory=dict)
    slices: dict[str, ChannelSlice] = field(default_factory=dict)

    def module(self, node: fx.Node) -> Any:
        """The submodule a call_module node calls."""
        return self.traced.get_submodule(str(node.target))

    def shape(self, node: Any) -> tuple[int, ...]:
        """Shape of the tensor a node computes."""
        return self.shapes[node.name]

    def is_tensor(self, node: Any) -> bool:
        """Whether a node computes a single tensor."""
        return isinstance(node, fx.Node) and isinstance(self.shapes.get(node.name), tuple)

    def layout(self, node: Any) -> Layout | None:
        """Layout of what a node computes; None if it has no channels that are followed."""
        return self.layouts.get(node.name) if isinstance(node, fx.Node) else None

    def source(self, node: fx.Node) -> Any:
        """The first argument of a node: what it works on."""
        return node.args[0]

    def input_layouts(self, node: fx.Node) -> list[Layout]:
        """Layouts of all inputs of a node that have one."""
        return [layout for x in node.all_input_nodes if (layout := self.layout(x)) is not None]

    def argument(self, node: fx.Node, position: int, name: str, default: Any) -> Any:
        """An argument given by position or keyword."""
        return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)

    def opaque(self, node: fx.Node, reason: str | None = None) -> Layout | None:
        """New pinned channels along axis 1 of the node's output; None if it is no tensor with such an axis."""
        if not self.is_tensor(node) or len(self.shape(node)) < 2 or self.shape(node)[1] == 0:
            return None
        channels = self.table.produce(self.shape(node)[1], node.name)
        self.table.pin(channels, reason or f"output of {self._operator(node)}", node.name)
        return Layout(1, channels)

    def unknown(self, node: fx.Node, reason: str | None = None) -> Layout | None:
        """Pin everything that enters the node; its output gets new pinned channels."""
        reason = reason or f"no rule for {self._operator(node)}"
        for layout in self.input_layouts(node):
            self.table.pin(layout.channels, reason, node.name)
        return self.opaque(node, reason)

    def consume(self, node: fx.Node, x: Layout, num_outputs: int) -> Layout:
        """A read of `x` by a module with a weight, which produces new channels on the last or first axis.

        A weight used before ties the inputs of its calls, position by position, and their outputs.
        """
        module = self.module(node)
        self._bind(id(module.weight), x.channels)
        key = -id(module.weight)
        if key not in self._shared:
            self._shared[key] = self.table.produce(num_outputs, str(node.target))
        axis = len(self.shape(node)) - 1 if isinstance(module, nn.Linear) else 1
        output = Layout(axis, self._shared[key])
        self.reads.append((node, x))
        self.outputs[str(node.target)] = output
        return output

    def follow(self, node: fx.Node, x: Layout) -> None:
        """The parameters of the node's module follow the channels of `x`; a second call ties both inputs."""
        self._bind(id(self.module(node)), x.channels)
        self.followers[str(node.target)] = x

    def slice(self, node: fx.Node, x: Layout, axis: int, start: int, stop: int, entry: int | None) -> Layout | None:
        """Entries [start, stop) of the channel axis of `x`, which is axis `axis` of the result; see `ChannelSlice`."""
        if start % x.size or stop % x.size or stop <= start:
            return self.unknown(node, "a slice through the middle of a channel")
        first, last = start // x.size, stop // x.size
        self.table.cut(x.channels, first)
        self.table.cut(x.channels, last)
        self.slices[node.name] = ChannelSlice(node.name, first, last, entry)
        return Layout(axis, x.channels[first:last], x.size)

    def _bind(self, key: int, channels: np.ndarray) -> None:
        if key in self._shared:
            self.table.tie(self._shared[key], channels)
        self._shared[key] = channels

    def _operator(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return type(self.module(node)).__name__
        return getattr(node.target, "__name__", str(node.target))
