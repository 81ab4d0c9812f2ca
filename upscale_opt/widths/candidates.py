"""Candidate widths, losses per width, and the masks that a choice of widths means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.windows import WindowChoice, window_masks
from upscale_opt.tracing.graphs import Graph
from upscale_opt.widths.operator_groups import Partition

LEAST_SHARE = 0.125
"""Share of a block's channels that always stays: scores of single channels misjudge very narrow blocks."""


def step_of(size: int) -> int:
    """The distance of candidate widths: multiples that devices like, and enough of them in small blocks.

    Examples
    --------
    >>> step_of(512), step_of(32), step_of(12), step_of(3)
    (8, 4, 2, 1)
    """
    return next((step for step in (8, 4, 2) if size >= 8 * step or (step == 2 and size >= 8)), 1)


def step_between(widths: Sequence[int]) -> int:
    """The distance of candidate widths, ascending; the last, all channels, need not be a multiple of it.

    Examples
    --------
    >>> step_between((4, 8, 12, 14)), step_between((4, 14)), step_between((3,))
    (4, 10, 1)
    """
    gaps = [high - low for low, high in pairwise(widths)]
    return min(gaps[:-1] or gaps, default=1)


def candidate_widths(
    graph: Graph, parts: Partition, *, step: int | None = None, least: float = LEAST_SHARE
) -> dict[int, tuple[int, ...]]:
    """Free block to the widths that it may have: multiples of a step from a least width on, and all its channels.

    Parameters
    ----------
    graph, parts
        The traced network and its operator groups.
    step
        Channels. Default: `step_of` the block's size.
    least
        Share of the channels that always stays.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from upscale_opt import trace
    >>> from upscale_opt.widths.operator_groups import partition
    >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()
    >>> graph = trace(network, torch.zeros(1, 3, 8, 8))
    >>> candidate_widths(graph, partition(graph), step=4)
    {1: (4, 8, 12, 16)}
    """
    found = {}
    for b in sorted(parts.free):
        size = graph.blocks[b].size
        own = step or step_of(size)
        lowest = max(own, -(-int(np.ceil(least * size)) // own) * own)
        found[b] = tuple(sorted({*range(min(lowest, size), size, own), size}))
    return found


def losses_at(scores: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """What is lost if only the strongest channels of a block stay: the sum of the others' scores; float64.

    Parameters
    ----------
    scores
        Estimated loss per channel, at least 0.
    widths
        Numbers of channels that stay.

    Examples
    --------
    >>> losses_at(np.array([5.0, 1.0, 3.0]), (1, 2, 3)).tolist()
    [4.0, 1.0, 0.0]
    """
    weakest_first = np.concatenate([[0.0], np.cumsum(np.sort(scores))])
    found: np.ndarray = weakest_first[len(scores) - np.asarray(widths)]
    return found


Widths = Mapping[int, int | WindowChoice]
"""Block number to its width, or to the windows of its accesses. Other blocks keep everything."""


def windows_in(graph: Graph, widths: Widths) -> dict[str, WindowChoice]:
    """The windows of a choice, by block name."""
    return {graph.blocks[b].name: own for b, own in widths.items() if isinstance(own, WindowChoice)}


def masks_of(graph: Graph, scores: Mapping[str, np.ndarray], widths: Mapping[int, int]) -> dict[str, np.ndarray]:
    """Weight name to mask: all readers of a block keep its strongest channels; equal ones in order.

    Parameters
    ----------
    graph
        The traced network.
    scores
        Block name to the score of each channel.
    widths
        Block number to width. Other blocks keep everything.
    """
    kept = np.ones(graph.offsets[-1], dtype=bool)
    for b, width in widths.items():
        order = np.argsort(-scores[graph.blocks[b].name], kind="stable")
        kept[graph.offsets[b] + order[width:]] = False
    # Blocks of convolutions with several groups are never free, so one group's mask holds for all.
    return {
        weight: kept[graph.numbers(read.input).reshape(read.groups, -1)[0]] for weight, read in graph.consumers.items()
    }


def masked_graph_of(graph: Graph, scores: Mapping[str, np.ndarray], widths: Widths) -> MaskedGraph:
    """The masked network of a choice of widths and windows."""
    masks = masks_of(graph, scores, {b: own for b, own in widths.items() if not isinstance(own, WindowChoice)})
    windows = windows_in(graph, widths)
    return window_masks(graph, windows, masks=masks) if windows else MaskedGraph(graph, masks)
