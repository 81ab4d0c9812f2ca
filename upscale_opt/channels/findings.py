"""What rules find out about single nodes, as data: values of nodes, cuts, reads, selections."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
from torch import fx

from upscale_opt.channels.table import Layout, Scattered, TensorLayout


@dataclass(frozen=True)
class ChannelSlice:
    """Entries [start, stop) of the channel axis `axis` of node `source`, which an export must find again.

    Attributes
    ----------
    node, source
        Names of the fx nodes of the slice and of what it is cut from.
    axis
        Which dimension of `source`.
    start, stop
        Bounds in original entries.
    entry
        Which entry of the index expression it is; None if the node as a whole can be replaced by a ``narrow``.
    """

    node: str
    source: str
    axis: int
    start: int
    stop: int
    entry: int | None


@dataclass(frozen=True, eq=False)
class Piece:
    """One tensor of several into which node `source` is cut along its channel axis: entries [start, stop)."""

    source: fx.Node
    layout: Layout
    start: int
    stop: int


Value = Layout | Scattered | Piece | tuple[Any, ...] | None
"""What is known of a node's result: None if nothing, a tuple for several tensors."""

L = TypeVar("L", Layout, TensorLayout)
BlocksOf = Callable[[Layout], TensorLayout | None]


@dataclass(frozen=True)
class Read(Generic[L]):
    """One call of a consumer: a convolution or a linear layer, as a module or as a function.

    Attributes
    ----------
    name
        The weight's name without ``.weight`` (a module path, mostly), with ``#2`` for the second call and so on.
    node, source
        Names of the fx nodes of the call and of what it reads.
    weight, bias
        Qualified names of the parameters; the weight's is the key of the consumer's mask. None without a bias.
    input, output
        Layouts of what it reads and of what it computes: of channels while the network is traced, of blocks after that.
    input_shape, output_shape
        Shapes of what it reads and computes, for the example inputs.
    groups
        Of the convolution; 1 for a linear layer. With more than one, a mask drops the same channels of every group.
    input_axis
        Dimension of the weight that input channels are on: 1, but 0 in transposed convolutions.
    is_convolution
        Whether it is one; linear layers are not masked by default.
    reads_network_input
        Whether any of its channels comes from a network input; known of blocks only.
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

    def resolved(self, blocks_of: BlocksOf, network_inputs: Container[int]) -> Read[TensorLayout] | None:
        """The same with layouts of blocks; None if one is no concatenation of blocks.

        Parameters
        ----------
        blocks_of
            The blocks of a layout.
        network_inputs
            The blocks that have a channel of a network input.
        """
        layouts = _both(self, blocks_of)
        if layouts is None:
            return None
        mine = any(b in network_inputs for b in layouts["input"].blocks)
        return cast("Read[TensorLayout]", replace(cast("Any", self), **layouts, reads_network_input=mine))


@dataclass(frozen=True, eq=False)
class Selection(Generic[L]):
    """A node whose output is some channels of an earlier tensor in another order, such as a channel shuffle.

    An export replaces it by a selection of the channels that are stored.

    Attributes
    ----------
    node, source
        Names of the fx nodes.
    input, output
        Layouts: of channels while the network is traced, of blocks after that.
    index
        int64, shape (output entries,): which entry of the source each entry of the output is.
    """

    node: str
    source: str
    input: L
    output: L
    index: np.ndarray

    def resolved(self, blocks_of: BlocksOf) -> Selection[TensorLayout] | None:
        """The same with layouts of blocks; None if one is no concatenation of blocks."""
        layouts = _both(self, blocks_of)
        return None if layouts is None else cast("Selection[TensorLayout]", replace(cast("Any", self), **layouts))


def _both(own: Any, blocks_of: BlocksOf) -> dict[str, TensorLayout] | None:
    """The layouts of blocks of what a node reads and of what it computes; None if one is none."""
    found = {side: blocks_of(getattr(own, side)) for side in ("input", "output")}
    return {side: layout for side, layout in found.items() if layout} if all(found.values()) else None


def channels_in(value: Value) -> Iterator[np.ndarray]:
    """The channels of all layouts in what is known of a node."""
    if isinstance(value, Layout):
        yield value.channels
    elif isinstance(value, (Scattered, Piece)):
        yield value.layout.channels
    elif isinstance(value, tuple):
        for part in value:
            yield from channels_in(part)


def through_channel(channels: np.ndarray, position: int) -> bool:
    """Whether a cut in front of an entry goes through a channel."""
    return 0 < position < len(channels) and bool(channels[position - 1] == channels[position])
