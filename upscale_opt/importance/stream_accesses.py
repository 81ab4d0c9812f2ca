"""The writers and readers of a block: who adds to its channels, who reads them, and who comes before whom.

A writer is a producer of the block's channels with what follows it alone (normalisation, activation): what is added to
the stream, or starts it. A reader is a consumer. Between a writer and a reader there is no other consumer, only
additions, activations, normalisations, pooling, concatenations and depthwise convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import fx

from upscale_opt.capture.shared_memory import kind_of
from upscale_opt.tracing.graphs import Graph, Read, TensorLayout
from upscale_opt.tracing.writes import PRODUCTS


@dataclass(frozen=True)
class Writer:
    """A producer of channels of a block, with what follows it alone.

    Attributes
    ----------
    name
        Name of the producer.
    node
        Name of the node whose value is written.
    layout
        Layout of this node's tensor.
    """

    name: str
    node: str
    layout: TensorLayout


@dataclass(frozen=True, eq=False)
class Stream:
    """The accesses of a block.

    Attributes
    ----------
    block
        Number of the block.
    writers, readers
        In execution order.
    pairs
        A writer and a reader each, by number: those where the reader's input depends on what the writer wrote, without
        a consumer in between. Sorted by readers.
    constants
        Names of nodes that scale the block's channels (squeeze-and-excitation): their values count as constants.
    product
        Name of a node that multiplies what two writers wrote, so that it does not add up. None if there is no such
        node.
    """

    block: int
    writers: tuple[Writer, ...]
    readers: tuple[Read, ...]
    pairs: tuple[tuple[int, int], ...]
    constants: tuple[str, ...]
    product: str | None


def stream_of(graph: Graph, block: int) -> Stream:
    """Find the writers and readers of a block.

    Parameters
    ----------
    graph
        The traced model.
    block
        Number of the block.
    """
    reads: dict[str, Read] = {read.node: read for read in graph.outer_reads}
    nodes = list(graph.module.graph.nodes)
    origins: list[fx.Node] = []
    carried: dict[str, frozenset[int]] = {}
    scales: set[int] = set()
    product = None
    for node in nodes:
        before = [] if node.name in reads else [carried[x.name] for x in node.all_input_nodes]
        found = frozenset[int]().union(*before)
        layout = graph.layouts.get(node.name)
        if not found and layout is not None and block in layout.blocks:
            found = frozenset([len(origins)])
            origins.append(node)
        if kind_of(node) in PRODUCTS and len(set(filter(None, before))) > 1:
            scaling = _scaling(graph, node, carried)
            product = node.name if scaling is None else product
            scales |= scaling or frozenset()
            found -= scales
        carried[node.name] = found
    carried = {name: found - scales for name, found in carried.items()}
    writing = [i for i in range(len(origins)) if i not in scales]
    writers = tuple(_writer(graph, origins[i], frozenset([i]), carried, reads) for i in writing)
    wanted = _behind_selections(graph, block)
    place = {node.name: i for i, node in enumerate(nodes)}
    readers = tuple(
        sorted(
            (read for read in reads.values() if wanted & {*read.input.blocks}),
            key=lambda read: place[read.node],
        )
    )
    pairs = tuple((t, j) for j, read in enumerate(readers) for t, i in enumerate(writing) if i in carried[read.source])
    return Stream(block, writers, readers, pairs, tuple(origins[i].name for i in sorted(scales)), product)


def _scaling(graph: Graph, node: fx.Node, carried: dict[str, frozenset[int]]) -> frozenset[int] | None:
    """The origins of the factor that scales the other one: it has fewer elements. None if both are equally large."""
    factors = [x for x in node.all_input_nodes if carried[x.name]]
    sizes = [math.prod(graph.shapes.get(x.name) or (0,)) for x in factors]
    if len(factors) != 2 or sizes[0] == sizes[1]:
        return None
    small, large = sorted(zip(sizes, factors, strict=True), key=lambda own: own[0])
    return carried[small[1].name] - carried[large[1].name]


def _writer(
    graph: Graph,
    origin: fx.Node,
    itself: frozenset[int],
    carried: dict[str, frozenset[int]],
    reads: dict[str, Read],
) -> Writer:
    """The writer from a producer to the last node that only this producer reaches, and nobody else reads before."""
    last, blocks = origin, graph.layouts[origin.name].blocks
    while len(last.users) == 1:
        user = next(iter(last.users))
        layout = graph.layouts.get(user.name)
        if user.name in reads or carried[user.name] != itself or layout is None or layout.blocks != blocks:
            break
        last = user
    name = reads[origin.name].name if origin.name in reads else origin.name
    return Writer(name, last.name, graph.layouts[last.name])


def _behind_selections(graph: Graph, block: int) -> set[int]:
    """The block, and the blocks that selections (channel shuffles) make of it."""
    found = {block}
    for selection in graph.selections:
        if found & {*selection.input.blocks}:
            found |= {*selection.output.blocks}
    return found
