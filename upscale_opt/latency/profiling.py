"""How long a model takes: interleaved repeats, medians and spread, with the environment they were measured in.

CPU: `torch.utils.benchmark`, with memory that stays (`retained_memory`). CUDA, as in the UPSCALE paper (Wan et al.,
ICML 2023, section 5): a TorchScript trace, 100 runs, device time from the profiler; CUDA events are recorded beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import benchmark
from tqdm import tqdm

from upscale_opt.arguments.entrance import RUNNABLE, entrance
from upscale_opt.errors import ModelError
from upscale_opt.latency.backends import EAGER, TORCHSCRIPT, is_script, prepared, shared_pool
from upscale_opt.latency.drift import slowness
from upscale_opt.latency.environment import StolenTime, environment
from upscale_opt.latency.retained_memory import retained_memory
from upscale_opt.latency.stack_room import with_stack_room
from upscale_opt.models.network_checks import require_run, with_values
from upscale_opt.tracing.trace import as_tuple

MINIMUM_BLOCK_SECONDS = 0.02
PROFILED_REPEATS = 10
"""Passes that the profiler looks at, at most: what it sees of them takes longer to read than they take."""


@dataclass(frozen=True)
class Profile:
    """Measured latency of one model.

    Attributes
    ----------
    seconds
        Seconds per forward pass, one figure per run (on CPU, a run is a block of passes long enough to time).
    device
        ``cpu`` or the CUDA device.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`; of a model that is TorchScript already, that.
    device_seconds
        Mean device time per pass from the profiler, on CUDA; None on CPU, or if it was not asked for.
    environment
        Machine and versions.
    stolen
        Share of the processors' time that the host of a virtual machine gave to others while this was measured; None
        where the system does not tell.
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
        """Distance between the quartiles, in seconds."""
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
        """Plain values for JSON, raw figures included."""
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
    progress: bool = False,
) -> Profile:
    """Latency of one model, on the device of its inputs; see `profile_interleaved`."""
    models = {"model": model}
    return profile_interleaved(models, example_inputs, repeats=repeats, backend=backend, progress=progress)["model"]


@entrance()
def profile_interleaved(
    models: Mapping[str, nn.Module],
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    repeats: int | None = None,
    backend: str | None = None,
    progress: bool = False,
) -> dict[str, Profile]:
    """Latency of several models measured in turn (A B C A B C ...), so that drift hits all alike.

    Parameters
    ----------
    models
        Name to model, in eval mode, on the device of the inputs. A `torch.jit.ScriptModule` is measured as it is; on
        CUDA others are traced first.
    example_inputs
        A tensor or the tuple of positional inputs.
    repeats
        Figures per model. Default: 10 on CPU, 100 on CUDA.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`. Default: ``eager`` on CPU; ``torchscript`` on CUDA, as in the
        paper.
    progress
        Show a progress bar on standard error.

    Raises
    ------
    ModelError
        If there are fewer than two repeats, or the backend does not fit the device.
    """
    return measured_in_turn(
        models, example_inputs, repeats=repeats, backend=backend, progress=progress, device_time=True
    )


def default_backend(device: torch.device) -> str:
    """How models run on a device where nobody says it."""
    return TORCHSCRIPT if device.type == "cuda" else EAGER


@with_stack_room
def measured_in_turn(
    models: Mapping[str, nn.Module],
    example_inputs: torch.Tensor | Sequence[Any],
    *,
    repeats: int | None = None,
    backend: str | None = None,
    progress: bool = False,
    device_time: bool = False,
) -> dict[str, Profile]:
    """As `profile_interleaved`; on CUDA the profiler is asked for device times only with `device_time`."""
    inputs = as_tuple(with_values(example_inputs, next(iter(models.values()))))
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    on_gpu = device.type == "cuda"
    repeats = (100 if on_gpu else 10) if repeats is None else repeats
    backend = default_backend(device) if backend is None else backend
    if repeats < 2:
        raise ModelError(f"a latency needs at least 2 repeats, not {repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode(), retained_memory():
        calls, timers, pool = {}, {}, shared_pool(backend)
        for name, model in models.items():
            require_run(model, inputs, name)
            calls[name] = prepared(model, inputs, backend, pool)
            timers[name] = _timer(calls[name], device)
        rounds = tqdm(range(repeats), desc="profile", unit="round", disable=None if progress else True, leave=False)
        stolen = StolenTime()
        for _ in rounds:
            for name, timer in timers.items():
                seconds[name].append(timer())
        share = stolen.share()
        where, label = environment(), torch.cuda.get_device_name(device) if on_gpu else "cpu"
        profiled = on_gpu and device_time
        own = {name: _device_seconds(call, device, repeats) if profiled else None for name, call in calls.items()}
    backends = {name: TORCHSCRIPT if is_script(model) else backend for name, model in models.items()}
    return {
        name: Profile(tuple(found), label, backends[name], own[name], where, share) for name, found in seconds.items()
    }


def without_drift(profiles: Mapping[str, Profile]) -> dict[str, np.ndarray]:
    """Figures of models that were measured in turn, in seconds, less what slowed a whole round down.

    Its figures are divided by how slow the round was (`upscale_opt.latency.drift.slowness`). On a machine whose speed
    changes by a factor of two within minutes, figures of one round still compare.

    Parameters
    ----------
    profiles
        Of one call of `profile_interleaved`.

    Examples
    --------
    >>> a, b, c = (Profile(t, "cpu", "eager", None, {}) for t in ((1.0, 2.0, 1.0), (3.0, 6.0, 3.0), (2.0, 4.0, 2.2)))
    >>> without_drift({"a": a, "b": b, "c": c})["c"].tolist()
    [2.0, 2.0, 2.2]
    """
    seconds = np.array([profile.seconds for profile in profiles.values()])
    return dict(zip(profiles, seconds / slowness(seconds), strict=True))


def joined(profiles: Sequence[Profile]) -> Profile:
    """The figures of several copies of a model, one copy's after the other's, as those of one."""
    return replace(profiles[0], seconds=tuple(chain(*(own.seconds for own in profiles))))


def _timer(call: Callable[[], Any], device: torch.device) -> Callable[[], float]:
    """Measures seconds per pass: of a block of passes long enough to time on CPU, of one pass on CUDA."""
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
    """Mean device time per pass as the profiler counts it, over `PROFILED_REPEATS` at most."""
    repeats = min(repeats, PROFILED_REPEATS)
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(repeats):
            call()
        torch.cuda.synchronize(device)
    return sum(event.self_device_time_total for event in profiler.key_averages()) / repeats / 1e6
