"""Writes a module as an ONNX model in memory, for the shapes of its inputs; and says what ONNX Runtime cannot run.

The TorchScript-based exporter is used if it can be: it takes 6 to 11 ms for a single consumer and 0.9 s for
MobileNetV2, the exporter on `torch.export` 650 ms and 17 s. ONNX Runtime makes the same convolutions and reorders of
both (a test compares them). What TorchScript cannot trace is exported by `torch.export`.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from upscale_opt.errors import ModelError, first_line
from upscale_opt.models.memory_formats import is_channels_last
from upscale_opt.models.outputs import clones

NAME = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CPU_ONLY = f"the backend {NAME} runs on the CPU only, and this is {{}}; choose another backend"
INPUT = "x"
"""Inputs of the ONNX model are named ``x0``, ``x1``, ... after their place among the tensors of the inputs."""


class OnnxError(ModelError):
    """A network that cannot be written as ONNX, or that ONNX Runtime does not run."""


def require_packages() -> None:
    """Raise an error unless the packages of the extra are installed.

    Raises
    ------
    ModelError
        If one is missing. The message says how to install it.
    """
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelError(f"the backend {NAME} needs {' and '.join(missing)}: pip install -e '.[onnx]'")


def version() -> str:
    """Name and version of the runtime, such as ``onnxruntime 1.22.0``."""
    require_packages()
    import onnxruntime

    return f"{NAME} {onnxruntime.__version__}"


def require_inputs(inputs: Sequence[Any], module: nn.Module | None = None) -> None:
    """Raise an error unless ONNX Runtime can take these inputs, and the values of the module, as they are.

    Raises
    ------
    ModelError
        If a package is missing, or if a tensor is not on the CPU, not in float32, or in channels_last.
    """
    require_packages()
    tensors = [x for x in tree_leaves(tuple(inputs)) if isinstance(x, torch.Tensor)]
    for x in (*tensors, *(module.parameters() if module is not None else ())):
        if x.device.type != "cpu":
            raise ModelError(CPU_ONLY.format(x.device.type))
        if x.is_floating_point() and x.dtype != torch.float32:
            kind = str(x.dtype).removeprefix("torch.")
            raise ModelError(f"the backend {NAME} has no convolutions in {kind} on a CPU; choose float32")
    if any(map(is_channels_last, tensors)):
        raise ModelError(
            f"the backend {NAME} chooses its own layout and takes inputs as NCHW; choose the memory format contiguous"
        )


def written(module: nn.Module, inputs: Sequence[Any], outputs: Sequence[str] | None = None) -> bytes:
    """Write a module as an ONNX model for inputs of these shapes.

    Parameters
    ----------
    module
        The module in eval mode, on the CPU. It is not changed. A TorchScript module may be written as well.
    inputs
        Its positional inputs.
    outputs
        Names of the outputs.

    Raises
    ------
    ModelError
        If the inputs do not suit ONNX Runtime (`require_inputs`).
    OnnxError
        If no exporter of torch can write the module.
    """
    inputs = tuple(inputs)
    require_inputs(inputs, module)
    names = [f"{INPUT}{i}" for i in range(sum(isinstance(x, torch.Tensor) for x in tree_leaves(inputs)))]
    how: dict[str, Any] = {"input_names": names, "output_names": None if outputs is None else list(outputs)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter is deprecated; both warn about constants of the trace
        own = copy.deepcopy(module)
        if not all(isinstance(x, torch.Tensor) for x in inputs):
            own = _OfTensors(own, inputs)
            inputs = tuple(x for x in tree_leaves(inputs) if isinstance(x, torch.Tensor))
        try:
            return _by_tracing(own, clones(inputs), how)
        except Exception as error:
            if isinstance(module, torch.jit.ScriptModule):
                raise OnnxError(_refusal(error)) from error
        try:
            return _by_export(own, clones(inputs), how)
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
