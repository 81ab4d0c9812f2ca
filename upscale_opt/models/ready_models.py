"""Loads a model and makes an input for it: on a device, in a memory format, in a precision."""

from __future__ import annotations

from typing import Any

import torch

from upscale_opt.errors import ModelError
from upscale_opt.models.loading import has_random_weights, in_memory_format, load_model
from upscale_opt.models.precisions import in_precision, settle
from upscale_opt.models.references import ModelReference
from upscale_opt.models.torch_prune import is_pruned
from upscale_opt.models.weight_parametrisations import PRUNE, computed_weights, plain_weights


def load_model_and_input(
    reference: ModelReference, device: str, memory_format: str = "contiguous", precision: str | None = None
) -> tuple[Any, Any, tuple[str, ...]]:
    """Load the model and make a random input, on the device and in a memory format. Also returns notes on the model.

    Both are in the given precision (`upscale_opt.models.precisions`). Default: float32, as torch computes it on the
    device by default. Pruning by `torch.nn.utils.prune` is made permanent. Weights that are computed at every call
    become plain weights.
    """
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"there is no device {device!r}; choose cpu, cuda or cuda:N") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} is not available here; choose cpu")
    if precision is not None:
        settle(precision, where)
    try:
        x = torch.randn(reference.input_shape, generator=torch.Generator().manual_seed(reference.seed))
    except (RuntimeError, MemoryError) as error:
        shape = ",".join(map(str, reference.input_shape))
        raise ModelError(f"there is not enough memory for an input of shape {shape}; choose a smaller one") from error
    network = load_model(reference)
    notes: tuple[str, ...] = ()
    if is_pruned(network):
        notes = ("the model is pruned by torch.nn.utils.prune, which is made permanent; its zeros count as masks",)
    computed = computed_weights(network)
    if computed:
        network = plain_weights(network)
    others = [own for own in computed if own != PRUNE]
    if others:
        notes = (*notes, f"weights of the model are computed at every call ({', '.join(others)}); they are made plain")
    network = network.to(where)
    x = in_memory_format(memory_format, x.to(where), network)
    if precision is not None:
        random_weights = has_random_weights(reference)
        network, x, remarks = in_precision(network, x, precision, random_weights=random_weights)
        notes = (*notes, *remarks)
    return network, x, notes
