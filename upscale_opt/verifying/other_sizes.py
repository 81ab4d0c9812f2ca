"""Inputs of another image size, to check that an export holds for sizes that its trace did not ask about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from upscale_opt.arguments.modes import EXPORT
from upscale_opt.models.nested import map_tensors, nested_tensors
from upscale_opt.models.outputs import clones, relative_error, tensors
from upscale_opt.models.preservation import Preservation
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.meta_shapes import run_on
from upscale_opt.tracing.validity import HEIGHT, WIDTH
from upscale_opt.verifying.randomisation import random_inputs
from upscale_opt.verifying.starts import TOLERANCE, as_compared


def difference_at_another_size(
    graph: Graph, masked: nn.Module, module: nn.Module, inputs: tuple[Any, ...], seed: int
) -> str | None:
    """Compare an export with the masked model at another image size, if the trace says that it holds there, too.

    Parameters
    ----------
    graph
        The trace.
    masked, module
        The masked model and the export, in float64.
    inputs
        Inputs of the usual size.
    seed
        Seed of the other inputs.

    Returns
    -------
    str or None
        What is wrong, in one sentence. None if nothing is wrong, or if the trace settled nothing.
    """
    others = at_another_size(graph, inputs, torch.Generator().manual_seed(seed))
    if others is None:
        return None
    try:
        expected = _outputs(masked, others)
    except Exception:  # the network itself does not accept this size
        return None
    exported = _outputs(module, others)
    same = len(exported) == len(expected)
    if same and all(relative_error(a, b) <= TOLERANCE for a, b in zip(exported, expected, strict=True)):
        return None
    sizes = ", ".join(str(tuple(x.shape)) for x in nested_tensors(others))
    return f"outputs agree for inputs of the example's shape, but not for inputs of shape {sizes}"


def _outputs(module: nn.Module, inputs: tuple[Any, ...]) -> list[torch.Tensor]:
    with torch.no_grad(), Preservation(module), as_compared():
        return [y.clone() for y in tensors(module(*clones(inputs)))]


def at_another_size(graph: Graph, inputs: tuple[Any, ...], generator: torch.Generator) -> tuple[Any, ...] | None:
    """Return random inputs of half the image size, or of twice the size if the network does not accept half of it.

    Parameters
    ----------
    graph
        The trace.
    inputs
        Inputs of the usual size.
    generator
        Source of randomness, on the CPU.

    Returns
    -------
    tuple or None
        None if the trace settled no sizes, or if it does not hold for other image sizes. `torch.export` may have
        settled sizes without a word.
    """
    if not (graph.settled or graph.front_end == EXPORT) or not {HEIGHT, WIDTH} <= set(graph.validity.free):
        return None
    for scaled in (lambda n: n // 2, lambda n: 2 * n):
        changed: tuple[Any, ...] = map_tensors(_with_image_size(scaled), inputs)
        if run_on(graph.module, changed)[1] is None:
            return random_inputs(changed, generator, batch=None)
    return None


def _with_image_size(scaled: Callable[[int], int]) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(x: torch.Tensor) -> torch.Tensor:
        if x.ndim < 3:
            return x
        index = tuple(torch.arange(scaled(n), device=x.device) % n for n in x.shape[2:])
        place: Any = (slice(None), slice(None), *torch.meshgrid(*index, indexing="ij"))
        return x[place]

    return change
