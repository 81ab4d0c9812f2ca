"""Times of every prunable layer at every level: the layer alone, at its true shape and full output width.

A level is a number of input channels. Levels with equal numbers are timed once, and so are layers of equal shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from problems import LayerTimes, TimingTable, sparsity_grid
from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.latency.backends import EAGER, prepared_parts, shared_pool
from upscale_opt.latency.calibration import MEMORY_FORMATS, Effort, conditions_of, placed
from upscale_opt.latency.cost_tables import Case, Conditions, CostTables, Key, Timing, default_directory
from upscale_opt.latency.interleaving import interleaved
from upscale_opt.latency.profiling import profile
from upscale_opt.latency.specimens import Specimen
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.reading import CONTIGUOUS, Reading
from upscale_opt.spdy.prunable_layers import PrunableLayer
from upscale_opt.tracing.trace import as_tuple


@dataclass(frozen=True)
class MeasuredTimes:
    """A timing table that was measured on this machine.

    Attributes
    ----------
    table
        For each layer, all levels of the grid, including levels that keep equally many channels.
    scale
        Factor on the measured times of all layers. It keeps the sum of the dense layers' times at or below the time of
        the whole model. 1 if the sum was not above it. See `guarded_table`.
    conditions
        Conditions of the measurement.
    """

    table: TimingTable
    scale: float
    conditions: Conditions

    def __str__(self) -> str:
        share = self.table.dense_seconds(own.name for own in self.table.layers) / self.table.base
        scaled = f"; single layers were timed {1 / self.scale:.3f} times too slow" if self.scale < 1 else ""
        return (
            f"{len(self.table.layers)} layers take {share:.0%} of the dense model's {1e3 * self.table.base:.3f} ms"
            f"{scaled} ({self.conditions})"
        )


def layer_times(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    layers: Sequence[PrunableLayer],
    grid: Sequence[float] | None = None,
    *,
    backend: str = EAGER,
    directory: str | Path | None = None,
    effort: Effort | None = None,
    repeats: int | None = None,
    progress: ShowProgress = None,
) -> MeasuredTimes:
    """Measure a timing table, and the dense model.

    Each layer runs alone on random inputs of its true shape, with its full output width. It runs at every number of
    channels in the grid, all in turn (A B C A B C ...). The medians are used. They are stored on disk by shape, in the
    files of cost tables (docs/formats.md). Stored times are not measured again, unless they were measured with less
    effort than now requested (`upscale_opt.latency.cost_tables.Detail`). The model itself is always measured.

    Parameters
    ----------
    model
        The dense model in eval mode.
    example_inputs
        A tensor or the tuple of positional inputs. They determine device, dtype, memory format and batch size.
    layers
        Layers from `prunable_layers`.
    grid
        Sparsities, ascending from 0. Default: `problems.sparsity_grid`.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    directory
        Directory where measurements are stored. Default: `upscale_opt.latency.cost_tables.default_directory`.
    effort
        How much to measure.
    repeats
        Number of measurements of the whole model; see `upscale_opt.profile_interleaved`.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    ModelError
        If the backend does not fit the device.
    UpscaleError
        If measurements cannot be read or written.
    """
    inputs = as_tuple(example_inputs)
    levels = sparsity_grid() if grid is None else tuple(grid)
    conditions = conditions_of(inputs, backend=backend)
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    directory = default_directory() if directory is None else directory
    known = CostTables.load(directory, conditions)
    wanted: dict[Layer, tuple[int, ...]] = {layer.shape: tuple(dict.fromkeys(layer.counts(levels))) for layer in layers}
    effort = effort or Effort()
    missing = [s for s, counts in wanted.items() if not all(known.known(Key(s, n, n), effort.detail) for n in counts)]
    for shape in ProgressBar("time layers", missing, unit="shape", progress=progress, measures=True):
        cases = [(Case(Reading(CONTIGUOUS), n), n) for n in wanted[shape]]
        for (case, n), found in zip(cases, case_times(shape, cases, conditions, device, effort), strict=True):
            known.entries[Key(shape, n, n)] = (Timing(case, found),)
            known.details[Key(shape, n, n)] = effort.detail
        known.save(directory)
    base = profile(model, example_inputs, repeats=repeats, backend=backend, progress=progress).median
    seconds = {
        layer.name: tuple(1e-9 * known.entries[Key(layer.shape, n, n)][0].median for n in layer.counts(levels))
        for layer in layers
    }
    table, scale = guarded_table(seconds, levels, base)
    return MeasuredTimes(table, scale, conditions)


def guarded_table(
    seconds: Mapping[str, Sequence[float]], levels: Sequence[float], base: float
) -> tuple[TimingTable, float]:
    """A timing table whose dense layers take no longer than the whole model, and the factor on their times.

    A layer alone may be slower than in the network. If the dense layers sum to more than `base`, all times of all
    layers are multiplied by ``base / sum``. The base stays as measured. The ratios between levels and between layers
    stay too. No time is left for the rest of the network.

    Parameters
    ----------
    seconds
        Layer name to seconds per level, the dense level first.
    levels
        Sparsities.
    base
        Seconds of the whole dense model.
    """
    total = math.fsum(own[0] for own in seconds.values())
    scale = min(1.0, base / total) if total > 0 else 1.0
    table = TimingTable(
        tuple(LayerTimes(name, tuple(levels), tuple(scale * t for t in own)) for name, own in seconds.items()), base
    )
    return table, scale


def case_times(
    shape: Layer,
    cases: Sequence[tuple[Case, int]],
    conditions: Conditions,
    device: torch.device,
    effort: Effort | None = None,
) -> list[tuple[int, ...]]:
    """Nanoseconds per call of one layer that reads in several ways, measured in turn.

    Parameters
    ----------
    shape
        The layer. Its number of outputs is used, but the channels of its input are not.
    cases
        How the layer reads, and how many channels its input stores.
    conditions, device
        Conditions and device of the measurement.
    effort
        How much to measure.

    Returns
    -------
    list
        For each case, one measurement per round.
    """
    effort = effort or Effort()
    dtype, memory_format = getattr(torch, conditions.dtype), MEMORY_FORMATS[conditions.memory_format]
    rng = np.random.default_rng(0)
    widest = max(stored for _, stored in cases)
    with torch.inference_mode():
        pool = torch.randn(math.prod(_shape(shape, widest)), device=device).to(dtype)
        calls, recordings = [], shared_pool(conditions.backend)
        for case, stored in cases:
            x = _from_pool(pool, _shape(shape, stored), memory_format)

            def made(case: Case = case, stored: int = stored) -> nn.Module:
                return placed(Specimen(shape, case, stored, rng), device, dtype, memory_format)

            calls.append(prepared_parts(made, (x,), effort.copies, conditions.backend, recordings))
        return interleaved(calls, device, effort)


def _shape(layer: Layer, channels: int) -> list[int]:
    shape = list(layer.input_shape)
    shape[layer.axis] = channels
    return shape


def _from_pool(pool: torch.Tensor, shape: Sequence[int], memory_format: torch.memory_format) -> torch.Tensor:
    """A tensor of a shape in the memory of a pool. Inputs of many widths need only the memory of the widest one."""
    own = pool[: math.prod(shape)]
    if len(shape) == 4 and memory_format is torch.channels_last:
        batch, channels, height, width = shape
        return own.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return own.view(*shape)
