"""Runs ONNX models: sessions of ONNX Runtime on the CPU, bound to tensors so that a call copies nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from upscale_opt.errors import first_line
from upscale_opt.onnx_runtime.requirements import INPUT, OnnxError, shares_threads

_PROVIDERS = ["CPUExecutionProvider"]
_ERRORS_ONLY = 3
_shared = False


def share_threads(number: int) -> None:
    """Let all sessions of this process share their threads, which wait actively. Sessions of other code then fail.

    Versions of ONNX Runtime that cannot do this from Python are left as they are.
    """
    global _shared
    import onnxruntime

    if shares_threads():
        onnxruntime.set_global_thread_pool_sizes(number, 1)
        _shared = True


def session(content: bytes | str, *, optimise: bool = True, writes: str | Path | None = None) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU, with as many threads as torch uses, and one operator at a time.

    Threads of several sessions would disturb each other if they waited actively, so they sleep while there is no work,
    unless all sessions of the process share them (`share_threads`).

    Parameters
    ----------
    content
        The ONNX model, or the path of one.
    optimise
        Apply all optimisations of the graph; otherwise none.
    writes
        File for the optimised graph.

    Raises
    ------
    OnnxError
        If ONNX Runtime does not accept the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if _shared:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    if writes is not None:
        options.optimized_model_filepath = str(writes)
    try:
        return onnxruntime.InferenceSession(content, options, providers=_PROVIDERS)
    except Exception as error:
        raise OnnxError(f"ONNX Runtime does not accept this network ({first_line(error)})") from error


class BoundCall:
    """A call of a session on fixed inputs. It reads and writes the memory of tensors directly.

    Parameters
    ----------
    running
        The session.
    inputs
        Input name to tensor: contiguous, on the CPU.

    Raises
    ------
    OnnxError
        If the session does not run on these inputs, or an output is no tensor.
    """

    def __init__(self, running: Any, inputs: Mapping[str, torch.Tensor]) -> None:
        self._session, self._binding = running, running.io_binding()
        self._inputs = {name: x.detach().contiguous() for name, x in inputs.items()}
        for name, x in self._inputs.items():
            self._binding.bind_input(name, "cpu", 0, x.numpy().dtype.type, list(x.shape), x.data_ptr())
        names = [own.name for own in running.get_outputs()]
        for name in names:
            self._binding.bind_output(name, "cpu")
        try:
            running.run_with_iobinding(self._binding)
            found = [torch.from_numpy(y) for y in self._binding.copy_outputs_to_cpu()]
        except Exception as error:
            raise OnnxError(f"ONNX Runtime does not run this network ({first_line(error)})") from error
        self._outputs = tuple(y.clone() for y in found)
        for name, y in zip(names, self._outputs, strict=True):
            self._binding.bind_output(name, "cpu", 0, y.numpy().dtype.type, list(y.shape), y.data_ptr())

    def __call__(self) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run once. Returns the output, or a tuple of several. The next call overwrites these tensors."""
        self._session.run_with_iobinding(self._binding)
        return self._outputs[0] if len(self._outputs) == 1 else self._outputs


class Written(nn.Module):
    """A module that is already written as ONNX. Copies of it share the text, but every session has its own weights.

    Parameters
    ----------
    content
        The ONNX model, from `upscale_opt.onnx_runtime.writing.written`.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content

    def forward(self, *inputs: Any) -> Any:
        """Run the model once in ONNX Runtime."""
        return bound(self.content, inputs)()


def named(inputs: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Tensors among the leaves of positional inputs, by the names that a written model gives them."""
    given = [x for x in tree_leaves(tuple(inputs)) if isinstance(x, torch.Tensor)]
    return {f"{INPUT}{i}": x for i, x in enumerate(given)}


def bound(content: bytes, inputs: Sequence[Any]) -> BoundCall:
    """A call of a model from `upscale_opt.onnx_runtime.writing.written` on the inputs that it was written for."""
    return bound_by_name(content, named(inputs))


def bound_by_name(content: bytes, inputs: Mapping[str, torch.Tensor], *, optimise: bool = True) -> BoundCall:
    """A call of a model on inputs by their names. What the model does not take is left out."""
    running = session(content, optimise=optimise)
    needed = {own.name for own in running.get_inputs()}
    return BoundCall(running, {name: x for name, x in inputs.items() if name in needed})
