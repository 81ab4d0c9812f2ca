"""Calibration in two dimensions: times every operator group at the corners of its widths, and where the time bends.

    groups = partition(graph)
    tables = calibrate_groups(graph, groups, inputs)

All widths of a group that are timed together are timed in turn, with the full width among them. Measurements of
several batches are put on one scale by it. In ONNX Runtime, a network is one call, and a group alone is a call, too; so
the time of a call that does nothing is taken off every group.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.errors import UpscaleWarning
from upscale_opt.latency.backends import EAGER, ONNXRUNTIME, prepared_parts, shared_pool
from upscale_opt.latency.calibration import MEMORY_FORMATS, Effort, conditions_of, placed
from upscale_opt.latency.cost_tables import Conditions, default_directory
from upscale_opt.latency.drift import slowness
from upscale_opt.latency.interleaving import interleaved
from upscale_opt.latency.retained_memory import RETAINED, retained_memory, return_memory
from upscale_opt.onnx_runtime.requirements import OnnxError, RemovedOperatorError
from upscale_opt.tracing.graphs import Graph
from upscale_opt.widths.group_specimens import GroupSpecimens
from upscale_opt.widths.group_tables import GroupTable, GroupTables, Point
from upscale_opt.widths.operator_groups import OperatorGroup, Partition

TOLERANCE = 0.03
"""Share by which a time may differ from what its neighbours say; beyond, another width is timed between them."""
LEAST_TIME = 0.1
"""Nanoseconds of what takes no time: tables hold times above 0."""
MOST_TICKS = 6
"""Most widths per side of a table."""
GROUP_EFFORT = Effort(rounds=6, sweeps=1, copies=3)
"""How carefully groups are timed by default."""

Measure = Callable[[Sequence[Point]], Mapping[Point, float]]
"""Times points of one group, in nanoseconds on one scale."""


@dataclass(frozen=True)
class Request:
    """A table that is needed.

    Attributes
    ----------
    signature
        Of all groups that share it.
    group
        The group of the largest widths among them, which is timed.
    first, second
        Totals at which it may be timed, ascending; the last is the full width.
    """

    signature: str
    group: OperatorGroup
    first: tuple[int, ...]
    second: tuple[int, ...]


def calibrate_groups(
    graph: Graph,
    parts: Partition,
    candidates: Mapping[int, Sequence[int]],
    example_inputs: Sequence[Any],
    *,
    backend: str = EAGER,
    directory: str | Path | None = None,
    effort: Effort | None = None,
    retained: bool = True,
    progress: ShowProgress = None,
) -> GroupTables:
    """Measure what is missing of the tables of a network's groups.

    Tables are written after every group, so that a calibration that was interrupted goes on.

    Parameters
    ----------
    graph, parts
        The traced network and its groups.
    candidates
        Free block to the widths that may be chosen, ascending; the last is its size.
    example_inputs
        The tuple of inputs it was traced with: device, dtype, memory format and batch are theirs.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    directory
        Where tables are kept. Default: `upscale_opt.latency.cost_tables.default_directory`.
    effort
        How carefully to time. Default: `GROUP_EFFORT`.
    retained
        Whether freed memory stays with the process, as in `upscale_opt.profile`. False: as a saved network runs in a
        process of its own (`upscale_opt.latency.retained_memory`).
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    ModelError
        If the backend does not fit the device.
    UpscaleError
        If tables cannot be read or written.
    """
    conditions = conditions_of(example_inputs, backend=backend)
    conditions = conditions if retained else replace(conditions, memory="")
    directory = default_directory() if directory is None else directory
    tables = GroupTables.load(directory, conditions)
    effort = effort or GROUP_EFFORT
    device = next((x.device for x in example_inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    specimens = GroupSpecimens(graph, parts.free)
    missing = {own.signature: own for own in requests_of(graph, parts, candidates)}
    for name, own in list(missing.items()):
        if tables.known(name, own.first, own.second, effort.seconds) is not None:
            del missing[name]
    bar = ProgressBar("time layers", missing.items(), unit="group", progress=progress, measures=True)
    for name, own in bar:
        sides: list[Sequence[int]] = [own.first, own.second]
        if name in tables.entries:  # what was covered stays covered
            before = tables.entries[name]
            sides = [sorted({*own.first, before.first[0]}), sorted({*own.second, before.second[0]})]
        tables.entries[name] = _timed(_Timer(specimens, own.group, conditions, device, effort), sides)
        tables.seconds[name] = effort.seconds
        tables.write(directory)
    return tables


def _timed(timer: _Timer, sides: Sequence[Sequence[int]]) -> GroupTable:
    """The table of a group. What takes no time in ONNX Runtime has the least time of a table everywhere."""
    try:
        with timer:
            return adaptive_table(sides[0], sides[1], timer.measure)
    except RemovedOperatorError:
        first, second = (tuple(sorted({own[0], own[-1]})) for own in sides)
        return GroupTable(first, second, np.full((len(first), len(second)), LEAST_TIME))
    except OnnxError as error:
        text = f"{timer.group.name} is timed as a network of its own, with reorders that it may not need: {error}"
        warnings.warn(text, UpscaleWarning, stacklevel=4)
        with replace(timer, is_alone=True) as alone:
            return adaptive_table(sides[0], sides[1], alone.measure)


def requests_of(graph: Graph, parts: Partition, candidates: Mapping[int, Sequence[int]]) -> list[Request]:
    """The table that every group needs, in the order of `Partition.groups`.

    Groups of the same signature share a table that covers the widths of all of them, if one of them is the largest on
    both sides.
    """
    specimens = GroupSpecimens(graph, parts.free)
    sizes = [specimens.sizes(group) for group in parts.groups]
    alike: dict[str, list[int]] = {}
    for i, group in enumerate(parts.groups):
        alike.setdefault(specimens.signature(group), []).append(i)
    found: dict[int, Request] = {}
    for name, own in alike.items():
        largest = tuple(np.max([sizes[i] for i in own], axis=0).tolist())
        shared = [own] if any(sizes[i] == largest for i in own) else _by_size(own, sizes)
        for members in shared:
            groups = [parts.groups[i] for i in members]
            first = {total for group in groups for total in totals(graph, group.inputs, candidates)}
            second = {total for group in groups for total in totals(graph, group.outputs, candidates)}
            timed = max(members, key=sizes.__getitem__)
            full = "; up to {} and {} channels".format(*sizes[timed])
            request = Request(name + full, parts.groups[timed], tuple(sorted(first)), tuple(sorted(second)))
            found |= dict.fromkeys(members, request)
    return [found[i] for i in range(len(parts.groups))]


def _by_size(groups: Sequence[int], sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of the same size, together."""
    found: dict[tuple[int, int], list[int]] = {}
    for i in groups:
        found.setdefault(sizes[i], []).append(i)
    return list(found.values())


def totals(graph: Graph, side: Sequence[int], candidates: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """The total widths that a side can have, ascending: all sums of one candidate per block. (0,) for no side."""
    reached = np.zeros(1 + sum(graph.blocks[b].size for b in side), dtype=bool)
    reached[0] = True
    for b in side:
        widths = candidates.get(b, (graph.blocks[b].size,))
        reached = np.logical_or.reduce(
            [np.concatenate([np.zeros(w, dtype=bool), reached[: len(reached) - w]]) for w in widths]
        )
    return tuple(np.flatnonzero(reached).tolist())


def adaptive_table(first: Sequence[int], second: Sequence[int], measure: Measure) -> GroupTable:
    """Time the corners of a rectangle of widths, then widths in between where the time is not linear.

    Parameters
    ----------
    first, second
        Widths that may be timed, ascending.
    measure
        Times points.
    """
    axes = (tuple(first), tuple(second))
    ticks = [sorted({own[0], own[-1]}) for own in axes]
    known = dict(measure([(i, j) for i in ticks[0] for j in ticks[1]]))
    waiting = [(axis, own[0], own[-1]) for axis, own in enumerate(ticks) if len(own) > 1]
    while waiting:
        probes = [
            (axis, low, high, middle)
            for axis, low, high in waiting
            if len(ticks[axis]) < MOST_TICKS and (middle := _middle(axes[axis], low, high)) is not None
        ]
        wanted = {_point(axis, middle, end) for axis, _, _, middle in probes for end in _ends(ticks[1 - axis])}
        known |= measure([point for point in wanted if point not in known]) if wanted - known.keys() else {}
        waiting = []
        for axis, low, high, middle in probes:
            bends = [
                abs(known[_point(axis, middle, end)] / _between(known, axis, (low, middle, high), end) - 1)
                for end in _ends(ticks[1 - axis])
            ]
            if max(bends) > TOLERANCE and len(ticks[axis]) < MOST_TICKS:
                ticks[axis] = sorted({*ticks[axis], middle})
                waiting += [(axis, low, middle), (axis, middle, high)]
    every = [(i, j) for i in ticks[0] for j in ticks[1]]
    missing = [point for point in every if point not in known]
    known |= measure(missing) if missing else {}
    times = np.array([known[point] for point in every]).reshape(len(ticks[0]), len(ticks[1]))
    return GroupTable(tuple(ticks[0]), tuple(ticks[1]), np.maximum(times.round(1), LEAST_TIME))  # as a file holds them


def _middle(allowed: Sequence[int], low: int, high: int) -> int | None:
    """The width nearest to the middle of an interval; None if there is none inside."""
    inside = [width for width in allowed if low < width < high]
    return min(inside, key=lambda width: abs(2 * width - low - high)) if inside else None


def _ends(ticks: Sequence[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys((ticks[0], ticks[-1])))


def _point(axis: int, width: int, other: int) -> Point:
    return (width, other) if axis == 0 else (other, width)


def _between(known: Mapping[Point, float], axis: int, widths: tuple[int, int, int], other: int) -> float:
    """What the ends of an interval say about the time in the middle."""
    low, middle, high = widths
    share = (middle - low) / (high - low)
    return (1 - share) * known[_point(axis, low, other)] + share * known[_point(axis, high, other)]


@dataclass(eq=False)
class _Timer:
    """Times one group at several widths. Prepared specimens are kept until its context ends."""

    specimens: GroupSpecimens
    group: OperatorGroup
    conditions: Conditions
    device: torch.device
    effort: Effort
    is_alone: bool = False
    """Whether the group is prepared as a network of its own, not as a part."""
    calls: dict[Point, list[Callable[[], Any]]] = field(default_factory=dict, init=False)
    idle: list[list[Callable[[], Any]]] = field(default_factory=list, init=False)
    scale: float | None = field(default=None, init=False)
    contexts: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> _Timer:
        self.full, self.pool = self.specimens.sizes(self.group), shared_pool(self.conditions.backend)
        self.contexts.enter_context(torch.inference_mode())
        if self.conditions.memory == RETAINED:
            self.contexts.enter_context(retained_memory())
        else:
            return_memory()
        if self.conditions.backend == ONNXRUNTIME:
            nothing = (nn.Identity().eval, (torch.zeros(1),), self.effort.copies, ONNXRUNTIME)
            self.idle = [prepared_parts(*nothing, alone=True)]
        return self

    def __exit__(self, *error: Any) -> None:
        self.calls.clear()
        self.idle.clear()
        self.contexts.close()

    def measure(self, points: Sequence[Point]) -> dict[Point, float]:
        """Medians of several points, in nanoseconds at the speed of the first batch."""
        every = list(dict.fromkeys([self.full, *points]))
        for point in every:
            if point not in self.calls:
                self.calls[point] = self._prepared(point)
        effort = replace(self.effort, sweeps=1)
        calls = [*(self.calls[p] for p in every), *self.idle]
        figures = np.maximum(np.array(interleaved(calls, self.device, effort)), 1)
        medians = np.median(figures / slowness(figures), axis=1)
        self.scale = float(medians[0]) if self.scale is None else self.scale
        idle = medians[len(every) :].sum()  # of a call that does nothing, if calls are no part of a network
        scaled = (medians[: len(every)] - idle) / medians[0] * self.scale
        return {point: float(own) for point, own in zip(every, scaled, strict=True) if point in points}

    def _prepared(self, point: Point) -> list[Callable[[], Any]]:
        dtype = getattr(torch, self.conditions.dtype)
        memory_format = MEMORY_FORMATS[self.conditions.memory_format]
        inputs = self.specimens.inputs_of(
            self.group, point, dtype=dtype, device=self.device, memory_format=memory_format
        )

        def made() -> nn.Module:
            return placed(self.specimens.make(self.group, point), self.device, dtype, memory_format)

        copies, backend = self.effort.copies, self.conditions.backend
        return prepared_parts(made, inputs, copies, backend, self.pool, alone=self.is_alone)
