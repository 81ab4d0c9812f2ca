"""Shapes of all tensors of a traced model, from meta tensors: nothing is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from upscale_opt.errors import ModelError
from upscale_opt.operators.elementwise import elementwise
from upscale_opt.operators.table import MODULE_RULES
from upscale_opt.regions import unwound

Shapes = dict[str, Any]


def shapes_of(traced: fx.GraphModule, inputs: tuple[Any, ...]) -> tuple[Shapes, Shapes]:
    """Shape of every node's output: for the inputs as given, and for a batch of at least two.

    None where a node computes no tensor. The shapes of several tensors are under the node's name with ``:parts``.
    With two samples no axis that a batch is merged into can be taken for another one; a network that only accepts the
    batch it is given has the same shapes twice.

    Raises
    ------
    ModelError
        If the network rejects the shapes of the inputs.
    """
    on_meta = tuple(x.to("meta") if isinstance(x, torch.Tensor) else x for x in inputs)
    try:
        shapes = _run(traced, on_meta)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError) as error:
        given = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, torch.Tensor))
        raise ModelError(
            f"the network rejects inputs of shape {given} ({first_line(error)}); choose another input shape"
        ) from error
    tensors = [x for x in on_meta if isinstance(x, torch.Tensor)]
    if not tensors or any(x.ndim < 2 or x.shape[0] != 1 for x in tensors):
        return shapes, shapes
    pair = tuple(x.expand(2, *x.shape[1:]) if isinstance(x, torch.Tensor) else x for x in on_meta)
    try:
        return shapes, _run(traced, pair)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError):
        return shapes, shapes


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _run(traced: fx.GraphModule, on_meta: tuple[Any, ...]) -> Shapes:
    recorder = _ShapeRecorder(traced)
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*recorder.named_parameters(), *recorder.named_buffers())
    }
    with torch.no_grad(), torch.device("meta"), unwound():
        torch.func.functional_call(recorder, state, on_meta)
    return recorder.shapes


class _ShapeRecorder(nn.Module):
    """Runs a traced module node by node and records the shapes of all tensors."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__()
        self.traced = traced
        self.shapes: Shapes = {}

    def forward(self, *inputs: Any) -> None:
        recorder = self

        class Recorder(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                result = super().run_node(n)
                recorder.shapes[n.name] = tuple(result.shape) if isinstance(result, torch.Tensor) else None
                if isinstance(result, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in result):
                    recorder.shapes[f"{n.name}:parts"] = tuple(tuple(part.shape) for part in result)
                return result

            def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                # Meta kernels of normalisations are slow, and what keeps its shape needs none.
                module = self.fetch_attr(str(target))
                if len(args) == 1 and not kwargs and _keeps_shape(module, args[0]):
                    return args[0]
                return super().call_module(target, args, kwargs)

        interpreter = Recorder(self.traced)
        interpreter.extra_traceback = False
        interpreter.run(*inputs)


def _keeps_shape(module: nn.Module, x: Any) -> bool:
    """Whether a module is known to return a tensor of the shape of `x`, and to accept it."""
    if not isinstance(x, torch.Tensor) or module._forward_hooks or module._forward_pre_hooks:
        return False
    return MODULE_RULES.get(type(module)) is elementwise or (
        isinstance(module, nn.BatchNorm2d) and x.ndim == 4 and x.shape[1] == module.num_features
    )
