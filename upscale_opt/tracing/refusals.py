"""Sentences about networks that cannot be traced: what the cause is, where, and what to do about it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from upscale_opt.capture.proxies import Untraceable
from upscale_opt.capture.settled import NeedsValueError
from upscale_opt.capture.source_lines import place_of_error
from upscale_opt.errors import ModelError, first_line
from upscale_opt.models.nested import map_tensors, nested_tensors

_REMEDY = "move these lines into a module of their own, which is then left as it is"


def explained(error: Exception, model: nn.Module, inputs: tuple[Any, ...]) -> ModelError:
    """Return the error to raise about a network whose trace has failed.

    Parameters
    ----------
    error
        What the trace raised.
    model, inputs
        The network, and the example inputs.
    """
    name = type(model).__name__
    if isinstance(error, NeedsValueError):
        return ModelError(
            f"the forward of {name} needs {error}; {_REMEDY}, or compute both cases and choose with torch.where"
        )
    if isinstance(error, Untraceable):
        return ModelError(
            f"{name} cannot be traced: {error}; move that into a module of its own, which is then left as it is"
        )
    place = place_of_error(error)
    where = f" in {place}" if place is not None else ""
    if _rejects(model, inputs, error):
        given = ", ".join(str(tuple(x.shape)) for x in nested_tensors(inputs))
        return ModelError(
            f"the network rejects inputs of shape {given} ({first_line(error)}{where}); give inputs that it accepts"
        )
    kind = "" if first_line(error) == type(error).__name__ else f"{type(error).__name__}: "
    return ModelError(f"{name} cannot be traced ({kind}{first_line(error)}{where}); {_REMEDY}")


def _rejects(model: nn.Module, inputs: tuple[Any, ...], error: Exception) -> bool:
    """Whether the network itself raises the same error for these inputs."""
    named = (*model.named_parameters(), *model.named_buffers())
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
    try:
        with torch.no_grad(), torch.device("meta"):
            torch.func.functional_call(model, state, map_tensors(lambda x: x.to("meta"), inputs))
    except Exception as own:
        return (type(own), first_line(own)) == (type(error), first_line(error))
    return False
