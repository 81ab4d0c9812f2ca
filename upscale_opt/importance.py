"""How much the input channels of a weight matter: the norms of its columns, which every kind of mask ranks by."""

from __future__ import annotations

import numpy as np
import torch

from upscale_opt.attributes import attribute_of
from upscale_opt.graphs import Graph

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
        Of the norm. `LARGEST`, the largest magnitude, tells what is zero: a sum of squares of tiny weights is, too.

    Returns
    -------
    ndarray
        float64, shape (length of the mask,).
    """
    tensor = attribute_of(graph.module, weight).detach()
    columns = tensor.to(torch.float32) if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    dims = tuple(d for d in range(tensor.ndim) if d != graph.consumers[weight].input_axis)
    return torch.linalg.vector_norm(columns, order, dim=dims).double().cpu().numpy()


def num_inputs(graph: Graph, weight: str) -> int:
    """Length of a consumer's mask."""
    return attribute_of(graph.module, weight).shape[graph.consumers[weight].input_axis]
