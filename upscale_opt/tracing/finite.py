"""Networks whose weights are no numbers: said before anything is ranked, solved or compared.

A NaN in a weight makes every norm of its slices NaN, every output, and every error between two outputs.
"""

from __future__ import annotations

import math

import torch

from upscale_opt.errors import ModelError
from upscale_opt.models.attributes import named_tensors
from upscale_opt.tracing.graphs import Graph


def require_finite(graph: Graph) -> None:
    """Refuse a network with NaN in a parameter or buffer, or with an infinite weight or statistic.

    Infinite entries of tensors that are not trained and do not follow channels, such as masks in attention, are
    fine. Tensors without values, on the meta device, are not looked at.

    Parameters
    ----------
    graph
        The traced model.

    Raises
    ------
    ModelError
        The message names the first such tensor, and how many of its entries are no finite numbers.
    """
    following = graph.parameters.keys() | graph.consumers.keys()
    seen: set[int] = set()
    for name, tensor in named_tensors(graph.module):
        if id(tensor) in seen or not _has_values(tensor):
            continue
        seen.add(id(tensor))
        values = tensor.detach()
        if math.isfinite(_sum(values)):
            continue  # no entry of a finite sum is infinite
        num_nan = int(values.isnan().sum())
        num_infinite = int(values.isinf().sum()) if tensor.requires_grad or name in following else 0
        if num_nan or num_infinite:
            kind = "NaN" if num_nan else "infinite"
            raise ModelError(
                f"{name} is not finite: {num_nan or num_infinite} of its {values.numel()} entries are {kind}; "
                "load weights that are numbers"
            )


def _has_values(tensor: torch.Tensor) -> bool:
    """Whether there is something to look at: no integers, no quantised or sparse tensors, nothing on meta."""
    floating = tensor.is_floating_point() or tensor.is_complex()
    return floating and not tensor.is_meta and tensor.layout is torch.strided and tensor.numel() > 0


def _sum(values: torch.Tensor) -> float:
    """The sum of all entries in a type that does not overflow soon; of complex ones, of both parts."""
    parts = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
    return float(parts.sum(dtype=torch.float64 if parts.dtype is torch.float64 else torch.float32))
