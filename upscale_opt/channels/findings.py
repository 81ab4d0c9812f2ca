"""Results of operator rules for single nodes, as data: values of nodes, slices, reads and selections."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
from torch import fx

from upscale_opt.channels.table import Folded, Layout, Scattered, TensorLayout


@dataclass(frozen=True)
class ChannelSlice:
    """A slice of channels: entries [start, stop) of the channel axis `axis` of node `source`.

    An export must compute new bounds for it.

    Attributes
    ----------
    node, source
        Names of the fx nodes of the slice and of the sliced tensor.
    axis
        The dimension of `source`.
    start, stop
        Bounds in entries of the original tensor.
    entry
        Position of the slice in the index expression. None if an export can replace the whole node by a ``narrow``.
    """

    node: str
    source: str
    axis: int
    start: int
    stop: int
    entry: int | None


@dataclass(frozen=True)
class ChannelPad:
    """A padding of a channel axis with a constant. An export pads with fewer channels if some are not stored.

    Attributes
    ----------
    node
        Name of the fx node.
    axis
        The dimension of the tensor.
    before, behind
        Number of entries before and behind those of the padded tensor, in the original network.
    """

    node: str
    axis: int
    before: int
    behind: int


@dataclass(frozen=True, eq=False)
class Piece:
    """One of several tensors into which node `source` is split along its channel axis: entries [start, stop)."""

    source: fx.Node
    layout: Layout
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Stacked:
    """A tensor whose first axis has several parts with channels of their own, as the last states of a deep LSTM.

    Attributes
    ----------
    axis
        The dimension of the tensor that has the channels.
    parts
        The channels of every entry of the first axis.
    """

    axis: int
    parts: tuple[np.ndarray, ...]

    def part(self, index: Any) -> Layout | None:
        """The layout of one entry of the first axis. None if the index is not the number of one."""
        if type(index) is not int or not -len(self.parts) <= index < len(self.parts):
            return None
        return Layout(self.axis - 1, self.parts[index])


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed sequence, whose entries have these channels."""

    channels: np.ndarray


Value = Layout | Scattered | Folded | Piece | Stacked | Packed | tuple[Any, ...] | None
"""What is known about the result of a node. None if nothing is known, a tuple for several tensors."""

L = TypeVar("L", Layout, TensorLayout)
BlocksOf = Callable[[Layout], TensorLayout | None]


@dataclass(frozen=True)
class Read(Generic[L]):
    """One call of a consumer: a convolution or a linear layer, as a module or as a function, or a recurrent layer.

    Attributes
    ----------
    name
        The weight's name without ``.weight`` (usually a module path), with ``#2`` for the second call and so on.
    node, source
        Names of the fx nodes of the call and of its input.
    weight, bias
        Qualified names of the parameters. The name of the weight is the key of the consumer's mask. `bias` is None if
        there is no bias.
    input, output
        Layouts of input and output. They consist of channels during tracing, and of blocks after that.
    input_shape, output_shape
        Shapes of input and output, for the example inputs.
    groups
        Number of groups of the convolution; 1 for a linear layer. With several groups, a mask drops the same channels
        of every group.
    input_axis
        Dimension of the weight that has the input channels: 0 in transposed convolutions, otherwise 1.
    is_convolution
        Whether the consumer is a convolution. Linear layers are not masked by default.
    reads_network_input
        Whether any of its input channels comes from a network input. Set only for layouts of blocks.
    is_recurrent
        Whether it is a weight of a recurrent layer. If `source` is `node`, the layer itself computes the channels.
    """

    name: str
    node: str
    source: str
    weight: str
    bias: str | None
    input: L
    output: L
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    groups: int
    input_axis: int
    is_convolution: bool
    reads_network_input: bool = False
    is_recurrent: bool = False

    @property
    def is_inside(self) -> bool:
        """Whether the channels that it reads are inside a recurrent layer, so that no tensor of the trace has them."""
        return self.source == self.node

    @property
    def takes_all(self) -> bool:
        """Whether it always reads all stored channels: no order suits it better than another."""
        return self.groups > 1 or self.is_recurrent

    def resolved(self, blocks_of: BlocksOf, network_inputs: Container[int]) -> Read[TensorLayout] | None:
        """Return the same read with layouts of blocks. None if a layout is not a concatenation of blocks.

        Parameters
        ----------
        blocks_of
            Returns the blocks of a layout.
        network_inputs
            The blocks with a channel of a network input.
        """
        layouts = _both(self, blocks_of)
        if layouts is None:
            return None
        mine = any(b in network_inputs for b in layouts["input"].blocks)
        return cast("Read[TensorLayout]", replace(cast("Any", self), **layouts, reads_network_input=mine))


@dataclass(frozen=True, eq=False)
class InOrder(Generic[L]):
    """A node that needs all channels of its input in the original order, and computes new channels in their order.

    An export selects the channels in the original order in front of the node. Behind it, it selects the stored channels
    of the output.

    Attributes
    ----------
    node, source
        Names of the fx nodes.
    input, output
        Layouts. They consist of channels during tracing, and of blocks after that.
    """

    node: str
    source: str
    input: L
    output: L

    def resolved(self, blocks_of: BlocksOf) -> InOrder[TensorLayout] | None:
        """Return the same node with layouts of blocks. None if a layout is not a concatenation of blocks."""
        layouts = _both(self, blocks_of)
        return None if layouts is None else cast("InOrder[TensorLayout]", replace(cast("Any", self), **layouts))


@dataclass(frozen=True, eq=False)
class Selection(Generic[L]):
    """A node whose output has some channels of an earlier tensor in another order, such as a channel shuffle.

    An export replaces the node by a selection of the stored channels.

    Attributes
    ----------
    node, source
        Names of the fx nodes.
    input, output
        Layouts. They consist of channels during tracing, and of blocks after that.
    index
        int64, shape (output entries,): for each entry of the output, its entry in the source.
    """

    node: str
    source: str
    input: L
    output: L
    index: np.ndarray

    def resolved(self, blocks_of: BlocksOf) -> Selection[TensorLayout] | None:
        """Return the same selection with layouts of blocks. None if a layout is not a concatenation of blocks."""
        layouts = _both(self, blocks_of)
        return None if layouts is None else cast("Selection[TensorLayout]", replace(cast("Any", self), **layouts))


def _both(own: Any, blocks_of: BlocksOf) -> dict[str, TensorLayout] | None:
    """Return the layouts of blocks of a node's input and output. None if one is not a concatenation of blocks."""
    found = {side: blocks_of(getattr(own, side)) for side in ("input", "output")}
    return {side: layout for side, layout in found.items() if layout} if all(found.values()) else None


def channels_in(value: Value) -> Iterator[np.ndarray]:
    """Yield the channels of all layouts in the value of a node."""
    if isinstance(value, (Layout, Folded, Packed)):
        yield value.channels
    elif isinstance(value, (Scattered, Piece)):
        yield value.layout.channels
    elif isinstance(value, Stacked):
        yield from value.parts
    elif isinstance(value, tuple):
        for part in value:
            yield from channels_in(part)


def through_channel(channels: np.ndarray, position: int) -> bool:
    """Whether a cut in front of an entry would split a channel with several entries."""
    return 0 < position < len(channels) and bool(channels[position - 1] == channels[position])


def entries_per_channel(channels: np.ndarray) -> int:
    """The largest number of entries by which every channel of an axis has a multiple of entries in a row."""
    changes = np.flatnonzero(np.diff(channels, prepend=-1, append=-1))
    return int(np.gcd.reduce(np.diff(changes))) if len(channels) else 1
