"""The slices of a weight, one per channel, and their norms."""

from __future__ import annotations

import numpy as np
import torch

from upscale_opt.arguments.modes import INPUT
from upscale_opt.models.attributes import attribute_of
from upscale_opt.tracing.graphs import Graph

LARGEST = float("inf")


def column_norms(graph: Graph, weight: str, *, order: float = 2) -> np.ndarray:
    """Norm of every input channel (input feature for a linear layer) of a weight.

    Parameters
    ----------
    graph
        The traced model.
    weight
        Name of a consumer's weight.
    order
        Order of the norm. Use `LARGEST` (the largest magnitude) to find zero slices: for tiny weights, a sum of squares
        can be zero too.

    Returns
    -------
    ndarray
        float64, shape (length of the mask,).
    """
    return slice_norms(graph, weight, INPUT, order=order)


def slice_norms(graph: Graph, weight: str, side: str, *, order: float = 2) -> np.ndarray:
    """Norm of every slice of a weight, computed in float32, or in the weight's type if that is wider.

    Parameters
    ----------
    graph
        The traced model.
    weight
        Name of a consumer's weight.
    side
        ``input``: a slice multiplies one input channel. ``output``: a slice computes one output channel.
    order
        Order of the norm.

    Returns
    -------
    ndarray
        float64, shape (channels,).
    """
    tensor = attribute_of(graph.module, weight).detach()
    slices = tensor.to(torch.float32) if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    dims = tuple(d for d in range(tensor.ndim) if d != channel_axis(graph, weight, side))
    return torch.linalg.vector_norm(slices, order, dim=dims).double().cpu().numpy()


def slices_of(graph: Graph, weight: str, side: str, tensor: torch.Tensor | None = None) -> torch.Tensor:
    """A tensor of a weight's shape as a matrix with one row per channel.

    Parameters
    ----------
    graph
        The traced model.
    weight
        Name of a consumer's weight.
    side
        ``input`` or ``output``.
    tensor
        A tensor of the weight's shape. Default: the weight.

    Returns
    -------
    Tensor
        float64, shape (channels, elements of a slice), without gradient.
    """
    tensor = attribute_of(graph.module, weight) if tensor is None else tensor
    return tensor.detach().double().movedim(channel_axis(graph, weight, side), 0).flatten(1)


def channel_axis(graph: Graph, weight: str, side: str) -> int:
    """The dimension of a weight that holds its input or output channels."""
    axis = graph.consumers[weight].input_axis
    return axis if side == INPUT else 1 - axis


def num_channels(graph: Graph, weight: str, side: str) -> int:
    """Number of channels of a weight on a side."""
    return attribute_of(graph.module, weight).shape[channel_axis(graph, weight, side)]


def num_inputs(graph: Graph, weight: str) -> int:
    """Length of a consumer's mask."""
    return num_channels(graph, weight, INPUT)
