"""How outputs differ: between two samples (they must, or a comparison proves nothing), and per node, for messages."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.regions import unwound
from upscale_opt.models.double_precision import in_double_precision
from upscale_opt.models.outputs import clones, tensors
from upscale_opt.models.preservation import Preservation
from upscale_opt.verifying.randomisation import random_inputs
from upscale_opt.verifying.starts import as_compared


def variation_of(outputs: list[torch.Tensor], num_draws: int) -> float:
    """Difference between the outputs of two samples of one draw, or of two draws, relative to the largest output.

    It is infinite if two draws give outputs of different shapes.
    """
    if num_draws == 2:
        half = len(outputs) // 2
        if any(a.shape != b.shape for a, b in zip(outputs[:half], outputs[half:], strict=True)):
            return float("inf")
        pairs = [(a, b) for a, b in zip(outputs[:half], outputs[half:], strict=True) if a.shape == b.shape]
    else:
        pairs = [(y[:1], y[1:2]) for y in outputs if y.ndim > 0 and y.shape[0] == 2]
    sizes = [max(float(a.abs().max()), float(b.abs().max())) if a.numel() else 0.0 for a, b in pairs]
    return max(
        (float((a - b).abs().max()) / size for (a, b), size in zip(pairs, sizes, strict=True) if size > 0), default=0.0
    )


def variation_of_draws(masked: nn.Module, inputs: tuple[Any, ...], first: list[torch.Tensor], seed: int) -> float:
    """Difference between two draws of the inputs, for outputs whose first axis has no samples. `first` is one draw."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), Preservation(masked), as_compared():
        other = tensors(masked(*random_inputs(inputs, generator, batch=None)))
    return variation_of([*first, *other], 2) if len(first) == len(other) else float("inf")


def outputs_by_node(module: fx.GraphModule, inputs: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    """Tensor output of every node, by node name."""
    outputs: dict[str, torch.Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, torch.Tensor):
                outputs[n.name] = result.clone()
            return result

    with torch.no_grad(), in_double_precision(), unwound():
        Recorder(module).run(*clones(inputs))
    return outputs
