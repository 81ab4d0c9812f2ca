"""Which numbers of kept channels a device reads faster: measured per consumer, on a tensor of just its kept channels.

    rounder = rounded(masked, inputs, "auto")

A count is raised to a rounder one that takes no more time. It is only lowered if the caller asks for it: if the time is
clearly less, and the channels that go have a small share of the consumer's squared norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from problems.showing.progress import ShowProgress
from upscale_opt.arguments.entrance import MASKED_GRAPH, entrance
from upscale_opt.arguments.modes import AUTO, NEAREST
from upscale_opt.latency.backends import EAGER
from upscale_opt.latency.calibration import Effort
from upscale_opt.latency.drift import quiet_medians
from upscale_opt.latency.stored_widths import MOST_WIDER, MULTIPLES, WORTH_PADDING, widths_to_try
from upscale_opt.latency.width_tables import WidthTables, WidthWork
from upscale_opt.latency.width_timings import measure_works
from upscale_opt.latency.width_works import works_by_consumer
from upscale_opt.masking.counts import Masked, multiples, with_counts
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.rounding import channels_of, share_of_weakest

SMALL_SHARE = 0.01
"""Largest share of a consumer's squared norm, over its kept channels, that may be dropped to reach a rounder count."""


def rounded(
    masked: Masked,
    example_inputs: Sequence[Any],
    to: str | int = AUTO,
    *,
    min_channels: int = 1,
    backend: str = EAGER,
    directory: str | Path | None = None,
    effort: Effort | None = None,
    progress: ShowProgress = None,
) -> Masked:
    """The same with rounder numbers of kept channels; see `upscale_opt.comparing.masked_model.MaskedModel.round`.

    If a masked model is given, its problems are those of before.
    """
    masked = with_counts(masked, multiples(masked, to if isinstance(to, int) else 1, min_channels))
    if isinstance(to, int):
        return masked
    nearest = to == NEAREST
    how: dict[str, Any] = {"backend": backend, "directory": directory, "effort": effort, "progress": progress}
    tables = measure_counts(masked, example_inputs, nearest=nearest, min_channels=min_channels, **how)
    return with_counts(masked, faster_counts(masked, tables, nearest=nearest, min_channels=min_channels))


def smaller_counts(kept: int, least: int = 1) -> tuple[int, ...]:
    """The rounder counts below a count, descending: the multiples before it, down to 1 / `MOST_WIDER` of it.

    Examples
    --------
    >>> smaller_counts(131), smaller_counts(131, least=129), smaller_counts(8)
    ((128,), (), ())
    """
    tried = {kept // multiple * multiple for multiple in MULTIPLES}
    return tuple(sorted((own for own in tried if max(least, kept / MOST_WIDER) <= own < kept), reverse=True))


@entrance(masked=MASKED_GRAPH)
def measure_counts(
    masked: MaskedGraph,
    example_inputs: Sequence[Any],
    *,
    nearest: bool = False,
    min_channels: int = 1,
    backend: str = EAGER,
    directory: str | Path | None = None,
    effort: Effort | None = None,
    progress: ShowProgress = None,
) -> WidthTables:
    """Measure what is missing of the times of consumers over the number of channels that they keep.

    Parameters
    ----------
    masked
        What `upscale_opt.prune` or `upscale_opt.effective_masks` returned.
    example_inputs
        The tuple of inputs it was traced with: device, dtype, memory format and batch are theirs.
    nearest
        Time smaller counts too.
    min_channels
        Smaller counts are at least this.
    backend, directory, effort, progress
        As in `upscale_opt.latency.stored_widths.measure_widths`.

    Raises
    ------
    ModelError
        If the backend does not fit the device.
    UpscaleError
        If tables cannot be read or written.
    """
    wanted: dict[WidthWork, set[int]] = {}
    for weight, works in works_by_consumer(masked).items():
        counts = _counts(masked, weight, nearest, min_channels)
        for work in works if len(counts) > 1 else ():
            wanted.setdefault(work, set()).update(counts)
    how: dict[str, Any] = {"backend": backend, "directory": directory, "effort": effort, "progress": progress}
    return measure_works(wanted, example_inputs, **how)


def faster_counts(
    masked: MaskedGraph, tables: WidthTables, *, nearest: bool = False, min_channels: int = 1
) -> dict[str, int]:
    """Consumers that should keep another number of channels, with that number.

    Of the rounder counts above the present one that take no more time, the fastest is chosen, on ties the largest. With
    `nearest`, a smaller one is chosen if it takes at most `WORTH_PADDING` of that time, and what it drops has at most
    `SMALL_SHARE` of the squared norm. Consumers that were not timed at some count stay as they are.
    """
    found = {}
    for weight, works in works_by_consumer(masked).items():
        counts = _counts(masked, weight, nearest, min_channels)
        known = [tables.entries.get(work, {}) for work in works]
        if len(counts) < 2 or any(not set(counts) <= own.keys() for own in known):
            continue
        times = np.zeros(len(counts))
        for own, number in zip(known, works.values(), strict=True):
            times += number * quiet_medians(np.array([own[count] for count in counts], dtype=np.float64))
        kept = _kept(masked, weight)
        time = {count: float(own) for count, own in zip(counts, times, strict=True)}
        best = min((time[count], -count) for count in counts if count >= kept)
        smaller = min(((time[count], -count) for count in counts if count < kept), default=(np.inf, 0))
        count = -(smaller if smaller[0] <= WORTH_PADDING * best[0] else best)[1]
        if count != kept:
            found[weight] = count
    return found


def _counts(masked: MaskedGraph, weight: str, nearest: bool, min_channels: int) -> tuple[int, ...]:
    """The counts at which a consumer is timed, ascending; the present one is among them."""
    kept, inputs = _kept(masked, weight), len(channels_of(masked.graph, weight, masked.masks[weight]))
    smaller = smaller_counts(kept, min_channels) if nearest else ()
    allowed = [
        own
        for own in smaller
        if share_of_weakest(masked.graph, weight, masked.masks[weight], kept - own) <= SMALL_SHARE
    ]
    return (*sorted(allowed), *widths_to_try(kept, inputs))


def _kept(masked: MaskedGraph, weight: str) -> int:
    return int(channels_of(masked.graph, weight, masked.masks[weight]).sum())
