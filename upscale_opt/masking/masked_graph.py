"""A traced model with its masks: the channels that each consumer keeps, that are stored, and that producers write.

A consumer keeps the channels that its own mask keeps, without those that producers' masks make zero. Channels that no
consumer keeps are not stored. A masked producer writes those stored channels that its own mask keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from problems.showing.reprs import shown_as
from upscale_opt.arguments.mask_arrays import MaskHolder
from upscale_opt.errors import PlanError
from upscale_opt.masking.rounding import KeptChannels
from upscale_opt.showing.cards import masks_card
from upscale_opt.tracing.graphs import Graph, Read
from upscale_opt.tracing.writes import Write, writes_of, zero_channels


@shown_as(masks_card)
@dataclass(frozen=True, eq=False)
class MaskedGraph(MaskHolder):
    """A traced model and its masks.

    Attributes
    ----------
    graph
        The traced model.
    masks
        Weight name to the mask of a consumer's input channels, True = kept. A consumer without a mask keeps all
        channels.
    output_masks
        Weight name to the mask of a producer's output channels, True = kept. A producer without a mask computes all
        channels.
    padding
        Block name to channels that are stored although no consumer keeps them, int64, so that stored widths suit the
        device (`upscale_opt.planning.padding`). Default: none.
    messages
        One sentence per changed mask (a consumer keeps at least one channel).
    report
        How many channels each consumer should keep by its given mask, and how many it keeps.

    Raises
    ------
    PlanError
        If the padding names a block or a channel that the graph does not have.
    """

    is_settled: ClassVar[bool] = True

    graph: Graph
    masks: Mapping[str, np.ndarray]
    output_masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    padding: Mapping[str, np.ndarray] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    report: tuple[KeptChannels, ...] = ()

    def __post_init__(self) -> None:
        sizes = {block.name: block.size for block in self.graph.blocks} if self.padding else {}
        for name, channels in self.padding.items():
            if name not in sizes:
                raise PlanError(f"there is no block {name!r} to pad; the padding was made for another model")
            if len(channels) and not 0 <= min(channels) <= max(channels) < sizes[name]:
                raise PlanError(f"block {name!r} has {sizes[name]} channels; it cannot be padded with others")

    def __str__(self) -> str:
        kept, channels = (sum(count(mask) for mask in self.masks.values()) for count in (np.count_nonzero, len))
        written = f", {len(self.output_masks)} producers are masked" if self.output_masks else ""
        return f"{len(self.masks)} consumers keep {kept} of {channels} input channels{written}"

    def of_inputs(self) -> Mapping[str, np.ndarray]:
        """The masks of consumers."""
        return self.masks

    def of_outputs(self) -> Mapping[str, np.ndarray]:
        """The masks of producers."""
        return self.output_masks

    @cached_property
    def writes(self) -> dict[str, Write]:
        """The masked producers by the name of their weight, in execution order.

        If both operands of an addition are masked, the later one is written into the earlier one. The earlier one is
        computed whole.
        """
        own = {weight: write for weight, write in writes_of(self.graph).items() if weight in self.output_masks}
        last = {write.addition: weight for weight, write in own.items()}
        return {
            weight: write if last[write.addition] == weight else replace(write, addition=None, other=None)
            for weight, write in own.items()
        }

    def completed(self, write: Write) -> Write:
        """A write of `writes`, with its addition if the other operand is a masked producer that computes all channels.

        Then the earlier operand may be written into the later one.
        """
        addition = writes_of(self.graph)[write.weight].addition
        later = next((own for own in self.writes.values() if own.addition and own.addition == addition), None)
        if write.addition is not None or later is None:
            return write
        stored = self.stored[self.graph.numbers(later.layout)]
        whole = bool(self.output_masks[later.weight][stored].all())
        return writes_of(self.graph)[write.weight] if whole else write

    @cached_property
    def zeros(self) -> dict[str, np.ndarray]:
        """Channels that output masks make zero, by node; see `zero_channels`."""
        return zero_channels(self.graph, self.output_masks) if self.output_masks else {}

    def kept(self, read: Read) -> np.ndarray:
        """The channels that a read keeps, bool, in original positions. At least one channel is kept.

        After a flatten, a channel is kept if any of its features is. In a convolution with several groups, the mask
        holds for each group.
        """
        width = sum(self.graph.blocks[b].size for b in read.input.blocks)
        mask = self.masks.get(read.weight)
        kept = np.ones(width, dtype=bool)
        if mask is not None:
            features: np.ndarray = np.tile(np.asarray(mask), read.groups).reshape(width, read.input.size)
            kept = np.logical_or.reduce(features, axis=1)
        calls = [own for own in (*self.graph.reads, *self.graph.grouped) if own.weight == read.weight]
        zeros = [zero for own in calls if (zero := self.zeros.get(own.source)) is not None]
        if len(zeros) < len(calls):
            return kept
        kept_at_last: np.ndarray = kept & ~np.logical_and.reduce(zeros)
        return kept_at_last if kept_at_last.any() else kept

    def written(self, write: Write) -> np.ndarray:
        """The channels that are stored and that a producer's mask keeps, bool, in original positions."""
        stored = self.stored[self.graph.numbers(write.layout)]
        result: np.ndarray = stored & self.output_masks[write.weight]
        return result

    @cached_property
    def stored(self) -> np.ndarray:
        """The stored channels of the network; bool, numbered as in `Graph.offsets`."""
        stored = self._always | self.required
        empty = np.flatnonzero(np.add.reduceat(stored, self.graph.offsets[:-1]) == 0)
        stored[self.graph.offsets[empty]] = True
        return stored

    @cached_property
    def _always(self) -> np.ndarray:
        """Channels that reads keep, and channels that cannot be removed."""
        offsets = self.graph.offsets
        always = np.zeros(offsets[-1], dtype=bool)
        for b, block in enumerate(self.graph.blocks):
            always[offsets[b] : offsets[b + 1]] = block.pinned or not block.removable
        for read in self.graph.reads:
            channels = self.graph.numbers(replace(read.input, size=1))
            always[channels[self.kept(read)]] = True
        return always

    @property
    def _padded(self) -> np.ndarray:
        """The channels of the padding; bool, numbered as in `Graph.offsets`."""
        padded = np.zeros(self.graph.offsets[-1], dtype=bool)
        for b, block in enumerate(self.graph.blocks):
            if block.name in self.padding:
                padded[self.graph.offsets[b] + np.asarray(self.padding[block.name], dtype=np.int64)] = True
        return padded

    @cached_property
    def required(self) -> np.ndarray:
        """Channels that are stored even if no read keeps them; bool, numbered as in `Graph.offsets`.

        A selection requires the source channels of its stored outputs. A convolution with several groups requires the
        channels that its mask keeps, and equally many in every group. A group with fewer also keeps its first channels.
        So do the layers of a recurrent module. All channels of the padding are required.
        """
        graph, offsets = self.graph, self.graph.offsets
        required = self._padded
        if not (graph.selections or graph.grouped):
            return required
        while True:
            stored = self._always | required
            empty = np.flatnonzero(np.add.reduceat(stored, offsets[:-1]) == 0)
            stored[offsets[empty]] = True
            before = required.sum()
            for selection in reversed(graph.selections):
                source, output = graph.numbers(selection.input), graph.numbers(selection.output)
                _require(required, stored, source[selection.index[stored[output]]])
            for read in reversed(graph.grouped):
                entries, outputs = (graph.numbers(own).reshape(read.groups, -1) for own in (read.input, read.output))
                _require(required, stored, entries[np.repeat(self.kept(read), read.input.size).reshape(entries.shape)])
                _require_alike(required, stored, entries)
                _require_alike(required, stored, outputs)
            for layouts in graph.alike:
                _require_alike(required, stored, np.stack([graph.numbers(own) for own in layouts]))
            if required.sum() == before:
                return required


def _require(required: np.ndarray, stored: np.ndarray, channels: np.ndarray) -> None:
    required[channels] = True
    stored[channels] = True


def _require_alike(required: np.ndarray, stored: np.ndarray, channels: np.ndarray) -> None:
    """Require equally many channels of every row. A row with fewer also keeps its first channels."""
    counts = stored[channels].sum(axis=1, keepdims=True)
    lacking = np.cumsum(~stored[channels], axis=1) <= counts.max() - counts
    _require(required, stored, channels[~stored[channels] & lacking])
