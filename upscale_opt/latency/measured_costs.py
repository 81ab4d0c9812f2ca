"""Measured costs: the curves for solvers, and the cheapest reading. Both are made from one table of timings.

This module does not import torch. `MeasuredCosts` is a `upscale_opt.planning.cost_model.CostModel`. For shapes that
were not measured, it uses another cost model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from problems import CostTable, Curve
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from problems.showing.reprs import shown
from upscale_opt.errors import UpscaleError
from upscale_opt.latency.cost_tables import CostTables, Key, Timing, by_reading
from upscale_opt.latency.drift import quiet_medians
from upscale_opt.planning.cost_model import CostModel, Workload
from upscale_opt.planning.reading import (
    ALIGNMENT,
    CONTIGUOUS,
    MATMUL,
    SELECTING,
    Reading,
    covering_width,
    range_start,
)

OWN, OWN_COPY = Reading(OVER_READ), Reading(COPY)
"""A range and a copy, both by the module's own operator, with channels selected before the whole prologue."""
WORTH_ALIGNING = 0.98
"""Widths are rounded up if the time at the next multiple is below this share of the time at the unrounded width."""


class TimedReading(NamedTuple):
    """A reading of an access, and its expected nanoseconds in the table."""

    reading: Reading
    nanoseconds: float


@dataclass(frozen=True, eq=False)
class MeasuredTable:
    """The cost of each reading of one access, from its timings.

    Parameters
    ----------
    key
        The key of the table.
    timings
        Timings of a calibration, each with one value per round. At least one is ``contiguous``. If fewer channels are
        kept than stored, there is also a range and a read of all channels, both by the module's own operator.

    Raises
    ------
    UpscaleError
            If a required timing is missing.
    """

    key: Key
    timings: tuple[Timing, ...]

    def __post_init__(self) -> None:
        complete = any(timing.case.reading.mode == CONTIGUOUS for timing in self.timings)
        complete = complete and len({len(timing.nanoseconds) for timing in self.timings}) == 1
        if complete and self.key.kept < self.key.stored:
            complete = OWN in self.ranges and OWN in self.whole
        if not complete:
            raise UpscaleError(f"the cost table of {self.key} lacks timings; delete it and calibrate again")

    @cached_property
    def quiet(self) -> tuple[Timing, ...]:
        """The timings with one value each, for a quiet round (`upscale_opt.latency.drift.quiet_medians`)."""
        figures = np.maximum([timing.nanoseconds for timing in self.timings], 1)
        return tuple(
            replace(timing, nanoseconds=(round(found),))
            for timing, found in zip(self.timings, quiet_medians(figures).tolist(), strict=True)
        )

    @cached_property
    def contiguous(self) -> float:
        """Nanoseconds of the consumer on an input that has exactly the kept channels."""
        return next(timing.median for timing in self.quiet if timing.case.reading.mode == CONTIGUOUS)

    @cached_property
    def least(self) -> TimedReading:
        """The fastest reading of exactly the kept channels: by the module's own operator, or by a matrix product."""
        product, view = Reading(OVER_READ, kernel=MATMUL), Reading(VIEW, kernel=MATMUL)
        found = [TimedReading(Reading(VIEW), self.contiguous)]
        if product in self.ranges:
            found.append(TimedReading(view, self._range_time(product, self.key.kept)))
        elif self.key.kept == self.key.stored and product in self.whole:
            found.append(TimedReading(view, self.whole[product]))
        return min(found, key=lambda own: own.nanoseconds)

    @cached_property
    def ranges(self) -> Mapping[Reading, tuple[np.ndarray, np.ndarray]]:
        """Over-reads (without widths) to spans below the stored number and their nanoseconds, isotonic in the span."""
        return {
            reading: _isotonic([t.case.channels for t in part], [t.median for t in part])
            for reading, timings in self._by_reading.items()
            if reading.mode == OVER_READ
            and (part := [t for t in timings if t.case.channels < self.key.stored and not t.case.shifted])
        }

    @cached_property
    def whole(self) -> Mapping[Reading, float]:
        """Over-reads to the nanoseconds of reading all stored channels."""
        return {
            reading: timing.median
            for reading, timings in self._by_reading.items()
            for timing in timings
            if reading.mode == OVER_READ and timing.case.channels == self.key.stored
        }

    @cached_property
    def pieces(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Numbers of runs, and the nanoseconds to join and read them, isotonic. None if not measured."""
        timings = self._by_reading.get(Reading(PIECES))
        return _isotonic([t.case.runs for t in timings], [t.median for t in timings]) if timings else None

    @cached_property
    def copies(self) -> Mapping[Reading, float]:
        """Copies to the nanoseconds to gather and read the kept channels.

        Copies with a matrix product are not timed. Their times are computed from the times of copy and matrix product.
        """
        copies = {own: timings[0].median for own, timings in self._by_reading.items() if own.mode == COPY}
        if self._fastest_kernel:
            plain = {own: time for own, time in copies.items() if not own.kernel}
            copies |= {replace(own, kernel=self._fastest_kernel): time + self._saved for own, time in plain.items()}
        return copies

    @property
    def _fastest_kernel(self) -> str:
        """The kernel that computes the consumer fastest on its selected channels."""
        return self.least.reading.kernel

    @property
    def _saved(self) -> float:
        """The time of the fastest kernel minus the time of the module's own operator. It is never above 0."""
        return self.least.nanoseconds - self.contiguous

    @cached_property
    def aligned(self) -> frozenset[Reading]:
        """The over-reads that are faster if the number of channels is rounded up to a multiple of 8."""
        kept, widened = self.key.kept, -(-self.key.kept // ALIGNMENT) * ALIGNMENT
        found = set()
        for reading, timings in self._by_reading.items():
            at = {t.case.channels: t.median for t in timings if not t.case.shifted}
            both = reading.mode == OVER_READ and {kept, widened} <= at.keys()
            if both and at[widened] < WORTH_ALIGNING * at[kept]:
                found.add(reading)
        return frozenset(found)

    @cached_property
    def shifts(self) -> Mapping[Reading, float]:
        """Over-reads to how many times as long they take if they begin between two multiples of 8 channels.

        At least 1, and 1 where that was not measured.
        """
        found = {}
        for reading, timings in self._by_reading.items():
            at = {t.case.shifted: t.median for t in timings if t.case.channels == self.key.kept}
            found[reading] = max(1.0, at[True] / at[False]) if len(at) == 2 else 1.0
        return found

    def cheapest(self, span: int, runs: int, *, start: int = 0, called_once: bool = True) -> TimedReading:
        """The cheapest reading of channels that lie within a span, in a number of contiguous runs.

        A range that begins between two multiples of 8 channels may take longer; then a wider one that begins at a
        multiple is considered, too. `start` is the position of the first kept channel.

        A consumer that is called several times cannot use a kernel that selects channels itself, because its calls may
        read differently.
        """
        kept, stored = self.key.kept, self.key.stored
        if kept == stored:
            return self.least
        mode = VIEW if span == kept else OVER_READ
        found = [TimedReading(replace(own, width=stored), time) for own, time in self.whole.items()]
        for own in self.ranges if span < stored else ():
            rounded = -(-span // ALIGNMENT) * ALIGNMENT if own in self.aligned else span
            for width in dict.fromkeys((rounded, covering_width(start, span, stored))):
                width = width if width < stored else span  # the full width has a separate time
                given = None if width == span else width
                time = self._placed_time(own, start, span, width)
                found.append(TimedReading(replace(own, mode=mode, width=given), time))
        if self.pieces is not None and 2 <= runs <= self.pieces[0][-1]:
            time = float(np.interp(runs, *self.pieces)) + self._saved
            found.append(TimedReading(Reading(PIECES, kernel=self._fastest_kernel), time))
        found += [
            TimedReading(own, time) for own, time in self.copies.items() if called_once or own.kernel not in SELECTING
        ]
        return min(found, key=lambda own: own.nanoseconds)

    def time_of(self, reading: Reading, *, width: int, runs: int, start: int = 0, span: int | None = None) -> float:
        """Nanoseconds of a given reading, which need not be the cheapest.

        Parameters
        ----------
        reading
            Mode, kernel, and where channels are selected. If it was not timed, the time of the module's own operator
            with early selection is used.
        width
            Number of channels read, for a view or an over-read.
        runs
            Number of contiguous runs of the kept channels, for pieces. Numbers above the largest timed number count as
            that number.
        start, span
            Position of the first kept channel, and channels from there to the last one (default: `width`), for a view
            or an over-read.
        """
        kernel = reading.kernel
        everywhere = Reading(OVER_READ, kernel=kernel)  # a read of everything has no selection
        if self.key.kept == self.key.stored:
            return self.whole.get(everywhere, self.contiguous)
        if reading.mode == PIECES and self.pieces is not None:
            return float(np.interp(runs, *self.pieces)) + (self._saved if kernel == self._fastest_kernel else 0.0)
        if reading.mode in (PIECES, COPY):
            copy = Reading(COPY, kernel=kernel, late=reading.late)
            return self.copies.get(copy, self.copies[OWN_COPY])
        if width == self.key.stored:
            return self.whole.get(everywhere, self.whole[OWN])
        way = Reading(OVER_READ, kernel=kernel, late=reading.late)
        return self._placed_time(way if way in self.ranges else OWN, start, width if span is None else span, width)

    def _placed_time(self, way: Reading, start: int, span: int, width: int) -> float:
        """Nanoseconds of a range of this width around a span, by where it begins."""
        begins = range_start(start, span, width, self.key.stored)
        return self._range_time(way, width) * (self.shifts.get(way, 1.0) if begins % ALIGNMENT else 1.0)

    def _range_time(self, way: Reading, width: int) -> float:
        """Nanoseconds of a range with a timed reading. Between the timed ranges and the full width, it never falls."""
        spans, times = self.ranges[way]
        whole = self.whole.get(replace(way, late=False), self.whole[OWN])
        return float(np.interp(width, [*spans, self.key.stored], [*times, max(times[-1], whole)]))

    def to_cost_table(self) -> CostTable:
        """The curves for solvers, in whole nanoseconds. Between two spans, the cost per channel is whole too."""
        kept, stored = self.key.kept, self.key.stored
        if kept == stored:
            return CostTable(Curve((kept,), (round(self.least.nanoseconds),)))
        spans = sorted({kept, stored, *(int(s) for curve in self.ranges.values() for s in curve[0])})
        whole = min(self.whole.values())
        costs = [min(whole, *(self._range_time(way, s) for way in self.ranges)) for s in spans[:-1]]
        read = _whole_curve(np.array(spans), np.array([*costs, whole]))
        copy = None
        if self.copies:
            copy = max(0, round(min(self.copies.values())) - read.costs[0])
        return CostTable(read, copy, self._pieces_over(read.costs[0], copy))

    def _pieces_over(self, contiguous: int, copy: int | None) -> Curve | None:
        """The cost of joining beyond a view, only where it is less than a copy."""
        if self.pieces is None:
            return None
        runs, times = self.pieces
        curve = _whole_curve(runs, np.maximum(times + self._saved - contiguous, 0))
        offered = [i for i, cost in enumerate(curve.costs) if copy is None or cost < copy]
        if not offered or curve.points[0] != 2:
            return None
        return Curve(curve.points[: offered[-1] + 1], curve.costs[: offered[-1] + 1])

    @cached_property
    def _by_reading(self) -> Mapping[Reading, list[Timing]]:
        return by_reading(self.quiet)


@shown
@dataclass(eq=False)
class MeasuredCosts:
    """The cost tables of a calibration. For shapes without a table, another cost model is used.

    Parameters
    ----------
    tables
        The measurements.
    fallback
        The cost model for shapes that were not measured.
    """

    tables: CostTables
    fallback: CostModel
    found: set[Key] = field(default_factory=set, init=False)
    missing: set[Key | None] = field(default_factory=set, init=False)

    def __str__(self) -> str:
        return f"{self.tables}; else {self.fallback}" if self.missing else str(self.tables)

    @property
    def name(self) -> str:
        """``measured``, with a count if some shapes were not measured, or the other model's name if none were."""
        if not self.missing:
            return "measured"
        if not self.found:
            return self.fallback.name
        return (
            f"measured ({len(self.found)} of {len(self.found) + len(self.missing)} shapes, else {self.fallback.name})"
        )

    def measured(self, layer: object, *, kept: int, stored: int) -> MeasuredTable | None:
        """The table of a shape. None if it was not measured."""
        key = Key(layer, kept, stored)  # type: ignore[arg-type]
        timings = self.tables.entries.get(key)
        return MeasuredTable(key, timings) if timings else None

    def table(self, workload: Workload, *, kept: int, stored: int) -> CostTable:
        """The curves of an access; see `upscale_opt.planning.cost_model.CostModel`."""
        key = None if workload.layer is None else Key(workload.layer, kept, stored)
        own = self.measured(workload.layer, kept=kept, stored=stored)
        if own is None:
            self.missing.add(key)
            return self.fallback.table(workload, kept=kept, stored=stored)
        self.found.add(own.key)
        return own.to_cost_table()


def _isotonic(points: list[int], times: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The non-decreasing curve that is nearest to some timings (least squares; Barlow et al., 1972)."""
    return np.array(points), np.asarray(isotonic_regression(times).x)


def _whole_curve(points: np.ndarray, times: np.ndarray) -> Curve:
    """A curve near these times with whole slopes, so one tick is one nanosecond."""
    points, times = points.astype(np.int64), np.maximum.accumulate(times)
    costs = [round(float(times[0]))]
    for left, right, time in zip(points[:-1], points[1:], times[1:], strict=True):
        width = int(right - left)
        costs.append(costs[-1] + max(0, round((float(time) - costs[-1]) / width)) * width)
    return Curve(points.tolist(), costs)
