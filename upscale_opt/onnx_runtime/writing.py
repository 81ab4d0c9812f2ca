"""Writes a module as an ONNX model in memory, for the shapes of its inputs.

The TorchScript-based exporter is used if it can be: it takes 6 to 11 ms for a single consumer and 0.9 s for
MobileNetV2, the exporter on `torch.export` 650 ms and 17 s. ONNX Runtime makes the same convolutions and reorders of
both (a test compares them). What TorchScript cannot trace is exported by `torch.export`,
and so is what it traces wrongly: a write into a view, for instance. Additions to ranges are written as padded ones,
as in saved files.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from upscale_opt.errors import first_line
from upscale_opt.models.outputs import clones, relative_error, tensors
from upscale_opt.modules.writes import padded_writes
from upscale_opt.onnx_runtime.requirements import INPUT, NAME, OnnxError, require_inputs
from upscale_opt.onnx_runtime.sessions import bound

TOLERANCE = 1e-2
"""Largest relative error of a written network's outputs: enough to tell another computation from another rounding."""


def written(
    module: nn.Module, inputs: Sequence[Any], outputs: Sequence[str] | None = None, *, verify: bool = True
) -> bytes:
    """Write a module as an ONNX model for inputs of these shapes.

    Parameters
    ----------
    module
        The module in eval mode, on the CPU. It is not changed. A TorchScript module may be written as well.
    inputs
        Its positional inputs.
    outputs
        Names of the outputs.
    verify
        Run the model once, and compare its outputs with the module's.

    Raises
    ------
    ModelError
        If the inputs do not suit ONNX Runtime (`require_inputs`).
    OnnxError
        If no exporter of torch can write the module, or what they write computes something else.
    """
    inputs = tuple(inputs)
    require_inputs(inputs, module)
    names = [f"{INPUT}{i}" for i in range(sum(isinstance(x, torch.Tensor) for x in tree_leaves(inputs)))]
    how: dict[str, Any] = {"input_names": names, "output_names": None if outputs is None else list(outputs)}
    own = copy.deepcopy(module)
    with warnings.catch_warnings(), torch.no_grad(), padded_writes(own):
        warnings.simplefilter("ignore")  # the exporter is deprecated; both warn about constants of the trace
        if not all(isinstance(x, torch.Tensor) for x in inputs):
            own = _OfTensors(own, inputs)
            inputs = tuple(x for x in tree_leaves(inputs) if isinstance(x, torch.Tensor))
        expected = tensors(copy.deepcopy(own)(*clones(inputs))) if verify else None
        try:
            return _same(_by_tracing(own, clones(inputs), how), inputs, expected)
        except Exception as error:
            if isinstance(module, torch.jit.ScriptModule):
                raise OnnxError(_refusal(error)) from error
        try:
            return _same(_by_export(own, clones(inputs), how), inputs, expected)
        except Exception as error:
            raise OnnxError(_refusal(error)) from error


class _OfTensors(nn.Module):
    """A module whose inputs are the tensors among the leaves of its real inputs. All other leaves are constant."""

    def __init__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        super().__init__()
        self.module = module
        leaves, self.structure = tree_flatten(inputs)
        self.leaves = [None if isinstance(x, torch.Tensor) else (x,) for x in leaves]
        self.train(module.training)

    def forward(self, *tensors: torch.Tensor) -> Any:
        """The module's output."""
        waiting = iter(tensors)
        leaves = [next(waiting) if constant is None else constant[0] for constant in self.leaves]
        return self.module(*tree_unflatten(leaves, self.structure))


def _same(content: bytes, inputs: tuple[Any, ...], expected: list[torch.Tensor] | None) -> bytes:
    """The model itself, if it computes what is expected."""
    if expected is not None:
        found = tensors(bound(content, inputs)())
        errors = [relative_error(a.double(), b.double()) for a, b in zip(found, expected, strict=True)]
        worst = max(errors, default=0.0)
        if not worst <= TOLERANCE:
            raise OnnxError(f"what it writes computes something else, relative error {worst:.1e}")
    return content


def _refusal(error: Exception) -> str:
    return f"torch cannot write this network as ONNX ({first_line(error)}); choose another backend than {NAME}"


def _by_tracing(module: nn.Module, inputs: tuple[Any, ...], how: dict[str, Any]) -> bytes:
    """By the TorchScript-based exporter. Normalisations stay, so that weights keep their names."""
    buffer: Any = io.BytesIO()
    torch.onnx.export(module, inputs, buffer, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, **how)
    return buffer.getvalue()


def _by_export(module: nn.Module, inputs: tuple[Any, ...], how: dict[str, Any]) -> bytes:
    program = torch.onnx.export(module, inputs, dynamo=True, external_data=False, verbose=False, **how)
    assert program is not None
    return program.model_proto.SerializeToString()
