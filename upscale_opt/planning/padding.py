"""Padding: channels that are stored although no consumer keeps them, so that stored widths suit the device.

Devices compute some widths faster than smaller ones next to them: 512 channels are faster than 497 on tensor cores.
An export may therefore store a few dropped channels. Nothing else changes: no consumer reads them, or reads them with
weights of zero. `upscale_opt.latency.stored_widths` measures which widths are worth it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from upscale_opt.arguments.checks import whole
from upscale_opt.errors import PlanError
from upscale_opt.importance import column_norms
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.tracing.graphs import Graph


def stored_widths(masked: MaskedGraph) -> dict[str, int]:
    """Block name to the number of channels that are stored of it."""
    graph, stored = masked.graph, masked.stored
    return {
        block.name: int(stored[graph.offsets[b] : graph.offsets[b + 1]].sum()) for b, block in enumerate(graph.blocks)
    }


def paddable(masked: MaskedGraph) -> dict[str, tuple[int, int]]:
    """Blocks whose stored width is free, with the channels that they store and have.

    Left out are blocks that store everything, and those of convolutions with several groups, whose groups must store
    equally many channels.
    """
    graph, widths = masked.graph, stored_widths(masked)
    grouped = {b for read in graph.grouped for b in (*read.input.blocks, *read.output.blocks)}
    return {
        block.name: (widths[block.name], block.size)
        for b, block in enumerate(graph.blocks)
        if b not in grouped and not block.pinned and block.removable and widths[block.name] < block.size
    }


def rounded_up(masked: MaskedGraph, multiple: int) -> dict[str, int]:
    """Block name to the next multiple of its stored width, or to all its channels if that is less.

    Parameters
    ----------
    masked
        The masked network.
    multiple
        Channels, at least 1.

    Raises
    ------
    PlanError
        If the multiple is below 1.
    """
    multiple = whole(1, PlanError)(multiple, "the multiple to align to")
    return {name: min(size, -(-stored // multiple) * multiple) for name, (stored, size) in paddable(masked).items()}


def padded(masked: MaskedGraph, widths: Mapping[str, int]) -> MaskedGraph:
    """The same masked network with wider stored blocks.

    The channels that fill a block up are those that were dropped last: of the largest group norm, the squared norms of
    the weights that read a channel, summed over its consumers.

    Parameters
    ----------
    masked
        The masked network.
    widths
        Block name to channels to store: at least as many as are stored anyway, at most as many as there are.

    Raises
    ------
    PlanError
        If a block cannot be padded, or a width is too small or too large.
    """
    graph, free, stored = masked.graph, paddable(masked), masked.stored
    number = {block.name: b for b, block in enumerate(graph.blocks)}
    scores = group_norms(graph) if widths else np.zeros(0)
    padding = {name: np.asarray(own, dtype=np.int64) for name, own in masked.padding.items()}
    for name, width in widths.items():
        least, most = free.get(name, (0, -1))
        if not least <= width <= most:
            raise PlanError(
                f"block {name!r} cannot store {width} channels; "
                + (f"give {least} to {most}" if most >= 0 else "its stored width is not free")
            )
        own = slice(graph.offsets[number[name]], graph.offsets[number[name] + 1])
        dropped = np.flatnonzero(~stored[own])
        strongest = dropped[np.argsort(-scores[own][dropped], kind="stable")][: width - least]
        if len(strongest):
            before = padding.get(name, np.zeros(0, dtype=np.int64))
            padding[name] = np.sort(np.concatenate([before, strongest]))
    return replace(masked, padding=padding)


def group_norms(graph: Graph) -> np.ndarray:
    """Squared L2 norm of all weights that read a channel; float, numbered as in `Graph.offsets`."""
    norms = np.zeros(graph.offsets[-1])
    for read in (*graph.reads, *graph.grouped):
        channels = graph.numbers(replace(read.input, size=1))
        squares = np.tile(column_norms(graph, read.weight) ** 2, read.groups).reshape(len(channels), -1).sum(axis=1)
        np.add.at(norms, channels, squares)
    return norms


def summary(masked: MaskedGraph) -> str:
    """What is stored, in one line: ``stored: 1535 of 1536 channels, 15 of them to align``."""
    total, added = sum(block.size for block in masked.graph.blocks), sum(map(len, masked.padding.values()))
    aligned = f", {added} of them to align" if added else ""
    return f"stored: {int(masked.stored.sum())} of {total} channels{aligned}"
