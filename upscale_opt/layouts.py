"""Which channels an export stores of a tensor, by the orders of a plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from problems.bundles import permuted_slots
from upscale_opt.graphs import Graph, TensorLayout
from upscale_opt.plans import Plan


def stored_positions(graph: Graph, plan: Plan, layout: TensorLayout) -> np.ndarray:
    """Which entries of a tensor's channel axis an export stores, in stored order; int64, in entries."""
    return entries(stored_channels(graph, plan, layout), layout.size)


def stored_channels(graph: Graph, plan: Plan, layout: TensorLayout) -> np.ndarray:
    """Which channels of a tensor an export stores, in stored order; int64, in original positions."""
    sizes = [graph.blocks[b].size for b in layout.blocks]
    offsets = np.cumsum(sizes) - sizes
    slots: Sequence[int] = range(len(sizes))
    if plan.places:
        slots = permuted_slots(layout.blocks, graph.occupants(plan.places)).tolist()
    orders = [plan.orders[graph.blocks[layout.blocks[slot]].name] + offsets[slot] for slot in slots]
    return np.concatenate(orders)


def entries(channels: np.ndarray, size: int) -> np.ndarray:
    """Entries of an axis that belong to some channels, `size` consecutive ones each.

    Examples
    --------
    >>> entries(np.array([2, 0]), 2).tolist()
    [4, 5, 0, 1]
    """
    return (channels[:, np.newaxis] * size + np.arange(size)).ravel()
