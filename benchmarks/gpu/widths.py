"""The cost of a stored width: convolutions by number of outputs, elementwise operators by number of channels.

An export stores the channels that some consumer keeps, for example 497 of 512. These figures show what such a width
costs its producer and the elementwise operators on it, and so which widths are worth storing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.records import Records, facts_of
from benchmarks.gpu.schedule import Deadline
from benchmarks.gpu.settings import Setting
from upscale_opt.latency.backends import prepared, shared_pool
from upscale_opt.latency.calibration import MEMORY_FORMATS as FORMATS
from upscale_opt.latency.calibration import Effort, interleaved, placed
from upscale_opt.models.precisions import settle, tf32_setting

GRID = 8
EFFORT = Effort(rounds=7, seconds=0.0005, copies=1)
ADDITION, NORMALISATION, DEPTHWISE = "add and ReLU", "BatchNorm and ReLU", "depthwise"


@dataclass(frozen=True)
class Work:
    """One operator of a network, whatever its width.

    Attributes
    ----------
    network
        Name of the network.
    kind
        ``convolution``, `DEPTHWISE`, `ADDITION` or `NORMALISATION`.
    inputs
        Channels that a convolution reads. For other operators they are the width.
    width
        Channels that it computes in the unpruned network.
    kernel, side
        Side of its kernel, height and width of its input.
    """

    network: str
    kind: str
    inputs: int
    width: int
    kernel: int
    side: int


def _convolutions(network: str, *shapes: tuple[int, int, int, int]) -> tuple[Work, ...]:
    """Of (inputs, outputs, side of the kernel, side)."""
    return tuple(Work(network, "convolution", *shape) for shape in shapes)


WORKS = (
    *_convolutions("resnet50", (256, 512, 1, 28), (128, 512, 1, 28), (64, 256, 1, 56), (256, 256, 3, 14)),
    Work("resnet50", ADDITION, 0, 512, 0, 28),
    Work("resnet50", ADDITION, 0, 256, 0, 56),
    *_convolutions("resnet50", (1024, 256, 1, 14), (512, 512, 3, 7), (256, 1024, 1, 14), (512, 2048, 1, 7)),
    Work("resnet50", ADDITION, 0, 1024, 0, 14),
    Work("resnet50", ADDITION, 0, 2048, 0, 7),
    *_convolutions("resnet50", (2048, 512, 1, 7), (512, 128, 1, 28), (128, 128, 3, 28), (256, 64, 1, 56)),
    *_convolutions("resnet50", (64, 64, 3, 56)),
    *_convolutions("mobilenet_v2", (64, 384, 1, 14), (384, 64, 1, 14), (24, 144, 1, 56), (160, 960, 1, 7)),
    Work("mobilenet_v2", DEPTHWISE, 0, 384, 3, 14),
    Work("mobilenet_v2", DEPTHWISE, 0, 144, 3, 56),
    *_convolutions("mobilenet_v2", (960, 160, 1, 7)),
    Work("densenet121", NORMALISATION, 0, 256, 0, 56),
    Work("densenet121", NORMALISATION, 0, 512, 0, 28),
    Work("densenet121", NORMALISATION, 0, 1024, 0, 14),
)


def widths_of(width: int) -> list[int]:
    """The timed widths: coarse steps from one half on, multiples of 8 near the end, and all of the last 15.

    Examples
    --------
    >>> widths_of(64)
    [32, 40, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64]
    >>> widths_of(1024)[:6], len(widths_of(1024))
    ([512, 576, 640, 704, 768, 832], 30)
    """
    coarse = max(GRID, width // 16 // GRID * GRID)
    chosen = {*range(width // 2, width + 1, coarse), *range(width - 64, width + 1, GRID), *range(width - 15, width + 1)}
    return sorted(own for own in chosen if width // 2 <= own)


def measure_widths(dtype: str, setting: Setting, deadline: Deadline) -> str:
    """Time every operator at its widths; a row for each. The returned line says how many there was time for."""
    records = Records(setting.out, facts_of(setting.device, setting.commit))
    device = torch.device(setting.device)
    settle(dtype, device)
    done = 0
    for work in WORKS:
        if deadline.left <= 0:
            break
        records.add("widths", _rows(_limited(work, setting), dtype, setting, device))
        done += 1
    return f"{done} of {len(WORKS)} operators"


def _limited(work: Work, setting: Setting) -> Work:
    """The same operators, reduced to the largest size of the settings."""
    most = setting.channels or work.width
    width = min(work.width, most)
    side = min(work.side, setting.side or work.side)
    return replace(work, inputs=min(work.inputs, most), width=width, side=side)


def _rows(work: Work, dtype: str, setting: Setting, device: torch.device) -> list[dict[str, Any]]:
    """The rows of one operator, its widths measured in turn."""
    own_dtype = settle(dtype, device)
    batch, memory_format = setting.batch_of(64), "channels_last"
    widths = widths_of(work.width)
    effort = EFFORT if device.type == "cuda" else setting.effort
    with torch.inference_mode():
        pool, inputs = shared_pool(setting.backend), _Inputs(work, batch, own_dtype, device, FORMATS[memory_format])
        calls: list[list[Callable[[], Any]]] = [
            [
                prepared(
                    placed(operator(work, width), device, own_dtype, FORMATS[memory_format]),
                    inputs.of(width),
                    setting.backend,
                    pool,
                )
            ]
            for width in widths
        ]
        figures = interleaved(calls, device, effort)
    place = {
        "network": work.network,
        "kind": work.kind,
        "inputs": work.inputs,
        "kernel": work.kernel,
        "side": work.side,
        "batch": batch,
        "dtype": dtype,
        "tf32": tf32_setting(device, own_dtype),
        "memory_format": memory_format,
        "backend": setting.backend,
    }
    return [
        {**place, "unpruned": work.width, "width": width, **_figures(own)}
        for width, own in zip(widths, figures, strict=True)
    ]


def _figures(nanoseconds: Sequence[int]) -> dict[str, float]:
    low, median, high = np.percentile(nanoseconds, (25, 50, 75)) / 1e3
    return {"median_us": float(median), "least_us": min(nanoseconds) / 1e3, "iqr_us": float(high - low)}


class _Inputs:
    """Inputs of all widths in the memory of the widest."""

    def __init__(
        self, work: Work, batch: int, dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        self.work, self.batch = work, batch
        number = 2 if work.kind == ADDITION else 1
        widest = work.inputs if work.kind == "convolution" else work.width
        size = batch * widest * work.side**2
        self.memory = [torch.randn(size, device=device).to(dtype) for _ in range(number)]
        self.memory_format = memory_format

    def of(self, width: int) -> tuple[torch.Tensor, ...]:
        """Inputs for a width."""
        channels = self.work.inputs if self.work.kind == "convolution" else width
        shape = (self.batch, self.work.side, self.work.side, channels)
        return tuple(own[: math.prod(shape)].view(shape).permute(0, 3, 1, 2) for own in self.memory)


class _Addition(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``relu(x + y)``, as residual networks have it: the ReLU in place."""
        return torch.relu_(x + y)


def operator(work: Work, width: int) -> nn.Module:
    """The module of an operator at a width."""
    if work.kind == ADDITION:
        return _Addition()
    if work.kind == NORMALISATION:
        return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    groups, inputs = (width, width) if work.kind == DEPTHWISE else (1, work.inputs)
    return nn.Conv2d(inputs, width, work.kernel, padding=work.kernel // 2, groups=groups, bias=False)
