"""Measures the latency of models: interleaved repeats, medians and spread, and the environment of the measurement.

On a CPU, it uses `torch.utils.benchmark` with retained memory (`retained_memory`). On CUDA, it follows the UPSCALE
paper (Wan et al., ICML 2023, section 5): a TorchScript trace, 100 runs, and device time from the profiler. CUDA events
are also recorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import benchmark

from problems.showing.progress import ProgressBar, ShowProgress
from problems.showing.reprs import shown
from upscale_opt.arguments.entrance import RUNNABLE, entrance
from upscale_opt.errors import ModelError, UpscaleWarning
from upscale_opt.latency.backends import (
    CUDA_GRAPH,
    EAGER,
    ONNXRUNTIME,
    TORCHSCRIPT,
    is_script,
    prepared,
    require_inputs_of,
    shared_pool,
)
from upscale_opt.latency.drift import slowness
from upscale_opt.latency.environment import StolenTime, environment
from upscale_opt.latency.retained_memory import retained_memory
from upscale_opt.latency.stack_room import with_stack_room
from upscale_opt.models.network_checks import require_run, with_values
from upscale_opt.tracing.trace import as_tuple

MINIMUM_BLOCK_SECONDS = 0.02
PROFILED_REPEATS = 10
"""Largest number of profiled passes. Reading the profiler's results takes longer than the passes."""


@shown
@dataclass(frozen=True)
class Profile:
    """Measured latency of one model.

    Attributes
    ----------
    seconds
        Seconds per forward pass, one value per run. On a CPU, a run is a block of passes that is long enough to time.
    device
        ``cpu`` or the CUDA device.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`. For a TorchScript module, ``torchscript`` or ``onnxruntime``.
    device_seconds
        Mean device time per pass from the profiler, on CUDA. None on a CPU, or if it was not requested.
    environment
        Machine and versions.
    stolen
        Share of processor time that the host of a virtual machine gave to other guests during the measurement. None if
        the system does not report it.
    """

    seconds: tuple[float, ...]
    device: str
    backend: str
    device_seconds: float | None
    environment: Mapping[str, Any]
    stolen: float | None = None

    @property
    def median(self) -> float:
        """Median seconds per pass."""
        return float(np.median(self.seconds))

    @property
    def iqr(self) -> float:
        """Interquartile range, in seconds."""
        low, high = np.percentile(self.seconds, (25, 75))
        return float(high - low)

    @property
    def mean(self) -> float:
        """Mean seconds per pass."""
        return float(np.mean(self.seconds))

    @property
    def std(self) -> float:
        """Standard deviation over repeats, in seconds."""
        return float(np.std(self.seconds))

    def __str__(self) -> str:
        repeats = f"{len(self.seconds)} repeats, {self.backend}, {self.device}"
        return f"median {1e3 * self.median:.2f} ms, IQR {1e3 * self.iqr:.2f} ms ({repeats})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with raw measurements."""
        return {
            "median": self.median,
            "iqr": self.iqr,
            "mean": self.mean,
            "std": self.std,
            "device": self.device,
            "backend": self.backend,
            "device_seconds": self.device_seconds,
            "stolen": self.stolen,
            "seconds": list(self.seconds),
        }


@entrance(model=RUNNABLE)
def profile(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    repeats: int | None = None,
    backend: str | None = None,
    progress: ShowProgress = None,
) -> Profile:
    """Measure the latency of one model on the device of its inputs; see `profile_interleaved`."""
    models = {"model": model}
    return profile_interleaved(models, example_inputs, repeats=repeats, backend=backend, progress=progress)["model"]


@entrance()
def profile_interleaved(
    models: Mapping[str, nn.Module],
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    repeats: int | None = None,
    backend: str | None = None,
    progress: ShowProgress = None,
) -> dict[str, Profile]:
    """Measure the latency of several models in turn (A B C A B C ...), so drift affects all of them equally.

    Parameters
    ----------
    models
        Name to model, in eval mode, on the device of the inputs. A `torch.jit.ScriptModule` is measured unchanged,
        except in ONNX Runtime. On CUDA, other models are traced first.
    example_inputs
        A tensor or the tuple of positional inputs.
    repeats
        Number of measurements per model. Default: 10 on CPU, 100 on CUDA.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`. Default: ``eager`` on a CPU. On CUDA ``cuda-graph``, as networks
        are deployed there, or ``torchscript``, as in the paper, for all models if one of them cannot be captured.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    ModelError
        If there are fewer than two repeats, or the backend does not fit the device.
    """
    return measured_in_turn(
        models, example_inputs, repeats=repeats, backend=backend, progress=progress, device_time=True
    )


def default_backend(device: torch.device) -> str:
    """The default backend of a device: of CUDA a recorded graph, as networks are deployed there."""
    return CUDA_GRAPH if device.type == "cuda" else EAGER


@with_stack_room
def measured_in_turn(
    models: Mapping[str, nn.Module],
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    repeats: int | None = None,
    backend: str | None = None,
    progress: ShowProgress = None,
    device_time: bool = False,
) -> dict[str, Profile]:
    """As `profile_interleaved`. On CUDA, the profiler measures device times only with `device_time`."""
    inputs = as_tuple(with_values(example_inputs, next(iter(models.values()))))
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    on_gpu = device.type == "cuda"
    repeats = (100 if on_gpu else 10) if repeats is None else repeats
    chosen = default_backend(device) if backend is None else backend
    if repeats < 2:
        raise ModelError(f"a latency needs at least 2 repeats, not {repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode(), retained_memory():
        calls, timers, chosen = _prepared_calls(models, inputs, device, chosen, may_change=backend is None)
        rounds = ProgressBar("profile", range(repeats), unit="round", progress=progress, measures=True)
        stolen = StolenTime()
        for _ in rounds:
            for name, timer in timers.items():
                seconds[name].append(timer())
        share = stolen.share()
        where, label = environment(), torch.cuda.get_device_name(device) if on_gpu else "cpu"
        profiled = on_gpu and device_time
        own = {name: _device_seconds(call, device, repeats) if profiled else None for name, call in calls.items()}
    scripts = {name for name, model in models.items() if is_script(model) and chosen != ONNXRUNTIME}
    backends = {name: TORCHSCRIPT if name in scripts else chosen for name in models}
    return {
        name: Profile(tuple(found), label, backends[name], own[name], where, share) for name, found in seconds.items()
    }


def _prepared_calls(
    models: Mapping[str, nn.Module], inputs: tuple[Any, ...], device: torch.device, backend: str, *, may_change: bool
) -> tuple[dict[str, Callable[[], Any]], dict[str, Callable[[], float]], str]:
    """Calls of all models on one backend, what times them, and the backend.

    It is another backend if it may change and a model cannot be captured.
    """
    require_inputs_of(backend, inputs)
    pool, name = shared_pool(backend), ""
    try:
        calls, timers = {}, {}
        for name, model in models.items():
            require_run(model, inputs, name)
            calls[name] = prepared(model, inputs, backend, pool)
            timers[name] = _timer(calls[name], device)
        return calls, timers, backend
    except RuntimeError as error:
        if not may_change or backend != CUDA_GRAPH:
            raise
        reason = str(error).strip().partition("\n")[0]
        message = f"{name} cannot be captured as a CUDA graph ({reason}); all models are measured as TorchScript"
        warnings.warn(message, UpscaleWarning, stacklevel=4)
    return _prepared_calls(models, inputs, device, TORCHSCRIPT, may_change=False)


def without_drift(profiles: Mapping[str, Profile]) -> dict[str, np.ndarray]:
    """Measurements in seconds of models that were measured in turn, without the slow-down of whole rounds.

    The measurements of a round are divided by its slowness (`upscale_opt.latency.drift.slowness`). The speed of a
    machine may change by a factor of two within minutes. Measurements of one round are comparable even then.

    Parameters
    ----------
    profiles
        The result of one call of `profile_interleaved`.

    Examples
    --------
    >>> a, b, c = (Profile(t, "cpu", "eager", None, {}) for t in ((1.0, 2.0, 1.0), (3.0, 6.0, 3.0), (2.0, 4.0, 2.2)))
    >>> without_drift({"a": a, "b": b, "c": c})["c"].tolist()
    [2.0, 2.0, 2.2]
    """
    seconds = np.array([profile.seconds for profile in profiles.values()])
    return dict(zip(profiles, seconds / slowness(seconds), strict=True))


def joined(profiles: Sequence[Profile]) -> Profile:
    """Join the measurements of several copies of a model, one copy after the other, into one profile."""
    return replace(profiles[0], seconds=tuple(chain(*(own.seconds for own in profiles))))


def _timer(call: Callable[[], Any], device: torch.device) -> Callable[[], float]:
    """A function that measures seconds per pass. On a CPU it times a block of passes, on CUDA one pass."""
    if device.type == "cuda":
        return lambda: _cuda_seconds(call, device)
    timer = benchmark.Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    once = timer.timeit(1).median
    number = max(1, round(MINIMUM_BLOCK_SECONDS / max(once, 1e-9)))
    return lambda: float(timer.timeit(number).median)


def _cuda_seconds(call: Callable[[], Any], device: torch.device) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1e3


def _device_seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Mean device time per pass by the profiler, over at most `PROFILED_REPEATS` passes."""
    repeats = min(repeats, PROFILED_REPEATS)
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(repeats):
            call()
        torch.cuda.synchronize(device)
    return sum(event.self_device_time_total for event in profiler.key_averages()) / repeats / 1e6
