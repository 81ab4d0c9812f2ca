"""The channels of a tensor that an export stores, by the orders of a plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from problems.bundles import permuted_slots
from upscale_opt.planning.plans import Plan
from upscale_opt.tracing.graphs import Graph, TensorLayout


def stored_positions(graph: Graph, plan: Plan, layout: TensorLayout) -> np.ndarray:
    """The entries of a tensor's channel axis that an export stores, in stored order; int64, in entries."""
    return entries(stored_channels(graph, plan, layout), layout.size)


def stored_channels(graph: Graph, plan: Plan, layout: TensorLayout) -> np.ndarray:
    """The channels of a tensor that an export stores, in stored order; int64, in original positions."""
    sizes = [graph.blocks[b].size for b in layout.blocks]
    offsets = np.cumsum(sizes) - sizes
    names = [graph.blocks[b].name for b in layout.blocks]
    slots: Sequence[int] = range(len(names))
    if plan.places:
        label = {name: k for k, name in enumerate(dict.fromkeys(names))}
        occupant = np.array([label[plan.places.get(name, name)] for name in label])
        slots = permuted_slots([label[name] for name in names], occupant).tolist()
    return np.concatenate([plan.orders[names[slot]] + offsets[slot] for slot in slots])


def entries(channels: np.ndarray, size: int) -> np.ndarray:
    """The entries of an axis that belong to the given channels: `size` consecutive entries per channel.

    Examples
    --------
    >>> entries(np.array([2, 0]), 2).tolist()
    [4, 5, 0, 1]
    """
    return (channels[:, np.newaxis] * size + np.arange(size)).ravel()
