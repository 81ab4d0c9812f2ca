"""Which stored widths a device works faster with: measured per block, the operators of one block side by side.

    tables = measure_widths(masked, inputs)
    wider = padded(masked, faster_widths(masked, tables))

Every operator is timed alone, at the block's stored width and at a few rounder ones above it, in turn. A block is
padded to the width at which its operators take the least time together, if that is clearly less than now.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from problems.showing.progress import ShowProgress
from upscale_opt.arguments.entrance import MASKED_GRAPH, entrance
from upscale_opt.latency.backends import EAGER
from upscale_opt.latency.calibration import Effort, conditions_of
from upscale_opt.latency.cost_tables import default_directory
from upscale_opt.latency.drift import quiet_medians
from upscale_opt.latency.width_tables import WidthTables, WidthWork
from upscale_opt.latency.width_timings import measure_works
from upscale_opt.latency.width_works import works_by_block
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.planning.padding import paddable

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
    progress: ShowProgress = None,
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
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    ModelError
        If the backend does not fit the device.
    UpscaleError
        If tables cannot be read or written.
    """
    how: dict[str, Any] = {"backend": backend, "directory": directory, "effort": effort, "progress": progress}
    return measure_works(_wanted(masked), example_inputs, **how)


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
