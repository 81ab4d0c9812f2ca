"""What the operator rules work with: layouts, shapes and the channel table during one pass over a traced model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.capture.argument_names import arguments_of
from upscale_opt.capture.custom_functions import CustomFunction
from upscale_opt.capture.shared_memory import written_by
from upscale_opt.channels.derivations import Derivation, asks_for_kind
from upscale_opt.channels.findings import ChannelSlice, Read, Selection, Value, channels_in, through_channel
from upscale_opt.channels.table import ChannelTable, Layout, Scattered
from upscale_opt.models.attributes import attribute_of, named_tensors


class UnknownArguments(Exception):
    """A rule asks for an argument of an operator whose signature is not known."""


@dataclass
class Flow:
    """One pass over the nodes of a traced model; what the rules in `upscale_opt.operators` work with.

    Attributes
    ----------
    traced
        The traced model.
    shapes
        Node name to the shape of the tensor it computes, for two samples at least; None where it computes none.
    given
        The same for the example inputs.
    refused
        Names of nodes to be treated as unknown operators.
    whole
        Identities of buffers that are not to follow channels, since the network uses them as a whole, too.
    table
        All channels so far.
    values
        What is known of the result of every node so far.
    reasons
        Why nothing is known, for tensors without a layout: what their channels are pinned for.
    reads, selections, slices
        In execution order.
    picks
        Of tensors that do not depend on the network's input, by user, node and axis: the channels that the user is to
        be given of them.
    parameters
        Qualified name of a parameter or buffer to the layout of each of its dimensions that follows channels.
    lengths
        Reshapes by node name, with the position of the length of the channel axis among the sizes.
    sizes
        Per node that computes a length, or a tuple of lengths: the channels it counts (None for a plain length).
    settled
        Pairs (user, node) in which a length is used in a way that an export keeps right.
    attribute_uses
        Pairs (user, node) in which a parameter that follows channels is used as such.
    foreign
        Identities of tensors that are used as a whole, by modules without a rule for instance.
    maps
        Nodes that compute something entry by entry from tensors of which nothing is known.
    derived
        Reshaped parameters, which have a layout although they are no results.
    features
        Module path to the channels that ``num_features`` counts.
    """

    traced: fx.GraphModule
    shapes: Mapping[str, Any]
    given: Mapping[str, Any]
    refused: frozenset[str] = frozenset()
    whole: frozenset[int] = frozenset()
    table: ChannelTable = field(default_factory=ChannelTable)
    values: dict[str, Value] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    reads: list[Read[Layout]] = field(default_factory=list)
    selections: list[Selection[Layout]] = field(default_factory=list)
    slices: list[ChannelSlice] = field(default_factory=list)
    picks: dict[tuple[str, str, int], Layout] = field(default_factory=dict)
    parameters: dict[str, dict[int, Layout]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    settled: set[tuple[str, str]] = field(default_factory=set)
    attribute_uses: set[tuple[str, str]] = field(default_factory=set)
    foreign: set[int] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    derived: set[str] = field(default_factory=set)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    _bound: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    _assumed: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    _arguments: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _ways: dict[int, tuple[int, bool, bool]] = field(default_factory=dict)

    # What is known

    def module(self, node: fx.Node) -> Any:
        """The submodule a call_module node calls."""
        return self.traced.get_submodule(str(node.target))

    def shape(self, node: Any) -> tuple[int, ...]:
        """Shape of the tensor a node computes."""
        return self.shapes[node.name]

    def is_tensor(self, node: Any) -> bool:
        """Whether a node computes a single tensor."""
        return isinstance(node, fx.Node) and isinstance(self.shapes.get(node.name), tuple)

    def value(self, node: Any) -> Value:
        """What is known of what a node computes."""
        return self.values.get(node.name) if isinstance(node, fx.Node) else None

    def layout(self, node: Any) -> Layout | None:
        """Layout of the tensor a node computes; None if it has none (yet: see `channels`)."""
        value = self.value(node)
        return value if isinstance(value, Layout) else None

    def source(self, node: fx.Node) -> Any:
        """The first argument of a node: what it works on."""
        return node.args[0]

    def argument(self, node: fx.Node, name: str, default: Any = None) -> Any:
        """What a node is given for a parameter, however the call is written; see `upscale_opt.capture.argument_names`.

        Raises
        ------
        UnknownArguments
            If the operator's signature is not known; `upscale_opt.trace` pins what the node touches then.
        """
        if node.name not in self._arguments:
            self._arguments[node.name] = arguments_of(node, self.module(node) if node.op == "call_module" else None)
        known = self._arguments[node.name]
        if known is None:
            raise UnknownArguments
        return known.get(name, default)

    def channels(self, user: fx.Node, node: Any, axis: int, *, picks: bool = False) -> np.ndarray | None:
        """The channel of every entry of a dimension of what `user` reads; None if its channels are on another one.

        A parameter follows from now on. If nothing is known of the tensor, its entries become pinned channels; but with
        `picks` an export may hand the user those it wants of a tensor that does not depend on the network's input.
        """
        value = self.value(node)
        if isinstance(value, Layout):
            if node.name in self.derived:
                self.attribute_uses.add((user.name, node.name))
            return value.channels if value.axis == axis else None
        if value is not None or not self.is_tensor(node) or not 0 <= axis < len(self.shape(node)):
            return None
        attribute = self._attribute(node, axis)
        if attribute is not None:
            self.attribute_uses.add((user.name, node.name))
            return attribute
        if picks and node in self._fixed and node not in written_by(self.traced, user):
            return self.pick(user, node, axis)
        key = (node.name, axis)
        if key not in self._assumed:
            reason = self.reasons.get(node.name, "constant along the channel axis")
            self._assumed[key] = self.table.produce(self.shape(node)[axis], node.name)
            self.table.pin(self._assumed[key], reason, node.name)
        return self._assumed[key]

    def pick(self, user: fx.Node, node: fx.Node, axis: int) -> np.ndarray:
        """New channels along a dimension of a fixed tensor: an export selects those that this user wants."""
        if (user.name, node.name, axis) not in self.picks:
            channels = self.table.produce(self.shape(node)[axis], node.name)
            self.picks[user.name, node.name, axis] = Layout(axis, channels)
        return self.picks[user.name, node.name, axis].channels

    def is_fixed(self, node: Any) -> bool:
        """Whether a node computes a tensor that does not depend on the network's input."""
        return self.is_tensor(node) and node in self._fixed

    @cached_property
    def _fixed(self) -> set[fx.Node]:
        """Nodes that do not depend on the network's input: what is computed from parameters and buffers alone."""
        fixed: set[fx.Node] = set()
        for node in self.traced.graph.nodes:
            computed = node.op in ("call_function", "call_method", "call_module") and node.all_input_nodes
            if node.op == "get_attr" or (computed and fixed.issuperset(node.all_input_nodes)):
                fixed.add(node)
        return fixed

    def _attribute(self, node: fx.Node, axis: int) -> np.ndarray | None:
        """The channels of a tensor that is computed from parameters entry by entry, which follow from now on."""
        derivation = Derivation(self.shapes, self.maps, lambda own: id(self.parameter(str(own.target))) in self.whole)
        origins = derivation.origins(node, len(self.shape(node)) - axis, self.shape(node)[axis])
        if not origins:
            return None
        channels = None
        for origin in origins:
            self.attribute_uses |= origin.uses
            own = self.follow(str(origin.attribute.target), origin.dimension, channels)
            channels = own if channels is None else channels
        assert channels is not None
        for view, at in {own for origin in origins for own in origin.reshapes}:
            self.values[view] = Layout(at, channels)
            self.derived.add(view)
            self.lengths[view] = at
        return channels

    # What rules find out

    def unknown(self, node: fx.Node, reason: str | None = None) -> Value:
        """Pin everything that enters the node; nothing is known of its output."""
        if reason is None:
            split = any(isinstance(self.value(x), Scattered) for x in node.all_input_nodes)
            reason = f"{self.operator(node)} of split channels" if split else f"no rule for {self.operator(node)}"
        for entering in node.all_input_nodes:
            for channels in channels_in(self.value(entering)):
                self.table.pin(channels, reason, node.name)
        self.reasons[node.name] = reason
        if node.op == "call_module":
            module = self.module(node)
            self.foreign.update(id(tensor) for tensor in (*module.parameters(), *module.buffers()))
        return None

    def opaque(self, node: fx.Node, *, reads: Sequence[fx.Node] | None = None) -> Value:
        """Nothing is known of the output, nor was anything of the inputs; the reason is handed on.

        If channels are known of any input (of any of `reads`, where it does not matter how many channels others have),
        these are pinned.
        """
        if any(list(channels_in(self.value(x))) for x in (node.all_input_nodes if reads is None else reads)):
            return self.unknown(node)
        reasons = [self.reasons[x.name] for x in node.all_input_nodes if x.name in self.reasons]
        self.reasons[node.name] = reasons[0] if reasons else f"output of {self.operator(node)}"
        return None

    def follow(self, name: str, dimension: int, channels: np.ndarray | None) -> np.ndarray:
        """A dimension of a parameter or buffer follows these channels (None: new ones, if it follows none yet).

        One that follows some already ties them.
        """
        name, tensor = self.canonical(name), self.parameter(name)
        key = (id(tensor), dimension)
        if channels is None:
            if key not in self._bound:
                self._bound[key] = self.table.produce(tensor.shape[dimension], name.removesuffix(".weight"))
        else:
            if key in self._bound:
                self.table.tie(self._bound[key], channels)
            self._bound[key] = channels
        self.parameters.setdefault(name, {})[dimension] = Layout(dimension, self._bound[key])
        return self._bound[key]

    def compute(
        self,
        node: fx.Node,
        x: np.ndarray,
        *,
        axis: int,
        weight: str,
        bias: str | None,
        groups: int = 1,
        transposed: bool = False,
        is_convolution: bool = True,
    ) -> Layout | None:
        """A read of the channels `x` by a weight, which makes new channels along the same axis.

        A weight used before ties the inputs of its calls, position by position, and their outputs. One that is used in
        two ways, by a convolution and by a transposed one for instance, is used as a whole by both.
        """
        weight, tensor = self.canonical(weight), self.parameter(weight)
        way = (groups, transposed, is_convolution)
        if self._ways.setdefault(id(tensor), way) != way:
            self.hold(weight, bias)
            self.unknown(node, "a weight that is used in two ways")
            return None
        self._read(tensor, x)
        rows = 1 if transposed else 0
        if groups == 1 or not transposed:
            output = self.follow(weight, rows, None)
        else:
            output = self._rows_of_groups(tensor, groups, weight)
        if bias is not None:
            self.follow(bias, 0, output)
        if groups > 1:
            for channels in (x, output):
                for g in range(1, groups):
                    self.table.cut(channels, g * len(channels) // groups, whole_parts_may_move=True)
        result, source = Layout(axis, output), self.source(node).name
        name, number = weight.removesuffix(".weight"), 1 + sum(own.weight == weight for own in self.reads)
        names = (name if number == 1 else f"{name}#{number}", node.name, source, weight, bias)
        shapes = (self.given[source], self.given[node.name])
        self.reads.append(Read(*names, Layout(axis, x), result, *shapes, groups, 1 - rows, is_convolution))
        return result

    def _read(self, tensor: Any, x: np.ndarray) -> None:
        key = (id(tensor), -1)
        if key in self._bound:
            self.table.tie(self._bound[key], x)
        self._bound[key] = x

    def _rows_of_groups(self, tensor: Any, groups: int, name: str) -> np.ndarray:
        key = (id(tensor), -2)
        if key not in self._bound:
            self._bound[key] = self.table.produce(tensor.shape[1] * groups, name.removesuffix(".weight"))
        return self._bound[key]

    def cut(self, node: fx.Node, source: fx.Node, x: Layout, start: int, stop: int, entry: int | None) -> Layout | None:
        """The channels of a slice of `source` along its channel axis; None if it goes through a channel.

        See `ChannelSlice`. The axis of the result is that of `x`.
        """
        if stop <= start or through_channel(x.channels, start) or through_channel(x.channels, stop):
            return None
        self.table.cut(x.channels, start)
        self.table.cut(x.channels, stop)
        self.slices.append(ChannelSlice(node.name, source.name, x.axis, start, stop, entry))
        return Layout(x.axis, x.channels[start:stop])

    def rearrange(self, node: fx.Node, source: str, x: Layout, index: np.ndarray) -> Layout:
        """The node's output is the entries `index` of the channel axis of `source`: new channels, in any order."""
        output = Layout(x.axis, self.table.produce(len(index), node.name))
        self.selections.append(Selection(node.name, source, x, output, index))
        return output

    def passes(self, node: fx.Node, x: np.ndarray, axis: int) -> Layout:
        """The node's output has the channels of its input."""
        return Layout(axis, x)

    def hold(self, *names: str | None) -> None:
        """Parameters that are used as a whole: none of their dimensions may follow channels."""
        self.foreign.update(id(self.parameter(name)) for name in names if name is not None)

    def parameter(self, name: str) -> Any:
        """A parameter, buffer or other attribute by its qualified name."""
        return attribute_of(self.traced, name)

    def canonical(self, name: str) -> str:
        """The first of the names of a parameter or buffer that several modules share."""
        return self._names.get(id(self.parameter(name)), name)

    @cached_property
    def _names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for name, tensor in named_tensors(self.traced):
            names.setdefault(id(tensor), name)
        return names

    def assumed(self, reason: str) -> list[np.ndarray]:
        """Pinned channels of tensors of which nothing is known, for this reason."""
        return [channels for (name, _), channels in self._assumed.items() if self.reasons.get(name) == reason]

    def _used_whole(self) -> set[int]:
        """Identities of the tensors that are used in a way that follows no channels."""
        reads = [node for node in self.traced.graph.nodes if node.op == "get_attr" and not self._is_followed(node)]
        return {*self.foreign, *(id(attribute_of(self.traced, str(node.target))) for node in reads)}

    def buffers_used_whole(self) -> frozenset[int]:
        """Buffers that follow channels where they are computed with, but are used as a whole, too."""
        whole = self._used_whole() & {tensor for tensor, _ in self._bound}
        return frozenset(id(tensor) for tensor in self.traced.buffers() if id(tensor) in whole)

    def pin_shared(self) -> frozenset[str]:
        """Pin what follows channels but is used as a whole, too; returns calls whose weights are: refuse these."""
        self._give_up_picks()
        whole = self._used_whole()
        for (tensor, _), channels in self._bound.items():
            if tensor in whole:
                self.table.pin(channels, "a parameter is used elsewhere, too", "get_attr")
        return frozenset(read.node for read in self.reads if id(self.parameter(read.weight)) in whole)

    def _give_up_picks(self) -> None:
        """Fixed tensors are handed over whole to users of whose output nothing is known after all."""
        for user, node, axis in [key for key in self.picks if self.values.get(key[0]) is None]:
            channels = self.picks.pop((user, node, axis)).channels
            self.table.pin(channels, self.reasons.get(user, "constant along the channel axis"), user)

    def _is_followed(self, node: fx.Node) -> bool:
        """Whether all uses of a parameter, or of what is computed from it, are known to follow channels."""
        return all(
            asks_for_kind(user)
            or (
                (user.name, node.name) in self.attribute_uses
                and (
                    (self.values.get(user.name) is not None and user.name not in self.derived)
                    or self._is_followed(user)
                )
            )
            for user in node.users
        )

    def operator(self, node: fx.Node) -> str:
        """What a node calls, for people."""
        if node.op == "call_module":
            module = self.module(node)
            return (module.function if isinstance(module, CustomFunction) else type(module)).__name__
        return getattr(node.target, "__name__", str(node.target))
