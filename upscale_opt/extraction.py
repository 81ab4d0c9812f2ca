"""From a traced model and its masks to one ordering problem per segment.

A segment is a connected component of blocks and the consumers that read them; it is named after its first
producer in execution order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from problems import Access, Block, Problem
from upscale_opt.cost_model import CostModel, Workload
from upscale_opt.flow import attribute_of
from upscale_opt.graphs import Graph, Read


def extract(graph: Graph, masks: Mapping[str, np.ndarray], *, costs: CostModel | None = None) -> dict[str, Problem]:
    """The ordering problem of every segment.

    Parameters
    ----------
    graph
        The traced model.
    masks
        A mask for every consumer (`upscale_opt.masks.effective_masks`); one that is missing keeps everything.
    costs
        Where cost tables come from, for objectives that need them. Default: no tables.

    Returns
    -------
    dict
        Segment name to problem, in execution order. Every block of the network is in exactly one.
    """
    required = required_channels(graph, masks)
    segments = _segments(graph)
    names = _names(graph, segments)
    problems: dict[str, Problem] = {}
    num_stored = np.zeros(len(graph.blocks), dtype=np.int64)
    for segment, name in enumerate(names):
        members = np.flatnonzero(segments == segment)
        local = {int(b): i for i, b in enumerate(members)}
        accesses = tuple(
            Access(
                read.name,
                tuple(local[b] for b in read.input.blocks),
                kept_channels(graph, read, masks),
                read.input.size,
            )
            for read in graph.reads
            if segments[read.input.blocks[0]] == segment
        )
        problem = Problem(tuple(_requiring(graph, int(b), required) for b in members), accesses, name)
        num_stored[members] = [len(stored) for stored in problem.stored]
        problems[name] = problem
    if costs is None:
        return problems
    reads = {read.name: read for read in graph.reads}
    return {
        name: replace(
            problem,
            accesses=tuple(
                _with_table(access, graph, reads[access.name], num_stored, costs) for access in problem.accesses
            ),
        )
        for name, problem in problems.items()
    }


def kept_channels(graph: Graph, read: Read, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """The channels a read keeps, bool, in original positions; behind a flatten, those with any kept feature.

    The mask of a convolution with several groups holds for each of them.
    """
    width = sum(graph.blocks[b].size for b in read.input.blocks)
    mask = masks.get(read.weight)
    if mask is None:
        return np.ones(width, dtype=bool)
    kept: np.ndarray = np.tile(np.asarray(mask), read.groups).reshape(width, read.input.size)
    return np.logical_or.reduce(kept, axis=1)


def required_channels(graph: Graph, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Channels that are stored whatever the reads keep; bool, shape (num channels of the network,).

    Selections require the channels that their outputs store, convolutions with several groups those that their masks
    keep, and as many of every group as of the others: a group with fewer keeps its first channels, too.
    """
    offsets = graph.offsets
    required = np.zeros(offsets[-1], dtype=bool)
    if not (graph.selections or graph.grouped):
        return required
    always = np.zeros(len(required), dtype=bool)
    for b, block in enumerate(graph.blocks):
        always[offsets[b] : offsets[b + 1]] = block.pinned or not block.removable
    for read in graph.reads:
        channels = graph.numbers(replace(read.input, size=1))
        always[channels[kept_channels(graph, read, masks)]] = True
    while True:
        stored = always | required
        empty = np.flatnonzero(np.add.reduceat(stored, offsets[:-1]) == 0)
        stored[offsets[empty]] = True
        before = required.sum()
        for selection in reversed(graph.selections):
            source, output = graph.numbers(selection.input), graph.numbers(selection.output)
            _require(required, stored, source[selection.index[stored[output]]])
        for read in reversed(graph.grouped):
            entries, outputs = (graph.numbers(layout).reshape(read.groups, -1) for layout in (read.input, read.output))
            kept = np.repeat(kept_channels(graph, read, masks), read.input.size).reshape(entries.shape)
            _require(required, stored, entries[kept])
            for channels in (entries, outputs):
                counts = stored[channels].sum(axis=1, keepdims=True)
                lacking = np.cumsum(~stored[channels], axis=1) <= counts.max() - counts
                _require(required, stored, channels[~stored[channels] & lacking])
        if required.sum() == before:
            return required


def _require(required: np.ndarray, stored: np.ndarray, channels: np.ndarray) -> None:
    required[channels] = True
    stored[channels] = True


def _requiring(graph: Graph, b: int, required: np.ndarray) -> Block:
    """A block with the channels of it that are required; one that is pinned or not removable stores all anyway."""
    block = graph.blocks[b]
    if block.pinned or not block.removable:
        return block
    own = np.flatnonzero(required[graph.offsets[b] : graph.offsets[b + 1]])
    return replace(block, required=tuple(own.tolist()))


def workload(graph: Graph, read: Read, num_outputs: int) -> Workload:
    """What a consumer that stores `num_outputs` of its outputs does per call, by the shapes of the trace."""
    weight = attribute_of(graph.module, read.weight)
    width = sum(graph.blocks[b].size for b in read.input.blocks)
    original = weight.shape[1 - read.input_axis]
    kernel = weight.numel() // original // width
    output_elements = math.prod(read.output_shape) // original * num_outputs
    return Workload(
        input_elements=math.prod(read.input_shape) // width,
        weight_elements=kernel * num_outputs,
        output_elements=output_elements,
        flops=2 * kernel * output_elements,
        element_bytes=weight.element_size(),
    )


def _with_table(access: Access, graph: Graph, read: Read, num_stored: np.ndarray, costs: CostModel) -> Access:
    outputs = int(num_stored[list(read.output.blocks)].sum())
    stored = int(num_stored[list(read.input.blocks)].sum())
    table = costs.table(workload(graph, read, outputs), kept=access.num_kept, stored=stored)
    return replace(access, table=table)


def _segments(graph: Graph) -> np.ndarray:
    """Segment of every block, numbered by first block; int, shape (num_blocks,)."""
    first = [read.input.blocks[0] for read in graph.reads for _ in read.input.blocks]
    other = [b for read in graph.reads for b in read.input.blocks]
    size = len(graph.blocks)
    links = coo_array((np.ones(len(first), dtype=bool), (first, other)), shape=(size, size))
    labels = connected_components(links, directed=False)[1]
    _, starts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(starts), dtype=np.int64)
    rank[np.argsort(starts)] = np.arange(len(starts))
    return rank[inverse]


def _names(graph: Graph, segments: np.ndarray) -> list[str]:
    names: list[str] = []
    for start in np.unique(segments, return_index=True)[1]:
        producer = graph.producers[start]
        name, number = producer, 2
        while name in names:
            name, number = f"{producer}#{number}", number + 1
        names.append(name)
    return names
