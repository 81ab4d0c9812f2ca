"""Refuses networks with NaN or infinite weights, before any ranking, solving or comparison.

A NaN in a weight makes norms of its slices NaN. It also makes outputs NaN, and errors between outputs.
"""

from __future__ import annotations

import math

import torch

from upscale_opt.errors import ModelError
from upscale_opt.models.attributes import named_tensors
from upscale_opt.tracing.graphs import Graph


def require_finite(graph: Graph) -> None:
    """Refuse a network with NaN in a parameter or buffer, or with an infinite weight or statistic.

    Infinite entries are allowed in tensors that are not trained and do not follow channels, such as masks in attention.
    Tensors on the meta device have no values and are not checked.

    Parameters
    ----------
    graph
        The traced model.

    Raises
    ------
    ModelError
        If there is such a tensor. The message names the first one, and the number of its NaN or infinite entries.
    """
    following = graph.parameters.keys() | graph.consumers.keys()
    seen: set[int] = set()
    for name, tensor in named_tensors(graph.module):
        if id(tensor) in seen or not _has_values(tensor):
            continue
        seen.add(id(tensor))
        values = tensor.detach()
        if math.isfinite(_sum(values)):
            continue  # if the sum is finite, every entry is finite
        num_nan = int(values.isnan().sum())
        num_infinite = int(values.isinf().sum()) if tensor.requires_grad or name in following else 0
        if num_nan or num_infinite:
            kind = "NaN" if num_nan else "infinite"
            raise ModelError(
                f"{name} is not finite: {num_nan or num_infinite} of its {values.numel()} entries are {kind}; "
                "load weights without NaN or infinite entries"
            )


def _has_values(tensor: torch.Tensor) -> bool:
    """Whether a tensor has floating-point values to check. Sparse, quantised and meta tensors have none."""
    floating = tensor.is_floating_point() or tensor.is_complex()
    return floating and not tensor.is_meta and tensor.layout is torch.strided and tensor.numel() > 0


def _sum(values: torch.Tensor) -> float:
    """Return the sum of all entries, in at least float32 against overflow. Complex entries count with both parts."""
    parts = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
    return float(parts.sum(dtype=torch.float64 if parts.dtype is torch.float64 else torch.float32))
