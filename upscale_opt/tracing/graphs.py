"""The result of a trace: a `Graph` of blocks, of consumers that read them, and of parameters that follow them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import fx

from problems import Block, Bundle
from problems.showing.reprs import shown_as
from upscale_opt.arguments.modes import FX
from upscale_opt.capture.regions import regions_of
from upscale_opt.capture.settled import Settled
from upscale_opt.capture.shared_memory import Memory
from upscale_opt.channels import findings
from upscale_opt.channels.findings import ChannelPad, ChannelSlice
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Layout, Pin, TensorLayout
from upscale_opt.models.attributes import named_tensors
from upscale_opt.showing.cards import graph_card
from upscale_opt.tracing.fingerprints import Fingerprint
from upscale_opt.tracing.movable_groups import bundles_of
from upscale_opt.tracing.skipped import Skipped, skipped_layers
from upscale_opt.tracing.skipped import grouped as grouped_layers
from upscale_opt.tracing.validity import Validity, validity_of

NETWORK_INPUT = "network input"
NETWORK_OUTPUT = "network output"


Read = findings.Read[TensorLayout]
"""One call of a consumer, with layouts of blocks."""
Selection = findings.Selection[TensorLayout]
"""A node, such as a channel shuffle, that an export replaces by a selection of channels of an earlier tensor."""
InOrder = findings.InOrder[TensorLayout]
"""A node that needs channels in their original order, with layouts of blocks."""


@dataclass(frozen=True)
class Pick:
    """A selection from a tensor that does not depend on the network's input. An export makes it for one user.

    Attributes
    ----------
    user, node
        Names of the fx nodes: the user, and the node of the tensor.
    layout
        Layout of the tensor for this user.
    """

    user: str
    node: str
    layout: TensorLayout


@shown_as(graph_card)
@dataclass(frozen=True, eq=False)
class Graph:
    """A traced model.

    Attributes
    ----------
    module
        The fx GraphModule. It shares the submodules of the model.
    blocks
        All blocks of the network, in the order of their production.
    producers
        Per block, the module path (or node) that produces its first channel.
    layouts
        Node name to layout, for every tensor with channels.
    reads
        Calls of consumers that may select their channels, in execution order.
    grouped
        Calls of other consumers, in execution order: they read all stored channels. These are convolutions with several
        groups that are not depthwise, and recurrent layers.
    alike
        Sets of layouts of which an export stores equally many channels: the layers of one recurrent module.
    selections
        Nodes that become selections.
    picks
        Selections for single users from tensors that do not depend on the network's input.
    slices
        Channel slices, in execution order.
    in_order
        Nodes that need channels in their original order, in execution order.
    pads
        Paddings of channel axes, in execution order.
    rolls
        Rolls along channel axes, in execution order: the entries of the source that come first in the result.
    lengths
        Node name of a reshape to the position of the channel axis among its sizes.
    factors
        Node name of a reshape to lengths that an export has as constants, by position: ``width // heads``.
    parameters
        Name of a parameter or buffer to the layout of each of its dimensions that follows channels. Input channels of
        consumers are not listed: see `reads` and `grouped`.
    features
        Module path to the layout that its ``num_features`` counts.
    pins
        Pinned channels, with the reason and the operator. A pin of zero channels reports a layer with parameters that
        the trace cannot use (see `skipped`).
    shapes
        Node name to the shape of its tensor for the example inputs. None if the node computes no tensor.
    constants
        Names of tensors that are constants of the code (``x + torch.tensor(0.5)``). They are in the state_dict of the
        traced module, but not of the model.
    fixed
        Name to fingerprint of the values for which the trace is valid: `constants`, buffers that are not in the model's
        state_dict, and `used`.
    used
        Names of buffers and other tensors whose values became part of the code, because Python needed them: for a
        condition, for a bound of a loop, or for a computation with a plain attribute.
    reasons
        Per block, the reasons why it is pinned. Empty if the block is not pinned.
    bundles
        Groups of convolutions that may swap positions, given by the numbers of their blocks.
    skipped
        Layers with parameters that are neither consumers nor producers, each with its reason.
    inputs
        The example inputs, on the meta device.
    settled
        Values that the trace took from the example inputs, because Python needed them: the lengths of lists, and
        conditions on shapes. `validity` says for which input sizes they are the same.
    front_end
        What has captured the network: ``fx`` or ``export``.
    refusal
        Why torch.fx has refused the network, if `torch.export` was asked for that reason.
    """

    module: fx.GraphModule
    blocks: tuple[Block, ...]
    producers: tuple[str, ...]
    layouts: Mapping[str, TensorLayout]
    reads: tuple[Read, ...]
    grouped: tuple[Read, ...]
    selections: tuple[Selection, ...]
    picks: tuple[Pick, ...]
    slices: tuple[ChannelSlice, ...]
    in_order: tuple[InOrder, ...]
    pads: tuple[ChannelPad, ...]
    rolls: tuple[ChannelSlice, ...]
    alike: tuple[tuple[TensorLayout, ...], ...]
    lengths: Mapping[str, int]
    factors: Mapping[str, Mapping[int, int]]
    parameters: Mapping[str, Mapping[int, TensorLayout]]
    features: Mapping[str, TensorLayout]
    pins: tuple[Pin, ...]
    shapes: Mapping[str, Any]
    constants: frozenset[str]
    fixed: Mapping[str, Fingerprint]
    used: tuple[str, ...]
    reasons: tuple[tuple[str, ...], ...]
    bundles: tuple[Bundle, ...]
    skipped: tuple[Skipped, ...] = ()
    inputs: tuple[Any, ...] = ()
    settled: tuple[Settled, ...] = ()
    front_end: str = FX
    refusal: str | None = None

    def __str__(self) -> str:
        pinned = sum(block.size for block in self.blocks if block.pinned)
        total = sum(block.size for block in self.blocks)
        skipped = "".join(f"; skipped: {line}" for line in grouped_layers(self.skipped))
        return (
            f"{len(self.blocks)} blocks, {total} channels ({pinned} pinned), "
            f"{len(self.consumers)} consumers, {len(self.unsupported)} unsupported operators{skipped}"
            + (f"; is valid only for the values of {', '.join(self.used)}" if self.used else "")
            + (f"; {self.validity}" if self.settled and self.validity.conditions else "")
            + (f"; captured by torch.export, because {self.refusal}" if self.refusal else "")
        )

    @cached_property
    def validity(self) -> Validity:
        """For which sizes of the inputs the trace holds. `trace` finds it out if it settled anything."""
        return validity_of(self.module, self.inputs, self.settled)

    @cached_property
    def consumers(self) -> dict[str, Read]:
        """The first call of every consumer, by weight name, in execution order."""
        place = {node.name: i for i, node in enumerate(self.module.graph.nodes)}
        consumers: dict[str, Read] = {}
        for read in sorted((*self.reads, *self.grouped), key=lambda read: place[read.node]):
            consumers.setdefault(read.weight, read)
        return consumers

    @cached_property
    def outer_reads(self) -> tuple[Read, ...]:
        """Calls of consumers that read a tensor of the trace. Of a call of a recurrent layer, the first read only."""
        seen: set[str] = set()
        first = []
        for read in self.grouped:
            if not read.is_recurrent or (not read.is_inside and read.node not in seen):
                first.append(read)
                seen.add(read.node)
        return (*self.reads, *first)

    @property
    def unsupported(self) -> tuple[Pin, ...]:
        """Pins that a user may want to see: one per node, without those of the network's inputs and outputs."""
        by_node = {pin.node: pin for pin in self.pins if pin.reason not in (NETWORK_INPUT, NETWORK_OUTPUT)}
        return tuple(by_node.values())

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Other names of tensors with several names, to the first name."""
        first: dict[int, str] = {}
        return {
            name: first[id(tensor)]
            for name, tensor in named_tensors(self.module)
            if first.setdefault(id(tensor), name) != name
        }

    @cached_property
    def calls(self) -> Counter[str]:
        """Number of calls of every module, by path."""
        return Counter(str(node.target) for node in self.module.graph.nodes if node.op == "call_module")

    @cached_property
    def regions(self) -> dict[str, tuple[Any, ...]]:
        """The regions around every node, by node name; see `upscale_opt.capture.regions.regions_of`."""
        return regions_of(self.module)

    @cached_property
    def memory(self) -> Memory:
        """Which tensors share memory, and which nodes write into it. Consumers are known to compute new tensors."""
        return Memory(self.module, {read.node for read in (*self.reads, *self.grouped)})

    @cached_property
    def borrowed(self) -> frozenset[str]:
        """Names of parameters and buffers that have several names, or that are used outside of their module."""
        read = {str(node.target) for node in self.module.graph.nodes if node.op == "get_attr"}
        tensors = named_tensors(self.module)
        used = {id(tensor) for name, tensor in tensors if name in read}
        used |= {id(tensor) for name, tensor in tensors if name in self.aliases}
        return frozenset(name for name, tensor in tensors if id(tensor) in used)

    def is_private(self, path: str) -> bool:
        """Whether only the module at this path uses its parameters and buffers."""
        return not any(name.rpartition(".")[0] == path for name in self.borrowed)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Number of the first channel of every block, if all channels are numbered in order, and the total number."""
        return np.concatenate([[0], np.cumsum([block.size for block in self.blocks], dtype=np.int64)])

    def numbers(self, layout: TensorLayout) -> np.ndarray:
        """Return the number (see `offsets`) of the channel of every entry of an axis: int64."""
        channels = [np.arange(self.offsets[b], self.offsets[b + 1]) for b in layout.blocks]
        return np.concatenate(channels).repeat(layout.size)


def build(
    flow: Flow,
    shapes: Mapping[str, Any],
    constants: frozenset[str],
    fixed: Mapping[str, Fingerprint],
    used: tuple[str, ...],
) -> Graph | frozenset[str]:
    """Resolve the channels of a finished flow into blocks, and build the graph.

    If a layout is not a concatenation of blocks, return the names of the nodes to be refused instead.
    """
    resolution = flow.table.resolve()
    known: dict[int, TensorLayout | None] = {}

    def final(layout: Layout) -> TensorLayout | None:
        key = id(layout.channels)
        if key not in known:
            known[key] = resolution.layout(layout)
        own = known[key]
        return None if own is None else TensorLayout(layout.axis, own.blocks, own.size)

    layouts, refused = {}, set()
    for name, value in flow.values.items():
        if isinstance(value, Layout):
            own = final(value)
            if own is None:
                refused.add(name)
            else:
                layouts[name] = own
    network_inputs = {int(b) for channels in flow.assumed(NETWORK_INPUT) for b in resolution.block_of[channels]}
    reads = [(own.node, own.resolved(final, network_inputs)) for own in flow.reads]
    selections = [(own.node, own.resolved(final)) for own in flow.selections]
    in_order = [(own.node, own.resolved(final)) for own in flow.in_order]
    refused |= {node for found in (reads, selections, in_order) for node, own in found if own is None}
    picks = {(user, node): final(own) for (user, node, _), own in flow.picks.items()}
    refused |= {user for (user, _), own in picks.items() if own is None}
    refused |= {user for user, node, _ in flow.picks if sum((user, node) == key[:2] for key in flow.picks) > 1}
    if refused:
        return frozenset(refused)

    known_reads = [own for _, own in reads if own is not None]
    grouped = tuple(own for own in known_reads if own.takes_all)
    alike = [tuple(layout for own in axes if (layout := final(own)) is not None) for axes in flow.alike]
    parameters = {
        name: {dim: layout for dim, own in dims.items() if (layout := final(own)) is not None}
        for name, dims in flow.parameters.items()
    }
    features = {path: layout for path, own in flow.features.items() if (layout := final(Layout(0, own))) is not None}
    followed = {*parameters, *(read.weight for read in flow.reads)}
    skipped = skipped_layers(flow.traced, followed, flow.reasons)
    seen = {pin.node for pin in flow.table.pins} | {n.name for n in flow.traced.graph.nodes if n.op == "get_attr"}
    pins = {node: Pin(own.reason, node, 0) for own, node in skipped.values() if node not in seen}
    return Graph(
        flow.traced,
        resolution.blocks,
        resolution.producers,
        layouts,
        tuple(own for own in known_reads if not own.takes_all),
        grouped,
        tuple(own for _, own in selections if own is not None),
        tuple(Pick(user, node, own) for (user, node), own in picks.items() if own is not None),
        tuple(flow.slices),
        tuple(own for _, own in in_order if own is not None),
        tuple(flow.pads),
        tuple(flow.rolls),
        tuple(alike),
        flow.lengths,
        flow.factors,
        parameters,
        features,
        (*flow.table.pins, *pins.values()),
        shapes,
        constants,
        fixed,
        used,
        resolution.reasons,
        bundles_of(
            [(read.input, read.output, read.groups) for read in grouped if not read.is_recurrent],
            resolution,
            known.values(),
        ),
        tuple(own for own, _ in skipped.values()),
    )
