"""Sentences about networks that cannot be traced: what the cause is, where, and what to do about it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from upscale_opt.capture.node_runs import BY_VALUE
from upscale_opt.capture.proxies import Untraceable
from upscale_opt.capture.settled import NeedsValueError
from upscale_opt.capture.source_lines import place_of_error
from upscale_opt.capture.tracer import Tracing
from upscale_opt.errors import ModelError, first_line
from upscale_opt.lifting.capture import captured
from upscale_opt.models.nested import map_tensors, nested_tensors

MOST_OF_A_REASON = 160
"""Characters that a message quotes of each reason, if both front ends refuse a network."""
_REMEDY = "move these lines into a module of their own, which is then left as it is"


class RefusedError(ModelError):
    """torch.fx cannot capture a network.

    Attributes
    ----------
    is_of_front_end
        Whether another front end may be able to. None can if the forward decides on values of its input. And
        `torch.export` would lose without a word what `Untraceable` stands for, such as hooks of gradients.
    """

    is_of_front_end = True

    @property
    def reason(self) -> str:
        """The message without the advice."""
        return str(self).partition("; move ")[0]


class _FinalRefusedError(RefusedError):
    is_of_front_end = False


def captured_instead(model: nn.Module, inputs: tuple[Any, ...], refusal: RefusedError) -> Tracing:
    """Capture a network by `torch.export`, because torch.fx has refused it.

    Raises
    ------
    ModelError
        If `torch.export` refuses it, too. The message has both reasons.
    """
    try:
        return captured(model, inputs)
    except ModelError as error:
        raise ModelError(
            f"{_shortened(refusal.reason)}; with front_end='export': {_shortened(str(error))}"
        ) from refusal


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_OF_A_REASON else f"{text[:MOST_OF_A_REASON].rstrip()} ..."


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
        return (_FinalRefusedError if BY_VALUE in str(error) else RefusedError)(
            f"the forward of {name} needs {error}; {_REMEDY}, or compute both cases and choose with torch.where"
        )
    if isinstance(error, Untraceable):
        return _FinalRefusedError(
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
    return RefusedError(f"{name} cannot be traced ({kind}{first_line(error)}{where}); {_REMEDY}")


def unfollowed(error: ModelError, model: nn.Module, inputs: tuple[Any, ...]) -> ModelError:
    """Return the error to raise if a trace fails where its network may not: the network may catch what is raised.

    Parameters
    ----------
    error
        What a run of the trace raised. Its cause is the error of the node.
    model, inputs
        The network, and the example inputs.
    """
    cause = error.__cause__
    if not isinstance(cause, Exception) or _rejects(model, inputs, cause):
        return error
    return RefusedError(
        f"{type(model).__name__} cannot be traced: its forward catches an error ({first_line(cause)}), and a trace "
        f"cannot; {_REMEDY}"
    )


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
