"""The state of operator rules during one pass over a traced model: layouts, shapes and the channel table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.capture.shared_memory import written_by
from upscale_opt.channels.derivations import Derivation
from upscale_opt.channels.findings import (
    ChannelPad,
    ChannelSlice,
    InOrder,
    Read,
    Selection,
    Value,
    channels_in,
    through_channel,
)
from upscale_opt.channels.nodes import Nodes
from upscale_opt.channels.table import ChannelTable, Layout, Scattered


@dataclass
class Flow(Nodes):
    """The state of one pass over the nodes of a traced model. The rules in `upscale_opt.operators` work on it.

    Its attributes, besides those of `Nodes`:

    Attributes
    ----------
    refused
        Names of nodes that are treated as unknown operators.
    whole
        Identities of buffers that must not follow channels, because the network also uses them as a whole.
    splits
        Names of reshapes that split a channel axis, to the axis of the result that has the channels.
    table
        All channels so far.
    reasons
        For each tensor without a layout, the reason why nothing is known. Its channels are pinned for this reason.
    reads, selections, slices
        In execution order.
    picks
        Selections from tensors that do not depend on the network's input. The key is (user, node, axis), the value the
        layout of the channels from which an export selects those that this user needs.
    parameters
        Qualified name of a parameter or buffer to the layout of each of its dimensions that follows channels.
    lengths
        Node name of a reshape to the position of the channel axis among its sizes.
    factors
        Node name of a reshape that splits a channel axis to lengths beside the channels, by position. They are computed
        from numbers of channels, and an export has them as constants.
    sizes
        Per node that computes a length, or a tuple of lengths: the channels that it counts (None for other lengths).
    settled
        Pairs (user, node) in which the user uses a length in a way that stays correct in an export.
    attribute_uses
        Pairs (user, node) in which the user uses a parameter channel by channel.
    foreign
        Identities of tensors that are used as a whole, for example by modules without a rule.
    maps
        Nodes that compute entry by entry from tensors about which nothing is known.
    derived
        Reshaped parameters. They have a layout, but do not count as results of operators.
    features
        Module path to the channels that ``num_features`` counts.
    pads
        Paddings of channel axes, in execution order.
    rolls
        Rolls along channel axes: the entries that come first in the result.
    in_order
        Nodes that need channels in their original order.
    alike
        Sets of channel axes of which an export must store equally many channels.
    wishes
        Reshapes that should split a channel axis in another way, as in `splits`. The pass must then be repeated.
    bound
        Identity of a parameter or buffer, and a dimension of it, to the channels that this dimension follows. Dimension
        -1 stands for the channels that a weight reads, -2 for those that a transposed weight computes, -3 for the units
        of a recurrent layer.
    """

    refused: frozenset[str] = frozenset()
    whole: frozenset[int] = frozenset()
    splits: Mapping[str, int] = field(default_factory=dict)
    table: ChannelTable = field(default_factory=ChannelTable)
    reasons: dict[str, str] = field(default_factory=dict)
    reads: list[Read[Layout]] = field(default_factory=list)
    selections: list[Selection[Layout]] = field(default_factory=list)
    slices: list[ChannelSlice] = field(default_factory=list)
    picks: dict[tuple[str, str, int], Layout] = field(default_factory=dict)
    parameters: dict[str, dict[int, Layout]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    factors: dict[str, dict[int, int]] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    settled: set[tuple[str, str]] = field(default_factory=set)
    attribute_uses: set[tuple[str, str]] = field(default_factory=set)
    foreign: set[int] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    derived: set[str] = field(default_factory=set)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    pads: list[ChannelPad] = field(default_factory=list)
    rolls: list[ChannelSlice] = field(default_factory=list)
    in_order: list[InOrder[Layout]] = field(default_factory=list)
    alike: list[tuple[Layout, ...]] = field(default_factory=list)
    wishes: dict[str, int] = field(default_factory=dict)
    bound: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    _assumed: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    _ways: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def channels(self, user: fx.Node, node: Any, axis: int, *, picks: bool = False) -> np.ndarray | None:
        """Return the channels along a dimension of a tensor that `user` reads. None if another dimension has them.

        If the tensor is a parameter, this dimension follows channels from now on. If nothing is known about the tensor,
        its entries become pinned channels. With `picks`, a tensor that does not depend on the network's input is not
        pinned. An export may then select the channels that the user needs.
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
        """Create channels along a dimension of a fixed tensor. An export selects those that this user needs."""
        if (user.name, node.name, axis) not in self.picks:
            channels = self.table.produce(self.shape(node)[axis], node.name)
            self.picks[user.name, node.name, axis] = Layout(axis, channels)
        return self.picks[user.name, node.name, axis].channels

    def _attribute(self, node: fx.Node, axis: int) -> np.ndarray | None:
        """Return the channels of a tensor computed entry by entry from parameters, which follow them from now on."""
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

    # Results of rules

    def unknown(self, node: fx.Node, reason: str | None = None) -> Value:
        """Pin all channels that enter the node. Nothing is known about its output."""
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
        """Handle a node whose inputs have no known channels: nothing is known about its output either.

        The first known reason of the inputs is kept. If an input does have known channels, they are pinned. With
        `reads`, only these inputs are checked, because the number of channels of the others does not matter.
        """
        if any(list(channels_in(self.value(x))) for x in (node.all_input_nodes if reads is None else reads)):
            return self.unknown(node)
        reasons = [self.reasons[x.name] for x in node.all_input_nodes if x.name in self.reasons]
        self.reasons[node.name] = reasons[0] if reasons else f"output of {self.operator(node)}"
        return None

    def follow(self, name: str, dimension: int, channels: np.ndarray | None) -> np.ndarray:
        """Let a dimension of a parameter or buffer follow channels. None means new channels, if it follows none yet.

        If the dimension already follows channels, they are tied to the new ones.
        """
        name, tensor = self.canonical(name), self.parameter(name)
        key = (id(tensor), dimension)
        if channels is None:
            if key not in self.bound:
                self.bound[key] = self.table.produce(tensor.shape[dimension], name.removesuffix(".weight"))
        else:
            if key in self.bound:
                self.table.tie(self.bound[key], channels)
            self.bound[key] = channels
        self.parameters.setdefault(name, {})[dimension] = Layout(dimension, self.bound[key])
        return self.bound[key]

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
        """Register a read of the channels `x` by a weight, and create output channels along the same axis.

        If several calls use the same weight, their inputs are tied position by position, and so are their outputs. If
        a weight is used in two ways, for example by a convolution and a transposed one, it counts as used as a whole.
        """
        weight, tensor = self.canonical(weight), self.parameter(weight)
        if not self.is_used_as(weight, (groups, transposed, is_convolution)):
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
        names = (self._next_name(weight), node.name, source, weight, bias)
        shapes = (self.given[source], self.given[node.name])
        self.reads.append(Read(*names, Layout(axis, x), result, *shapes, groups, 1 - rows, is_convolution))
        return result

    def compute_units(self, node: fx.Node, x: np.ndarray, units: np.ndarray, *, weight: str, source: str) -> None:
        """Register a read of the channels `x` by a weight of a recurrent layer, for the layer's units.

        Parameters
        ----------
        node
            The call of the layer.
        x
            The channels that the weight reads.
        units
            The channels that it helps to compute.
        weight
            Name of the weight.
        source
            Name of the node whose tensor is read: the node itself for channels inside the layer.
        """
        weight = self.canonical(weight)
        self._read(self.parameter(weight), x)
        leading = (self.given[self.source(node).name] or (1,))[:-1]  # a packed sequence has no shape
        axis = len(leading)
        names = (self._next_name(weight), node.name, source, weight, None)
        shapes = ((*leading, len(x)), (*leading, len(units)))
        layouts = Layout(axis, x), Layout(axis, units)
        self.reads.append(Read(*names, *layouts, *shapes, 1, 1, is_convolution=False, is_recurrent=True))

    def units(self, weight: str, number: int, name: str) -> np.ndarray:
        """Return the units of a recurrent layer, by the weight that reads them. They are new at the first call."""
        key = (id(self.parameter(weight)), -3)
        if key not in self.bound:
            self.bound[key] = self.table.produce(number, name)
        return self.bound[key]

    def _next_name(self, weight: str) -> str:
        """The name of the next read of a weight."""
        name, number = weight.removesuffix(".weight"), 1 + sum(own.weight == weight for own in self.reads)
        return name if number == 1 else f"{name}#{number}"

    def is_used_as(self, weight: str, way: tuple[Any, ...]) -> bool:
        """Whether all uses of a weight so far are of the same kind as this one."""
        return self._ways.setdefault(id(self.parameter(weight)), way) == way

    def _read(self, tensor: Any, x: np.ndarray) -> None:
        key = (id(tensor), -1)
        if key in self.bound:
            self.table.tie(self.bound[key], x)
        self.bound[key] = x

    def _rows_of_groups(self, tensor: Any, groups: int, name: str) -> np.ndarray:
        key = (id(tensor), -2)
        if key not in self.bound:
            self.bound[key] = self.table.produce(tensor.shape[1] * groups, name.removesuffix(".weight"))
        return self.bound[key]

    def cut(self, node: fx.Node, source: fx.Node, x: Layout, start: int, stop: int, entry: int | None) -> Layout | None:
        """Return the layout of a slice of `source` along its channel axis. None if the slice would split a channel.

        See `ChannelSlice`. The result has the same axis as `x`.
        """
        if stop <= start or through_channel(x.channels, start) or through_channel(x.channels, stop):
            return None
        self.table.cut(x.channels, start)
        self.table.cut(x.channels, stop)
        self.slices.append(ChannelSlice(node.name, source.name, x.axis, start, stop, entry))
        return Layout(x.axis, x.channels[start:stop])

    def rearrange(self, node: fx.Node, source: str, x: Layout, index: np.ndarray) -> Layout:
        """Register a node whose output has the entries `index` of the channel axis of `source`, as new channels."""
        output = Layout(x.axis, self.table.produce(len(index), node.name))
        self.selections.append(Selection(node.name, source, x, output, index))
        return output

    def passes(self, node: fx.Node, x: np.ndarray, axis: int) -> Layout:
        """Return the layout of an output with the same channels as the input."""
        return Layout(axis, x)

    def hold(self, *names: str | None) -> None:
        """Mark parameters as used as a whole: none of their dimensions may follow channels."""
        self.foreign.update(id(self.parameter(name)) for name in names if name is not None)

    def assumed(self, reason: str) -> list[np.ndarray]:
        """Return the pinned channels of those tensors about which nothing is known for this reason."""
        return [channels for (name, _), channels in self._assumed.items() if self.reasons.get(name) == reason]
