"""Finds the shapes of all tensors of a traced model with meta tensors. Only operators that need values are computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_map_only

from upscale_opt.capture.known_values import KnownValues
from upscale_opt.capture.regions import unwound
from upscale_opt.errors import ModelError, first_line
from upscale_opt.models.attributes import named_tensors
from upscale_opt.operators.elementwise import elementwise
from upscale_opt.operators.table import MODULE_RULES

Shapes = dict[str, Any]


def shapes_of(
    traced: fx.GraphModule, inputs: tuple[Any, ...], known: KnownValues | None = None
) -> tuple[Shapes, Shapes]:
    """Return the shapes of all nodes' outputs: first for the given inputs, second for a batch of at least two samples.

    The shape is None if a node computes no tensor. If it computes several tensors, their shapes are under the node's
    name with ``:parts``. With one sample, an axis that is merged with the batch could not be told from another axis.
    With two samples it can. If the network accepts only the given batch, both results are the same.

    Raises
    ------
    ModelError
        If the network rejects the shapes of the inputs.
    """
    on_meta = tuple(x.to("meta") if isinstance(x, torch.Tensor) else x for x in inputs)
    try:
        shapes = _run(traced, known, on_meta)
    except Exception as error:
        given = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, torch.Tensor))
        raise ModelError(
            f"the network rejects inputs of shape {given} ({first_line(error)}); choose another input shape"
        ) from error
    tensors = [x for x in on_meta if isinstance(x, torch.Tensor)]
    if not tensors or any(x.ndim < 2 or x.shape[0] != 1 for x in tensors):
        return shapes, shapes
    pair = tuple(x.expand(2, *x.shape[1:]) if isinstance(x, torch.Tensor) else x for x in on_meta)
    try:
        return shapes, _run(traced, known, pair)
    except Exception:
        return shapes, shapes


def _run(traced: fx.GraphModule, known: KnownValues | None, on_meta: tuple[Any, ...]) -> Shapes:
    recorder = _ShapeRecorder(traced, known)
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*recorder.named_parameters(), *recorder.named_buffers())
    }
    with torch.no_grad(), torch.device("meta"), unwound():
        torch.func.functional_call(recorder, state, on_meta)
    return recorder.shapes


class _ShapeRecorder(nn.Module):
    """Runs a traced module node by node and records the shapes of all tensors."""

    def __init__(self, traced: fx.GraphModule, known: KnownValues | None) -> None:
        super().__init__()
        self.traced = traced
        self.known = known
        self.own = dict(named_tensors(self.traced))
        self.shapes: Shapes = {}

    def forward(self, *inputs: Any) -> None:
        recorder = self

        class Recorder(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                try:
                    result = super().run_node(n)
                except Exception:
                    # The shape of a tensor computed from buffers may depend on their values.
                    if recorder.known is None or not recorder.known.has(n):
                        raise
                    result = tree_map_only(torch.Tensor, _on_meta, recorder.known.value(n))
                recorder.shapes[n.name] = tuple(result.shape) if isinstance(result, torch.Tensor) else None
                if isinstance(result, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in result):
                    recorder.shapes[f"{n.name}:parts"] = tuple(tuple(part.shape) for part in result)
                return result

            def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                # Meta kernels of normalisations are slow. A module that keeps the shape need not run.
                module = self.fetch_attr(str(target))
                if len(args) == 1 and not kwargs and _keeps_shape(module, args[0]):
                    return args[0]
                try:
                    return super().call_module(target, args, kwargs)
                except Exception:
                    if type(module).__module__.startswith("torch.nn"):
                        raise
                    # A module that was kept whole may need values. Any values will do.
                    return recorder.run_for_real(str(target), args, kwargs)

        interpreter = Recorder(self.traced)
        interpreter.extra_traceback = False
        interpreter.run(*inputs)

    def run_for_real(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one module on random inputs, with its real parameters and buffers, to find the shapes of its results."""
        inside = {name: own for name, own in self.own.items() if name.startswith(f"{path}.")}
        state = {name.removeprefix(f"{path}."): own for name, own in inside.items()}
        device = next((own.device for own in self.own.values()), torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)

        def drawn(x: torch.Tensor) -> torch.Tensor:
            values = torch.zeros(x.shape)
            return (values.normal_(generator=generator) if x.is_floating_point() else values).to(device, x.dtype)

        with torch.device(device):
            given, named = tree_map_only(torch.Tensor, drawn, (args, kwargs))
            result = torch.func.functional_call(self.traced.get_submodule(path), state, given, named)
        return tree_map_only(torch.Tensor, _on_meta, result)


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("meta")


def _keeps_shape(module: nn.Module, x: Any) -> bool:
    """Whether a module is known to accept `x` and to return a tensor of the same shape."""
    if not isinstance(x, torch.Tensor) or module._forward_hooks or module._forward_pre_hooks:
        return False
    return MODULE_RULES.get(type(module)) is elementwise or (
        isinstance(module, nn.BatchNorm2d) and x.ndim == 4 and x.shape[1] == module.num_features
    )
