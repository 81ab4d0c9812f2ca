"""Times operators over widths: every operator alone, all its widths in turn. What was measured before stays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from problems.objectives import OVER_READ
from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.errors import UpscaleWarning
from upscale_opt.latency.backends import EAGER, prepared_parts, shared_pool
from upscale_opt.latency.calibration import MEMORY_FORMATS, Effort, conditions_of, placed
from upscale_opt.latency.cost_tables import Case, default_directory
from upscale_opt.latency.interleaving import interleaved
from upscale_opt.latency.retained_memory import retained_memory
from upscale_opt.latency.specimens import Specimen, channelwise_module, inputs_of
from upscale_opt.latency.width_tables import KEEP, PRODUCE, READ, WidthTables, WidthWork
from upscale_opt.latency.width_works import ADD, DEPTHWISE
from upscale_opt.onnx_runtime.requirements import OnnxError
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.reading import CONTIGUOUS, MATMUL, Reading


def measure_works(
    wanted: Mapping[WidthWork, Collection[int]],
    example_inputs: Sequence[Any],
    *,
    backend: str = EAGER,
    directory: str | Path | None = None,
    effort: Effort | None = None,
    progress: ShowProgress = None,
) -> WidthTables:
    """Measure what is missing of the times of operators at widths; returns all tables of these conditions.

    Tables are written after every operator. Operators that were timed less carefully are missing, too. A warning names
    operators that ONNX Runtime cannot run.

    Parameters
    ----------
    wanted
        Operators to the widths at which they are timed.
    example_inputs, backend, directory, effort, progress
        As in `upscale_opt.latency.stored_widths.measure_widths`.

    Raises
    ------
    ModelError
        If the backend does not fit the device.
    UpscaleError
        If tables cannot be read or written.
    """
    conditions = conditions_of(example_inputs, backend=backend)
    directory = default_directory() if directory is None else directory
    tables = WidthTables.load(directory, conditions)
    device = next((x.device for x in example_inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    effort = effort or Effort()
    missing = {
        work: widths for work, widths in wanted.items() if not set(widths) <= tables.known(work, effort.detail).keys()
    }
    bar = ProgressBar("time widths", missing.items(), unit="operator", progress=progress, measures=True)
    for work, widths in bar:
        every = sorted({*widths, *tables.entries.get(work, {})})
        detail = effort.detail.with_all_care_of(tables.details.get(work))
        try:
            figures = _measure(work, every, device, tables, replace(effort, **detail._asdict()))
        except OnnxError as error:
            warnings.warn(f"{work} is not measured: {error}", UpscaleWarning, stacklevel=3)
            continue
        tables.entries[work], tables.details[work] = dict(zip(every, figures, strict=True)), detail
        tables.write(directory)
    return tables


def _measure(
    work: WidthWork, widths: Sequence[int], device: torch.device, tables: WidthTables, effort: Effort
) -> list[tuple[int, ...]]:
    """Nanoseconds per call of an operator at each width: one figure a round, all widths in turn.

    A 1x1 convolution that reads is timed as a matrix product, too; the faster of the two counts in every round.
    """
    conditions = tables.conditions
    dtype, memory_format = getattr(torch, conditions.dtype), MEMORY_FORMATS[conditions.memory_format]
    kernels = ("", MATMUL) if work.role in (READ, KEEP) and work.layer.is_pointwise else ("",)
    calls: list[list[Callable[[], Any]]] = []
    with torch.inference_mode(), retained_memory():
        pool = shared_pool(conditions.backend)
        for width in widths:
            for kernel in kernels:
                how = {"dtype": dtype, "device": device, "memory_format": memory_format}
                inputs = _inputs(work, width, **how)

                def made(width: int = width, kernel: str = kernel) -> nn.Module:
                    return placed(_module(work, width, kernel), device, dtype, memory_format)

                calls.append(prepared_parts(made, inputs, effort.copies, conditions.backend, pool))
        figures = np.array(interleaved(calls, device, effort)).reshape(len(widths), len(kernels), -1)
    fastest = figures[np.arange(len(widths)), np.median(figures, axis=2).argmin(axis=1)]
    return [tuple(own) for own in np.maximum(fastest, 1).tolist()]


def _module(work: WidthWork, width: int, kernel: str) -> nn.Module:
    layer, rng = work.layer, np.random.default_rng(0)
    if work.role == PRODUCE:
        layer = replace(layer, outputs=width + work.others)
        return Specimen(layer, Case(Reading(CONTIGUOUS), work.channels), work.channels, rng)
    if work.role in (READ, KEEP):
        channels = work.channels if work.role == READ else width
        return Specimen(layer, Case(Reading(OVER_READ, kernel=kernel), channels), width, rng)
    if layer.kind == ADD:
        return _Addition()
    if layer.kind == DEPTHWISE:
        own = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "bias": layer.bias}
        return nn.Conv2d(width, width, layer.kernel, groups=width, **own)  # type: ignore[arg-type]
    return channelwise_module(layer.kind, width)


class _Addition(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The sum."""
        return x + y


def _inputs(work: WidthWork, width: int, **how: Any) -> tuple[torch.Tensor, ...]:
    """What an operator is called with at a width."""
    channels = work.channels if work.role == PRODUCE else width
    layer: Layer = replace(work.layer, channel_size=1, operands=())
    number = 2 if layer.kind == ADD else 1
    case = Case(Reading(CONTIGUOUS), channels)
    return sum((inputs_of(layer, case, channels, **how) for _ in range(number)), ())
