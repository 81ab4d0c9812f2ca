"""Backends: how a module runs when it is timed.

In eager mode, as TorchScript, as a CUDA graph, through torch.compile, or in ONNX Runtime on the CPU.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from upscale_opt.errors import ModelError
from upscale_opt.onnx_runtime.inside import inside
from upscale_opt.onnx_runtime.remote_calls import timing_process
from upscale_opt.onnx_runtime.requirements import CPU_ONLY, NAME, require_inputs, require_packages
from upscale_opt.onnx_runtime.sessions import Written, bound, named
from upscale_opt.onnx_runtime.writing import written

EAGER, TORCHSCRIPT, CUDA_GRAPH, COMPILE, ONNXRUNTIME = "eager", "torchscript", "cuda-graph", "compile", NAME
BACKENDS = (EAGER, TORCHSCRIPT, CUDA_GRAPH, COMPILE, ONNXRUNTIME)
"""Names of backends. `torchscript` is the protocol of the UPSCALE paper."""
WARM_UPS = 3
SCRIPT_WARM_UPS = 10
"""More warm-up calls, because TorchScript specialises and compiles in its first calls."""


def require_backend(name: str, device: torch.device) -> None:
    """Raise an error unless the backend exists and works on the device.

    Raises
    ------
    ModelError
        If it does not. The message says what to choose instead.
    """
    if name not in BACKENDS:
        raise ModelError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if name == CUDA_GRAPH and device.type != "cuda":
        raise ModelError("the backend cuda-graph needs a CUDA device; choose eager or torchscript")
    if name == ONNXRUNTIME:
        require_packages()
        if device.type != "cpu":
            raise ModelError(CPU_ONLY.format(device.type))


def require_inputs_of(name: str, inputs: Sequence[Any]) -> None:
    """Raise an error unless a backend takes inputs of these dtypes and memory formats.

    Raises
    ------
    ModelError
        If it does not: ONNX Runtime computes in float32 and in a layout of its own.
    """
    if name == ONNXRUNTIME:
        require_inputs(inputs)


def shared_pool(backend: str) -> Any:
    """Memory that several CUDA graphs may share if their results are not needed. None for other backends."""
    return torch.cuda.graph_pool_handle() if backend == CUDA_GRAPH else None


def prepared(module: nn.Module, inputs: Sequence[Any], backend: str = EAGER, pool: Any = None) -> Callable[[], Any]:
    """Prepare a call of a module on fixed inputs for timing: compiled if the backend compiles, and warmed up.

    The call holds the module and the inputs. With a CUDA graph, it returns no result. In ONNX Runtime it returns one
    tensor, or a tuple of several, which the next call overwrites.

    Parameters
    ----------
    module
        The module in eval mode, on the device of the inputs. It is not changed. A TorchScript module stays TorchScript.
    inputs
        Its positional inputs.
    backend
        One of `BACKENDS`.
    pool
        A pool from `shared_pool`. All calls that share it must be held until the last one is made, and must not run at
        the same time.

    Raises
    ------
    ModelError
        If the backend does not exist or does not fit the device, or ONNX Runtime cannot run the module.
    """
    inputs = tuple(inputs)
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    require_backend(backend, device)
    if backend == ONNXRUNTIME:
        content = module.content if isinstance(module, Written) else written(module, inputs)
        return warmed(bound(content, inputs))
    run: Any = module
    if backend == TORCHSCRIPT:
        run = scripted(module, inputs)
    elif backend == COMPILE and not is_script(module):
        run = torch.compile(module)
    for _ in range(SCRIPT_WARM_UPS if is_script(run) else WARM_UPS):
        run(*inputs)
    if backend == CUDA_GRAPH:
        return _graphed(run, inputs, device, pool)
    return lambda: run(*inputs)


def prepared_parts(
    make: Callable[[], nn.Module],
    inputs: Sequence[Any],
    copies: int,
    backend: str = EAGER,
    pool: Any = None,
    *,
    alone: bool = False,
) -> list[Callable[[], Any]]:
    """Prepare calls of copies of one operator of a network, each with weights of its own.

    ONNX Runtime runs the operator as inside a network (`upscale_opt.onnx_runtime.inside`): one module in several
    sessions, in another process (`upscale_opt.onnx_runtime.remote_calls`). On other backends, every copy is a module of
    its own.

    Parameters
    ----------
    make
        Makes the module, in eval mode, on the device of the inputs.
    inputs, backend, pool
        As for `prepared`.
    copies
        Number of calls.
    alone
        In ONNX Runtime, the operator is a network of its own.
    """
    if backend != ONNXRUNTIME:
        return [prepared(make(), inputs, backend, pool) for _ in range(copies)]
    if alone:
        return list(timing_process().load(written(make(), inputs), named(inputs), copies, optimise=True))
    part = inside(make(), tuple(inputs))
    return list(timing_process().load(part.content, part.inputs, copies, optimise=False))


def in_form_of(backend: str, module: nn.Module, inputs: Sequence[Any]) -> nn.Module:
    """A module in the form that a backend measures, so that copies of it need not be traced or written once more."""
    if backend == TORCHSCRIPT:
        return scripted(module, inputs)
    return Written(written(module, inputs)) if backend == ONNXRUNTIME else module


def warmed(call: Callable[[], Any]) -> Callable[[], Any]:
    """A call after its first runs, in which memory is set up."""
    for _ in range(WARM_UPS):
        call()
    return call


def scripted(module: nn.Module, inputs: Sequence[Any]) -> nn.Module:
    """Trace a module to TorchScript. Copies of the result need no new trace. A TorchScript module is unchanged.

    Parameters
    ----------
    module
        The module in eval mode, on the device of the inputs. It is not changed.
    inputs
        Its positional inputs.
    """
    if is_script(module):
        return module
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated, but the paper's protocol
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced: nn.Module = torch.jit.trace(copy.deepcopy(module), tuple(inputs), check_trace=False)
    return traced


def is_script(module: Any) -> bool:
    """Whether a module is already TorchScript."""
    return isinstance(module, torch.jit.ScriptModule)


def _graphed(run: Callable[..., Any], inputs: tuple[Any, ...], device: torch.device, pool: Any) -> Callable[[], Any]:
    """A call that replays a recording of one run. It also holds the module and the inputs.

    A recording has only addresses, no tensors. Without these references, it could read memory that is already reused.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        run(*inputs)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        run(*inputs)
    return _Recording(graph, (run, inputs)).replay


@dataclass(frozen=True, eq=False)
class _Recording:
    """A CUDA graph, with the owners of the memory that it uses."""

    graph: Any
    owners: tuple[Any, ...]

    def replay(self) -> None:
        """Run the graph once."""
        self.graph.replay()
