"""Channels as integers: which channels of different tensors are the same, and how they form blocks.

During tracing every produced channel gets an integer. Elementwise operators *tie* integers, slices *cut* between
neighbours, and unknown operators *pin* integers. `ChannelTable.resolve` then computes the blocks (docs/model.md
explains the problem). It uses a few array operations and no loop over channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from problems import Block


@dataclass(frozen=True, eq=False)
class Layout:
    """The channel axis of one tensor during tracing.

    Attributes
    ----------
    axis
        The dimension of the tensor that has the channels.
    channels
        int64, shape (length of that dimension,): for each entry the integer of its channel. A channel has several
        entries after a flatten, or if it was concatenated with itself.
    """

    axis: int
    channels: np.ndarray


@dataclass(frozen=True, eq=False)
class Scattered:
    """A rearrangement of another tensor after which no single axis has the channels.

    Attributes
    ----------
    origin
        Name of the fx node that computes the other tensor.
    layout
        Layout of the other tensor.
    places
        int64, shape of the rearranged tensor: for every element its flat index in the other tensor.
    split
        Name of the fx node that splits the channel axis: the first one of the rearrangement.
    """

    origin: str
    layout: Layout
    places: np.ndarray
    split: str


@dataclass(frozen=True, eq=False)
class Folded:
    """A tensor whose first axis is the batch times the channels: all channels of the first sample come first.

    Attributes
    ----------
    channels
        int64, shape (number of channels,): the channels of every sample.
    """

    channels: np.ndarray


@dataclass(frozen=True)
class TensorLayout:
    """The channel axis of one tensor: dimension `axis` concatenates `blocks`, with `size` entries per channel."""

    axis: int
    blocks: tuple[int, ...]
    size: int = 1


@dataclass(frozen=True)
class Pin:
    """A reason why channels must keep their positions."""

    reason: str
    node: str
    num_channels: int


@dataclass(frozen=True, eq=False)
class Resolution:
    """The blocks that result from all channels of a network.

    Attributes
    ----------
    blocks
        The blocks, in the order in which their first channels were produced.
    block_of, index_of
        int64, shape (number of integers,): block of each integer, and its index within that block.
    producers
        Per block, the name of the operator that produced its first channel.
    reasons
        Per block, the reasons why it is pinned, in the order of their discovery. Empty if the block is not pinned.
    compartments
        Sets of channels, each given by the integers of its entries. A block inside such a set and a block outside of it
        must not swap positions.
    """

    blocks: tuple[Block, ...]
    block_of: np.ndarray
    index_of: np.ndarray
    producers: tuple[str, ...]
    reasons: tuple[tuple[str, ...], ...]
    compartments: tuple[np.ndarray, ...]

    def layout(self, layout: Layout) -> TensorLayout | None:
        """Return a layout as a concatenation of whole blocks. None if it is not one."""
        block, index = self.block_of[layout.channels], self.index_of[layout.channels]
        if not len(block):
            return None
        same = (block[1:] == block[:-1]) & (index[1:] == index[:-1])
        changes = np.concatenate([[0], np.flatnonzero(~same) + 1, [len(block)]])
        size = int(np.gcd.reduce(np.diff(changes)))
        block, index = block[::size], index[::size]
        breaks = (block[1:] != block[:-1]) | (index[1:] != index[:-1] + 1)
        starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
        lengths = np.diff(np.concatenate([starts, [len(block)]]))
        sizes = np.array([self.blocks[b].size for b in block[starts]])
        if index[starts].any() or (lengths != sizes).any():
            return None
        return TensorLayout(layout.axis, tuple(block[starts].tolist()), size)


@dataclass
class ChannelTable:
    """Collects channels, ties, cuts and pins of a whole network. Then `resolve` computes the blocks."""

    pins: list[Pin] = field(default_factory=list)
    _size: int = 0
    _starts: list[int] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _ties: list[np.ndarray] = field(default_factory=list)
    _cuts: list[tuple[int, int]] = field(default_factory=list)
    _compartments: list[np.ndarray] = field(default_factory=list)
    _pinned: list[np.ndarray] = field(default_factory=list)
    _needed: list[np.ndarray] = field(default_factory=list)

    def produce(self, num_channels: int, name: str) -> np.ndarray:
        """Create new channels of the producer `name`: int64, shape (num_channels,)."""
        channels = np.arange(self._size, self._size + num_channels)
        self._starts.append(self._size)
        self._names.append(name)
        self._size += num_channels
        return channels

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Tie the channels at equal positions of two arrays of the same shape: they must move together."""
        if first is not second:
            self._ties.append(np.stack([first, second]))

    def cut(self, channels: np.ndarray, position: int, *, whole_parts_may_move: bool = False) -> None:
        """Keep the channels before `position` apart from those at and after it.

        No channel may move from one part to the other. With `whole_parts_may_move` the two parts as a whole may swap.
        """
        if 0 < position < len(channels):
            self._cuts.append((int(channels[position - 1]), int(channels[position])))
            if not whole_parts_may_move:
                self._compartments.append(channels[:position])

    def pin(self, channels: np.ndarray, reason: str, node: str) -> None:
        """Pin channels: they keep their positions, and none may be removed."""
        self._pinned.append(channels)
        self.pins.append(Pin(reason, node, len(channels)))

    def need(self, channels: np.ndarray) -> None:
        """Mark channels as needed: they may move, but none may be removed."""
        self._needed.append(channels)

    def resolve(self) -> Resolution:
        """Compute the blocks: maximal chains of tie classes that are neighbours in every producer that has them."""
        tie = self._tie_classes()
        producer = np.repeat(np.arange(len(self._starts)), np.diff([*self._starts, self._size]))
        num_classes = int(tie.max(initial=-1)) + 1

        pinned = np.zeros(num_classes, dtype=bool)
        for channels in self._pinned:
            pinned[tie[channels]] = True
        needed = np.zeros(num_classes, dtype=bool)
        for channels in self._needed:
            needed[tie[channels]] = True

        chain = self._chains(tie, producer, num_classes)
        first = np.full(num_classes, self._size)
        np.minimum.at(first, tie, np.arange(self._size))
        # Number the blocks by their first channels, and the classes within a block in the same way.
        by_first = np.argsort(first)
        block_start = np.full(chain.max(initial=-1) + 1, self._size)
        np.minimum.at(block_start, chain, first)
        rank = np.empty(len(block_start), dtype=np.int64)
        rank[np.argsort(block_start)] = np.arange(len(block_start))
        block = rank[chain]
        order = by_first[np.argsort(block[by_first], kind="stable")]
        sizes = np.bincount(block, minlength=len(block_start))
        index = np.empty(num_classes, dtype=np.int64)
        index[order] = np.arange(num_classes) - np.repeat(np.cumsum(sizes) - sizes, sizes)

        block_pinned = np.bincount(block, weights=pinned, minlength=len(sizes)) > 0
        block_needed = np.bincount(block, weights=needed, minlength=len(sizes)) > 0
        block_start = np.sort(block_start)
        owners = producer[block_start]
        blocks, numbers = [], dict[str, int]()
        for b, (start, size, owner) in enumerate(zip(block_start, sizes, owners, strict=True)):
            offset = int(start) - self._starts[owner]
            whole = offset == 0 and size == np.diff([*self._starts, self._size])[owner]
            name = self._names[owner] if whole else f"{self._names[owner]}[{offset}:{offset + size}]"
            numbers[name] = numbers.get(name, 0) + 1
            name = name if numbers[name] == 1 else f"{name}#{numbers[name]}"
            blocks.append(Block(name, int(size), pinned=bool(block_pinned[b]), removable=not bool(block_needed[b])))
        block_of = block[tie]
        reasons: list[dict[str, None]] = [{} for _ in blocks]
        for pin, channels in zip(self.pins, self._pinned, strict=True):
            for b in np.unique(block_of[channels]):
                reasons[b][pin.reason] = None
        producers = tuple(self._names[p] for p in owners)
        compartments = tuple(self._compartments)
        return Resolution(tuple(blocks), block_of, index[tie], producers, tuple(map(tuple, reasons)), compartments)

    def _tie_classes(self) -> np.ndarray:
        """Return the label of the tie class of every channel: int64, shape (number of channels,)."""
        if not self._ties:
            return np.arange(self._size)
        first, second = np.concatenate(self._ties, axis=1)
        graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(self._size, self._size))
        return connected_components(graph, directed=False)[1].astype(np.int64)

    def _chains(self, tie: np.ndarray, producer: np.ndarray, num_classes: int) -> np.ndarray:
        """Return the label of the block of every tie class: int64, shape (num_classes,).

        Two classes are linked if every entry of the one is followed by an entry of the other. Equal neighbours count as
        one entry.
        """
        whole = tie
        new = np.ones(len(tie), dtype=bool)
        new[1:] = (tie[1:] != tie[:-1]) | (producer[1:] != producer[:-1])
        tie, producer = tie[new], producer[new]
        neighbours = producer[1:] == producer[:-1]
        left, right = tie[:-1][neighbours], tie[1:][neighbours]
        pairs, counts = np.unique(left * num_classes + right, return_counts=True)
        left, right = pairs // max(1, num_classes), pairs % max(1, num_classes)
        occurrences = np.bincount(tie, minlength=num_classes)
        linked = (counts == occurrences[left]) & (counts == occurrences[right])
        if self._cuts:
            cuts = whole[np.array(self._cuts)]
            linked &= ~np.isin(pairs, cuts[:, 0] * num_classes + cuts[:, 1])
        graph = coo_array(
            (np.ones(linked.sum(), dtype=bool), (left[linked], right[linked])), shape=(num_classes, num_classes)
        )
        return connected_components(graph, directed=False)[1].astype(np.int64)
