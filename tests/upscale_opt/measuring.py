"""What tests of measurements share: masked networks, and the least effort that still measures."""

import networks
import numpy as np

from upscale_opt import effective_masks, trace
from upscale_opt.latency.calibration import Effort

QUICK = Effort(spans=2, rounds=2, sweeps=1, seconds=0.0, copies=1)


def masked(network, seed=0, keep=0.5):
    """A network of `networks`, its inputs as a tuple, its graph, and random masks."""
    model, inputs = networks.make(network)
    graph = trace(model, inputs)
    rng = np.random.default_rng(seed)
    sizes = {name: graph.module.get_parameter(name).shape[read.input_axis] for name, read in graph.consumers.items()}
    masks = effective_masks(graph, {name: rng.random(size) < keep for name, size in sizes.items()})
    return model, inputs if isinstance(inputs, tuple) else (inputs,), graph, masks
