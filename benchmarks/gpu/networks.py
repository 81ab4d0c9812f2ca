"""The masked network of a cell: a model with a precision, a memory format and a batch size, and its masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.settings import Setting
from upscale_opt import Graph, MaskedGraph, ModelReference, effective_masks, extract, l2_masks, load_model, trace
from upscale_opt.models.loading import in_memory_format
from upscale_opt.models.precisions import in_precision

AMOUNT = "0.5"
"""Share of its input channels that each consumer drops."""


@dataclass(frozen=True)
class OrderCell:
    """The conditions under which orders are compared.

    Attributes
    ----------
    network, batch, dtype, memory_format
        The network, its input and its precision.
    aligned
        Whether masks are changed so that all channels are stored (`aligned`).
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
    masks: Mapping[str, np.ndarray] = effective_masks(graph, l2_masks(graph, AMOUNT)).masks
    if cell.aligned:
        masks, swaps, left = aligned(graph, masks)
        notes = (*notes, f"{swaps} entries of masks swapped, {left} channels still not stored")
    return Masked(model, x, MaskedGraph(graph, masks), notes)


def aligned(graph: Graph, masks: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int, int]:
    """Masks that keep equally many channels, but store as many as possible. So stored widths stay as in the network.

    If all consumers of a block drop a channel, one of them keeps it, and drops a channel that another consumer keeps.

    Returns
    -------
    tuple
        The masks, the number of swapped entries, and the number of channels that all consumers still drop.
    """
    masks = {name: mask.copy() for name, mask in masks.items()}
    swaps = left = 0
    for problem in extract(graph, masks).values():
        for number, block in enumerate(problem.blocks):
            own = [f"{a.name}.weight" for a in problem.accesses if tuple(a.blocks) == (number,)]
            shared = any(number in a.blocks and len(a.blocks) > 1 for a in problem.accesses)
            readers = [masks[name] for name in own if name in masks]
            if block.pinned or not block.removable or shared or len(readers) < 2:
                continue
            counts = np.sum(readers, axis=0)
            for turn, channel in enumerate(np.flatnonzero(counts == 0)):
                reader = readers[turn % len(readers)]
                spare = np.flatnonzero(reader & (counts > 1))
                if not len(spare):
                    left += 1
                    continue
                reader[spare[0]], reader[channel] = False, True
                counts[spare[0]], counts[channel] = counts[spare[0]] - 1, 1
                swaps += 1
    return masks, swaps, left
