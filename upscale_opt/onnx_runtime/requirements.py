"""What ONNX Runtime needs: packages, and inputs that it takes as they are."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from upscale_opt.errors import ModelError
from upscale_opt.models.memory_formats import is_channels_last

NAME = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CPU_ONLY = f"the backend {NAME} runs on the CPU only, and this is {{}}; choose another backend"
INPUT = "x"
"""Inputs of the ONNX model are named ``x0``, ``x1``, ... after their place among the tensors of the inputs."""


class OnnxError(ModelError):
    """A network that cannot be written as ONNX, or that ONNX Runtime does not run."""


class RemovedOperatorError(OnnxError):
    """An operator that ONNX Runtime removes or fuses into its neighbours, so that it takes no time by itself."""


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


def shares_threads() -> bool:
    """Whether all sessions of a process can share their threads, from Python."""
    import onnxruntime

    return hasattr(onnxruntime, "set_global_thread_pool_sizes")


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
