"""How models are run: on which device, in which mode, and with BatchNorm statistics estimated anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are; the CPU if it has none."""
    parameter = next(model.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


@contextmanager
def in_modes(model: nn.Module, *, training: bool) -> Iterator[None]:
    """A model in one mode; afterwards every module is in its own again."""
    modes = [(own, own.training) for own in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for own, mode in modes:
            own.training = mode


def reestimate_batch_norm(model: nn.Module, batches: Iterable[tuple[torch.Tensor, ...]]) -> None:
    """Replace the running statistics of every BatchNorm by means over the batches, in place.

    Everything else is left as it is and runs in eval mode. Needed where weights were changed without training:
    combined, or pruned.

    Parameters
    ----------
    model
        The model.
    batches
        Tuples of the network's inputs, on any device; all batches count alike.
    """
    norms = [own for own in model.modules() if isinstance(own, nn.modules.batchnorm._BatchNorm)]
    norms = [own for own in norms if own.track_running_stats]
    momenta = [own.momentum for own in norms]
    device = device_of(model)
    try:
        with in_modes(model, training=False), torch.no_grad():
            for own in norms:
                own.reset_running_stats()
                own.momentum = None  # a plain mean over the batches
                own.training = True
            for inputs in batches if norms else ():
                model(*(x.to(device) for x in inputs))
    finally:
        for own, momentum in zip(norms, momenta, strict=True):
            own.momentum = momentum
