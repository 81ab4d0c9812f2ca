"""Helpers to run models: their device, training and eval mode, and new estimates of BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's parameters, or the CPU if it has none."""
    parameter = next(model.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


@contextmanager
def in_modes(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model into training or eval mode. At the end of the context, every module gets its own mode back."""
    modes = [(own, own.training) for own in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for own, mode in modes:
            own.training = mode


def reestimate_batch_norm(model: nn.Module, batches: Iterable[tuple[torch.Tensor, ...]]) -> None:
    """Replace the running statistics of every BatchNorm by means over the batches, in place.

    Nothing else is changed, and all other modules run in eval mode. Use this after weights were changed without
    training, for example combined or pruned.

    Parameters
    ----------
    model
        The model.
    batches
        Tuples of the network's inputs, on any device. All batches have the same weight in the mean.
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
