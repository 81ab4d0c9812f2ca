"""Times several calls in turn (A B C A B C ...), here or in the process where they run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from upscale_opt.latency.stack_room import with_stack_room
from upscale_opt.onnx_runtime.remote_calls import RemoteCall


class Care(Protocol):
    """How carefully to time."""

    @property
    def seconds(self) -> float:
        """Least time of a measurement."""
        ...

    @property
    def rounds(self) -> int:
        """Measurements per object."""
        ...


@with_stack_room
def interleaved(
    calls: Sequence[Sequence[Callable[[], Any]]], device: torch.device, effort: Care
) -> list[tuple[int, ...]]:
    """Nanoseconds per call of several objects, measured in turn (A B C ...). Each object is a list of calls in turn.

    Returns
    -------
    list
        For each object, one measurement per round.
    """
    remote = [[call for call in own if isinstance(call, RemoteCall)] for own in calls]
    if any(remote):
        return _there(remote, effort)
    timer = _cuda_seconds if device.type == "cuda" else _cpu_seconds
    repeats = [_repeats(timer, own, effort) for own in calls]
    figures: list[list[int]] = [[] for _ in calls]
    for _ in range(effort.rounds):
        for own_calls, number, found in zip(calls, repeats, figures, strict=True):
            found.append(round(1e9 * timer(own_calls, number) / number))
    return [tuple(found) for found in figures]


def _there(calls: Sequence[Sequence[RemoteCall]], effort: Care) -> list[tuple[int, ...]]:
    """As `interleaved`, in the process of these calls."""
    process = calls[0][0].process
    assert all(call.process is process for own in calls for call in own)
    return process.interleaved([[call.handle for call in own] for own in calls], effort.seconds, effort.rounds)


def _repeats(timer: Callable[..., float], calls: Sequence[Callable[[], Any]], effort: Care) -> int:
    """Number of calls per measurement. All calls that will be used run once before."""
    timer(calls, 1)
    once = timer(calls, 1)
    number = max(1, math.ceil(effort.seconds / max(once, 1e-7)))
    timer(calls[1:number], len(calls[1:number]))
    return number


def _cpu_seconds(calls: Sequence[Callable[[], Any]], number: int) -> float:
    started = time.perf_counter()
    for i in range(number):
        calls[i % len(calls)]()
    return time.perf_counter() - started


def _cuda_seconds(calls: Sequence[Callable[[], Any]], number: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for i in range(number):
        calls[i % len(calls)]()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3
