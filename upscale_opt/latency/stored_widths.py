"""Which stored widths a device works faster with: measured per block, the operators of one block side by side.

    tables = measure_widths(masked, inputs)
    wider = padded(masked, faster_widths(masked, tables))

Every operator is timed alone, at the block's stored width and at a few rounder ones above it, in turn. A block is
padded to the width at which its operators take the least time together, if that is clearly less than now.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from problems.objectives import OVER_READ
from upscale_opt.arguments.entrance import MASKED_GRAPH, entrance
from upscale_opt.errors import UpscaleWarning
from upscale_opt.latency.backends import EAGER, prepared_parts, shared_pool
from upscale_opt.latency.calibration import MEMORY_FORMATS, Effort, conditions_of, interleaved, placed
from upscale_opt.latency.cost_tables import Case, default_directory
from upscale_opt.latency.drift import quiet_medians
from upscale_opt.latency.retained_memory import retained_memory
from upscale_opt.latency.specimens import Specimen, channelwise_module, inputs_of
from upscale_opt.latency.width_tables import PRODUCE, READ, WORK, WidthTables, WidthWork
from upscale_opt.latency.width_works import ADD, DEPTHWISE, works_by_block
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.onnx_runtime.requirements import OnnxError
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.padding import paddable
from upscale_opt.planning.reading import CONTIGUOUS, MATMUL, Reading

MULTIPLES = (4, 8, 16, 32, 64)
"""Channels: stored widths are tried at the next multiple of each."""
MOST_WIDER = 1.25
"""Stored widths are tried up to this many times the width without padding."""
WORTH_PADDING = 0.98
"""Time at a wider width over the time now, below which a block is padded: rounds differ by about one per cent."""


def widths_to_try(stored: int, size: int) -> tuple[int, ...]:
    """The widths at which a block is timed, ascending; the first is the one without padding.

    Examples
    --------
    >>> widths_to_try(497, 512), widths_to_try(121, 256), widths_to_try(8, 12)
    ((497, 500, 504, 512), (121, 124, 128), (8,))
    """
    tried = {-(-stored // multiple) * multiple for multiple in MULTIPLES} | {size}
    return tuple(sorted({stored, *(width for width in tried if stored <= width <= min(size, MOST_WIDER * stored))}))


@entrance(masked=MASKED_GRAPH)
def measure_widths(
    masked: MaskedGraph,
    example_inputs: Sequence[Any],
    *,
    backend: str = EAGER,
    directory: str | Path | None = None,
    effort: Effort | None = None,
    progress: bool = False,
) -> WidthTables:
    """Measure what is missing of the times of a masked model's operators over stored widths.

    Operators that were timed less carefully (`Effort.detail`) are missing, too. A warning names operators that ONNX
    Runtime cannot run.

    Tables are written after every operator, so that a measurement that was interrupted goes on.

    Parameters
    ----------
    masked
        What `upscale_opt.prune` or `upscale_opt.effective_masks` returned.
    example_inputs
        The tuple of inputs it was traced with: device, dtype, memory format and batch are theirs.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    directory
        Where tables are kept. Default: `upscale_opt.latency.cost_tables.default_directory`.
    effort
        How much is timed.
    progress
        Show a progress bar on standard error.

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
    wanted = {
        work: widths
        for work, widths in _wanted(masked).items()
        if not set(widths) <= tables.known(work, effort.detail).keys()
    }
    bar = tqdm(wanted.items(), desc="widths", unit="operator", disable=None if progress else True, leave=False)
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


def faster_widths(masked: MaskedGraph, tables: WidthTables) -> dict[str, int]:
    """Blocks whose operators are faster at a wider stored width, with the fastest of the widths that were timed.

    Blocks with an operator that was not timed at some width are left as they are.
    """
    works = works_by_block(masked)
    found = {}
    for name, (stored, size) in paddable(masked).items():
        widths = np.array(widths_to_try(stored, size))
        known = [tables.entries.get(work, {}) for work in works[name]]
        if len(widths) < 2 or not known or any(not set(widths.tolist()) <= own.keys() for own in known):
            continue
        times = np.zeros(len(widths))
        for own, number in zip(known, works[name].values(), strict=True):
            times += number * quiet_medians(np.array([own[width] for width in widths.tolist()], dtype=np.float64))
        best = int(times.argmin())
        if times[best] <= WORTH_PADDING * times[0]:
            found[name] = int(widths[best])
    return found


def known_faster_widths(
    masked: MaskedGraph, example_inputs: Sequence[Any], *, backend: str = EAGER, directory: str | Path | None = None
) -> dict[str, int]:
    """As `faster_widths`, from what was measured before under the conditions of these inputs."""
    conditions = conditions_of(example_inputs, backend=backend)
    return faster_widths(masked, WidthTables.load(directory or default_directory(), conditions))


def _wanted(masked: MaskedGraph) -> dict[WidthWork, list[int]]:
    """The operators to time, and at which widths."""
    works = works_by_block(masked)
    wanted: dict[WidthWork, set[int]] = {}
    for name, (stored, size) in paddable(masked).items():
        widths = widths_to_try(stored, size)
        for work in works[name] if len(widths) > 1 else ():
            wanted.setdefault(work, set()).update(widths)
    return {work: sorted(widths) for work, widths in wanted.items()}


def _measure(
    work: WidthWork, widths: Sequence[int], device: torch.device, tables: WidthTables, effort: Effort
) -> list[tuple[int, ...]]:
    """Nanoseconds per call of an operator at each width: one figure a round, all widths in turn.

    A 1x1 convolution that reads is timed as a matrix product, too; the faster of the two counts in every round.
    """
    conditions = tables.conditions
    dtype, memory_format = getattr(torch, conditions.dtype), MEMORY_FORMATS[conditions.memory_format]
    kernels = ("", MATMUL) if work.role == READ and work.layer.is_pointwise else ("",)
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
    if work.role == READ:
        return Specimen(layer, Case(Reading(OVER_READ, kernel=kernel), work.channels), width, rng)
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
    channels = {PRODUCE: work.channels, READ: width, WORK: width}[work.role]
    layer: Layer = replace(work.layer, channel_size=1, operands=())
    number = 2 if layer.kind == ADD else 1
    case = Case(Reading(CONTIGUOUS), channels)
    return sum((inputs_of(layer, case, channels, **how) for _ in range(number)), ())
