"""From a traced model and its masks to one ordering problem per segment.

A segment is a connected component. It connects blocks, the consumers that read them, and groups of convolutions that
may change places. It has the name of its first producer in execution order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from problems import Access, Block, Bundle, Problem
from upscale_opt.arguments.entrance import entrance
from upscale_opt.masking.input_masks import normalise_masks
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.output_masks import normalise_output_masks
from upscale_opt.planning.cost_model import CostModel
from upscale_opt.planning.segment_problems import Problems
from upscale_opt.planning.workloads import layer_of, workload, writing_workload
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.graphs import Graph, Read
from upscale_opt.tracing.own_memory import why_not_in_place
from upscale_opt.tracing.prologues import prologues_of
from upscale_opt.tracing.writes import Write


@entrance()
def extract(
    graph: Graph,
    masks: Mapping[str, np.ndarray],
    *,
    output_masks: Mapping[str, np.ndarray] | None = None,
    padding: Mapping[str, np.ndarray] | None = None,
    costs: CostModel | None = None,
) -> Problems:
    """Extract the ordering problem of every segment.

    Parameters
    ----------
    graph
        The traced model.
    masks
        A mask for every consumer (`upscale_opt.masking.input_masks.effective_masks`). A consumer without a mask keeps
        everything.
    output_masks
        Masks of producers' output channels, by the name of their weight. Default: none.
    padding
        Block name to channels that are stored although no consumer keeps them. Default: none.
    costs
        Source of the cost tables, for objectives that need them. Default: no tables.

    Returns
    -------
    Problems
        A dictionary of segment names to problems, in execution order. Every block of the network is in exactly one.

    Raises
    ------
    MaskError
        If a mask does not fit.
    ModelError
        If a weight is NaN or infinite. No order of such a network can be verified.
    """
    require_finite(graph)
    found = normalise_masks(graph, masks), normalise_output_masks(graph, output_masks or {})
    return problems_of(MaskedGraph(graph, *found, padding or {}), costs=costs)


def problems_of(masked: MaskedGraph, *, costs: CostModel | None = None) -> Problems:
    """Extract the problems, as `extract` does, from a `MaskedGraph`."""
    graph = masked.graph
    bundles = _bundles(masked)
    segments = _segments(masked, bundles)
    names = _names(graph, segments)
    accesses: dict[int, list[Access]] = {}
    local = _numbers_in_segments(segments)
    for entry in (
        *map(_of_read(masked, costs), graph.reads),
        *map(_of_write(masked, costs), masked.writes.values()),
    ):
        if entry is not None:
            access, blocks = entry
            own = replace(access, blocks=tuple(int(local[b]) for b in blocks))
            accesses.setdefault(int(segments[blocks[0]]), []).append(own)
    arranged: dict[int, list[Bundle]] = {}
    for bundle in bundles:
        units = tuple(tuple(int(local[b]) for b in unit) for unit in bundle.units)
        arranged.setdefault(int(segments[bundle.blocks[0]]), []).append(Bundle(units))
    problems = {
        name: Problem(
            tuple(_requiring(graph, int(b), masked.required) for b in np.flatnonzero(segments == segment)),
            tuple(accesses.get(segment, ())),
            name,
            tuple(arranged.get(segment, ())),
        )
        for segment, name in enumerate(names)
    }
    return Problems(problems, graph.fixed, masked.padding)


_Entry = tuple[Access, tuple[int, ...]] | None


def _of_read(masked: MaskedGraph, costs: CostModel | None) -> Callable[[Read], _Entry]:
    """The access of a consumer, and the blocks it reads."""
    prologues = {} if costs is None else prologues_of(masked.graph)

    def entry(read: Read) -> _Entry:
        kept = masked.kept(read)
        blocks = read.input.blocks
        access = Access(read.name, tuple(range(len(blocks))), kept, read.input.size)
        if costs is not None:
            outputs = int(masked.stored[masked.graph.numbers(read.output)].sum())
            stored = int(masked.stored[masked.graph.numbers(replace(read.input, size=1))].sum())
            work = workload(masked.graph, read, outputs, layer_of(masked, read, outputs, prologues))
            access = replace(access, table=costs.table(work, kept=access.num_kept, stored=stored))
        return access, blocks

    return entry


def _of_write(masked: MaskedGraph, costs: CostModel | None) -> Callable[[Write], _Entry]:
    """The access of a masked producer whose output is added to a tensor, and its blocks. None if it writes nothing."""
    graph = masked.graph
    reads = {read.weight: read for read in graph.reads}
    nodes = {node.name: node for node in graph.module.graph.nodes}
    computing = {read.node for read in (*graph.reads, *graph.grouped)}

    def entry(write: Write) -> _Entry:
        written = masked.written(write)
        if write.addition is None or not written.any():
            return None
        blocks = write.layout.blocks
        access = Access(write.name, tuple(range(len(blocks))), written)
        if costs is not None:
            stored = int(masked.stored[masked.graph.numbers(write.layout)].sum())
            assert write.other is not None
            operands = nodes[write.addition], nodes[write.other], nodes[write.chain[-1]]
            copied = stored if why_not_in_place(graph.module, graph.memory, computing, *operands) else 0
            work = writing_workload(graph, reads[write.weight], num_copied=copied)
            access = replace(access, table=costs.table(work, kept=access.num_kept, stored=stored))
        return access, blocks

    return entry


def _numbers_in_segments(segments: np.ndarray) -> np.ndarray:
    """Number of every block within its segment; int64, shape (num_blocks,)."""
    order = np.argsort(segments, kind="stable")
    starts = np.searchsorted(segments[order], segments)
    place = np.empty(len(segments), dtype=np.int64)
    place[order] = np.arange(len(segments))
    numbers: np.ndarray = place - starts
    return numbers


def _requiring(graph: Graph, b: int, required: np.ndarray) -> Block:
    """A block with its required channels. A block that is pinned or not removable stores all channels anyway."""
    block = graph.blocks[b]
    if block.pinned or not block.removable:
        return block
    own = np.flatnonzero(required[graph.offsets[b] : graph.offsets[b + 1]])
    return replace(block, required=tuple(own.tolist()))


def _bundles(masked: MaskedGraph) -> list[Bundle]:
    """The bundles whose places affect an access and whose groups all store equally many channels."""
    graph = masked.graph
    read = {b for blocks in _sequences(masked) for b in blocks}
    stored = np.add.reduceat(masked.stored, graph.offsets[:-1], dtype=np.int64) if graph.blocks else np.zeros(0)
    return [
        bundle
        for bundle in graph.bundles
        if not read.isdisjoint(bundle.blocks) and not np.ptp(stored[np.array(bundle.units)], axis=0).any()
    ]


def _sequences(masked: MaskedGraph) -> list[tuple[int, ...]]:
    """The blocks of every access."""
    writes = [write.layout.blocks for write in masked.writes.values() if write.addition is not None]
    return [read.input.blocks for read in masked.graph.reads] + writes


def _segments(masked: MaskedGraph, bundles: Sequence[Bundle]) -> np.ndarray:
    """Segment of every block, numbered by first block; int, shape (num_blocks,)."""
    graph = masked.graph
    sequences = [*_sequences(masked), *(bundle.blocks for bundle in bundles)]
    first = [blocks[0] for blocks in sequences for _ in blocks]
    other = [b for blocks in sequences for b in blocks]
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
