"""What rules find out about single nodes, as data: values of nodes, cuts, calls of weights, rearrangements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.table import Layout, Scattered


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


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a convolution or a linear layer: what it reads and what it computes.

    Attributes
    ----------
    node
        The fx node.
    weight, bias
        Qualified names of the parameters; None without a bias.
    input, output
        Layouts.
    groups
        Of the convolution; 1 for a linear layer.
    input_axis
        Dimension of the weight that input channels are on: 1, but 0 in transposed convolutions.
    is_convolution
        Whether it is one.
    """

    node: fx.Node
    weight: str
    bias: str | None
    input: Layout
    output: Layout
    groups: int
    input_axis: int
    is_convolution: bool


@dataclass(frozen=True, eq=False)
class Rearrangement:
    """A node whose output is some channels of an earlier tensor in another order, such as a channel shuffle.

    Attributes
    ----------
    node, source
        Names of the fx nodes.
    input, output
        Layouts.
    index
        int64, shape (output entries,): which entry of the source each entry of the output is.
    """

    node: str
    source: str
    input: Layout
    output: Layout
    index: np.ndarray


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
