"""Random masks: one function (graph, amount, rng) per mode. Each returns the masks of all consumers and producers.

If only consumers are masked, their masks are independent. If producers are masked too, all masks are drawn around a
common score per channel. With independent masks at 0.9, nine in ten channels that a consumer keeps would not be
computed. Then the output would not depend on the input, and nothing could be verified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from upscale_opt import Graph, effective_masks
from upscale_opt.arguments.amounts import num_removed
from upscale_opt.masking.constrained import constrained_masks
from upscale_opt.masking.input_masks import Masks
from upscale_opt.masking.output_masks import maskable_producers
from upscale_opt.models.attributes import attribute_of

OWN_SHARE = 0.2
"""Size of the individual part of a consumer's or producer's score, relative to the common part."""

Sides = tuple[Masks, Masks]
"""Masks of consumers' inputs and of producers' outputs, by weight name."""


def input_side(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """Every consumer drops its own random input channels; those that read the network input keep all."""
    masks = {
        weight: _random_mask(rng.random(attribute_of(graph.module, weight).shape[read.input_axis]), amount)
        for weight, read in graph.consumers.items()
        if not read.reads_network_input
    }
    return effective_masks(graph, masks).masks, {}


def constrained(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """All consumers of a channel keep it, or none does. Channels are ranked by norms of random weights."""
    return constrained_masks(graph, amount), {}


def output_side(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """Every convolution whose outputs may be masked drops its own random output channels."""
    return effective_masks(graph).masks, _output_masks(graph, amount, rng, _common_scores(graph, rng))


def both_sides(graph: Graph, amount: float | str, rng: np.random.Generator) -> Sides:
    """Consumers and producers drop their own random channels."""
    common = _common_scores(graph, rng)
    masks = {
        weight: _random_mask(_near(common[graph.numbers(read.input)], rng), amount)
        for weight, read in graph.consumers.items()
        if not read.reads_network_input and not read.takes_all
    }
    return effective_masks(graph, masks).masks, _output_masks(graph, amount, rng, common)


MODES: Mapping[str, Callable[[Graph, float | str, np.random.Generator], Sides]] = {
    "input": input_side,
    "constrained": constrained,
    "output": output_side,
    "both": both_sides,
}
"""Per mode, the function that makes its masks."""


def _output_masks(graph: Graph, amount: float | str, rng: np.random.Generator, common: np.ndarray) -> Masks:
    return {
        weight: _random_mask(_near(common[graph.numbers(write.layout)], rng), amount)
        for weight, write in maskable_producers(graph).items()
    }


def _common_scores(graph: Graph, rng: np.random.Generator) -> np.ndarray:
    """A score per channel of the network, handed on by channel shuffles."""
    common: np.ndarray = rng.random(graph.offsets[-1])
    for selection in graph.selections:
        common[graph.numbers(selection.output)] = common[graph.numbers(selection.input)[selection.index]]
    return common


def _near(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scores of one consumer or producer: the common scores with small changes. All have the same best channel."""
    result: np.ndarray = scores + OWN_SHARE * rng.random(len(scores))
    result[np.argmax(scores)] = np.inf
    return result


def _random_mask(scores: np.ndarray, amount: float | str) -> np.ndarray:
    mask = np.ones(len(scores), dtype=bool)
    mask[np.argsort(scores)[: num_removed(amount, len(scores))]] = False
    return mask
