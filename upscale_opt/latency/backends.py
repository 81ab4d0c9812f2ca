"""How a module is run when it is timed: as it is, as TorchScript, as a CUDA graph, or through torch.compile."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from upscale_opt.errors import ModelError

EAGER, TORCHSCRIPT, CUDA_GRAPH, COMPILE = "eager", "torchscript", "cuda-graph", "compile"
BACKENDS = (EAGER, TORCHSCRIPT, CUDA_GRAPH, COMPILE)
"""Names of backends: `torchscript` is the UPSCALE paper's protocol."""
WARM_UPS = 3
SCRIPT_WARM_UPS = 10
"""TorchScript specialises and compiles in its first calls."""


def require_backend(name: str, device: torch.device) -> None:
    """Raise unless the backend exists and works on the device.

    Raises
    ------
    ModelError
        With what to choose instead.
    """
    if name not in BACKENDS:
        raise ModelError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if name == CUDA_GRAPH and device.type != "cuda":
        raise ModelError("the backend cuda-graph needs a CUDA device; choose eager or torchscript")


def shared_pool(backend: str) -> Any:
    """Memory that several recordings may share, none of which needs its results; None for other backends."""
    return torch.cuda.graph_pool_handle() if backend == CUDA_GRAPH else None


def prepared(module: nn.Module, inputs: Sequence[Any], backend: str = EAGER, pool: Any = None) -> Callable[[], Any]:
    """A call of a module on fixed inputs, ready to be timed: compiled if the backend does, and warmed up.

    It holds the module and the inputs. A CUDA graph leaves no result.

    Parameters
    ----------
    module
        In eval mode, on the device of the inputs. It is not changed. TorchScript stays TorchScript.
    inputs
        Its positional inputs.
    backend
        One of `BACKENDS`.
    pool
        Of `shared_pool`, for calls that are all held until the last one is made, and are not made at the same time.

    Raises
    ------
    ModelError
        If the backend does not exist or does not fit the device.
    """
    inputs = tuple(inputs)
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    require_backend(backend, device)
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


def scripted(module: nn.Module, inputs: Sequence[Any]) -> nn.Module:
    """A module as TorchScript, traced; copies of a script need no trace of their own. TorchScript stays as it is.

    Parameters
    ----------
    module
        In eval mode, on the device of the inputs. It is not changed.
    inputs
        Its positional inputs.
    """
    if is_script(module):
        return module
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is the paper's protocol
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced: nn.Module = torch.jit.trace(copy.deepcopy(module), tuple(inputs), check_trace=False)
    return traced


def is_script(module: Any) -> bool:
    """Whether a module is TorchScript already."""
    return isinstance(module, torch.jit.ScriptModule)


def _graphed(run: Callable[..., Any], inputs: tuple[Any, ...], device: torch.device, pool: Any) -> Callable[[], Any]:
    """Replays a recording of one call; whoever holds it holds the module and the inputs, too.

    A recording knows addresses and no tensors: without them it would read memory that belongs to others by then.
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
    """A CUDA graph, and what its addresses belong to."""

    graph: Any
    owners: tuple[Any, ...]

    def replay(self) -> None:
        """Run it once."""
        self.graph.replay()
