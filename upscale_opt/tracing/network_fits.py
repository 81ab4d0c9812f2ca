"""Checks that a network and its inputs fit a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from upscale_opt.errors import ModelError
from upscale_opt.models.network_checks import require_call, require_values
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.meta_shapes import shapes_of


def require_same_network(model: nn.Module, graph: Graph) -> None:
    """Check that a model is in eval mode and has the parameters of a trace. The trace may be of a copy of the model.

    Raises
    ------
    ModelError
        If the model is in training mode, lacks a parameter, or has a parameter of another shape. Also if the trace has
        a tensor on the meta device.
    """
    if model.training:
        raise ModelError("the model is in training mode; call model.eval() first")
    require_values(graph.module, "the trace")
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in graph.module.named_parameters(remove_duplicate=False):
        if name in graph.constants:
            continue
        if name not in own or own[name].shape != tensor.shape:
            found = f"of shape {tuple(own[name].shape)}" if name in own else "missing"
            raise ModelError(
                f"the model is not the one that was traced: {name!r} is of shape {tuple(tensor.shape)} there and "
                f"{found} here; give the model of the trace, or trace this one"
            )


def require_fitting_inputs(model: nn.Module, graph: Graph, given: torch.Tensor | Sequence[Any]) -> None:
    """Check that a model accepts inputs. Inputs with the shapes of the trace, apart from the batch, always pass.

    Raises
    ------
    ModelError
        If the model needs more inputs, accepts fewer, or rejects their shapes.
    """
    require_call(model, given)
    values = (given,) if isinstance(given, torch.Tensor) else tuple(given)
    known = [graph.shapes[node.name] for node in graph.module.graph.nodes if node.op == "placeholder"]
    found = [tuple(x.shape) if isinstance(x, torch.Tensor) else None for x in values]
    bound = graph.settled and graph.validity.conditions
    if bound or [shape and shape[1:] for shape in known[: len(found)]] != [shape and shape[1:] for shape in found]:
        shapes_of(graph.module, values)
