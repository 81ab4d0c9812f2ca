"""Random masks, one function per mode of pruning: (graph, amount, rng) to masks of all consumers and of producers.

Random scores are harder than norms of weights: no two masks agree more than chance has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from upscale_opt import Graph, effective_masks
from upscale_opt.amounts import num_removed
from upscale_opt.attributes import attribute_of
from upscale_opt.constrained import constrained_masks
from upscale_opt.masks import Masks
from upscale_opt.output_masks import maskable_producers

Sides = tuple[Masks, Masks]
"""Masks of consumers' inputs and of producers' outputs, by weight name."""


def input_side(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """Every consumer drops its own random input channels; those that read the network input keep all."""
    masks = {
        weight: _random_mask(attribute_of(graph.module, weight).shape[read.input_axis], amount, rng)
        for weight, read in graph.consumers.items()
        if not read.reads_network_input
    }
    return effective_masks(graph, masks).masks, {}


def constrained(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """All consumers of a channel keep it or none does; the ranking by norms is as random as the weights are."""
    return constrained_masks(graph, amount), {}


def output_side(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """Every convolution whose outputs may be masked drops its own random output channels."""
    outputs = {
        weight: _random_mask(sum(graph.blocks[b].size for b in write.layout.blocks), amount, rng)
        for weight, write in maskable_producers(graph).items()
    }
    return effective_masks(graph).masks, outputs


def both_sides(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """Consumers and producers drop channels, each its own."""
    return input_side(graph, amount, rng)[0], output_side(graph, amount, rng)[1]


MODES: Mapping[str, Callable[[Graph, float | str, np.random.Generator], Sides]] = {
    "input": input_side,
    "constrained": constrained,
    "output": output_side,
    "both": both_sides,
}
"""Mode of pruning to the function that makes its masks."""


def _random_mask(length: int, amount: float | str, rng: np.random.Generator) -> np.ndarray:
    mask = np.ones(length, dtype=bool)
    mask[np.argsort(rng.random(length))[: num_removed(amount, length)]] = False
    return mask
