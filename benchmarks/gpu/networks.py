"""The masked network of a cell: a model with a precision, a memory format and a batch size, and its masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.gpu.settings import Setting
from upscale_opt import MaskedGraph, ModelReference, effective_masks, l2_masks, load_model, trace
from upscale_opt.models.loading import in_memory_format
from upscale_opt.models.precisions import in_precision
from upscale_opt.planning.padding import padded, rounded_up, summary

AMOUNT = "0.5"
"""Share of its input channels that each consumer drops."""
MULTIPLE = 8
"""Channels: what tensor cores like in half precision."""


@dataclass(frozen=True)
class OrderCell:
    """The conditions under which orders are compared.

    Attributes
    ----------
    network, batch, dtype, memory_format
        The network, its input and its precision.
    aligned
        Whether stored widths are rounded up to multiples of `MULTIPLE` channels.
    """

    network: str
    batch: int
    dtype: str
    memory_format: str
    aligned: bool = False

    def __str__(self) -> str:
        end = ", aligned" if self.aligned else ""
        return f"{self.network} N={self.batch} {self.dtype} {self.memory_format}{end}"


@dataclass(frozen=True, eq=False)
class Masked:
    """A traced network with masks.

    Attributes
    ----------
    model, x, masked
        The network, its input, and its trace with a mask per consumer.
    notes
        Notes for the report.
    """

    model: nn.Module
    x: torch.Tensor
    masked: MaskedGraph
    notes: tuple[str, ...]


def masked(cell: OrderCell, setting: Setting) -> Masked:
    """The network of a cell, with random weights of seed 0 and L2 masks."""
    shape = (setting.batch_of(cell.batch), 3, setting.image, setting.image)
    reference = ModelReference(setting.networks[cell.network], seed=0, input_shape=shape)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(setting.device)
    model = load_model(reference).to(setting.device)
    x = in_memory_format(cell.memory_format, x, model)
    model, x, notes = in_precision(model, x, cell.dtype, random_weights=True)
    graph = trace(model, x)
    found = effective_masks(graph, l2_masks(graph, AMOUNT))
    if cell.aligned:
        found = padded(found, rounded_up(found, MULTIPLE))
        notes = (*notes, summary(found))
    return Masked(model, x, found, notes)
