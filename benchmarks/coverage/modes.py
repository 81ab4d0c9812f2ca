"""Random masks, one function per mode of pruning: (graph, amount, rng) to masks.

Random scores are harder than norms of weights: no two consumers agree more than chance has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from upscale_opt import Graph
from upscale_opt.amounts import num_removed
from upscale_opt.flow import attribute_of
from upscale_opt.masks import Masks


def input_masks(graph: Graph, amount: float | str, rng: np.random.Generator) -> Masks:
    """Every consumer drops its own random input channels; those that read the network input keep all."""
    masks = {}
    for weight, read in graph.consumers.items():
        if not read.reads_network_input:
            num_inputs = attribute_of(graph.module, weight).shape[read.input_axis]
            weakest = np.argsort(rng.random(num_inputs))[: num_removed(amount, num_inputs)]
            masks[weight] = np.ones(num_inputs, dtype=bool)
            masks[weight][weakest] = False
    return masks


MODES: Mapping[str, Callable[[Graph, float | str, np.random.Generator], Masks]] = {"input": input_masks}
"""Mode of pruning to the function that makes its masks."""
