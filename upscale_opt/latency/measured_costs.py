"""Measured costs: the curves that solvers see, and the cheapest way to read, both made of one table of timings.

No torch. `MeasuredCosts` is a `upscale_opt.planning.cost_model.CostModel`; where nothing was measured it asks another
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.optimize import isotonic_regression

from problems import CostTable, Curve
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.errors import UpscaleError
from upscale_opt.latency.cost_tables import CONTIGUOUS, CostTables, Key, Timing, Way, by_form
from upscale_opt.latency.drift import quiet_medians
from upscale_opt.planning.cost_model import CostModel, Workload
from upscale_opt.planning.plans import ALIGNMENT, GATHERING, MATMUL

OWN = Way()
"""The module's own operator, channels selected in front of all that serves it alone."""
WORTH_ALIGNING = 0.98
"""Time at the next multiple over the time at an odd width, below which widths are rounded up."""


@dataclass(frozen=True)
class Reading:
    """How an access is carried out.

    Attributes
    ----------
    mode
        ``view``, ``over-read``, ``pieces`` or ``copy``.
    nanoseconds
        What the table expects it to take.
    width
        Channels read, where that is more than the smallest range; None otherwise.
    kernel
        Empty for the module's own operator, or one of `upscale_opt.planning.plans.KERNELS`.
    late
        Whether channels are selected behind what serves the consumer alone, and not in front of it.
    """

    mode: str
    nanoseconds: float
    width: int | None = None
    kernel: str = ""
    late: bool = False


@dataclass(frozen=True, eq=False)
class MeasuredTable:
    """What one access costs in each way to read, from its timings.

    Parameters
    ----------
    key
        What it is of.
    timings
        Of a calibration, each with a figure per round: at least one ``contiguous``, and, where fewer channels are kept
        than stored, one of a range and one of everything by the module's own operator.

    Raises
    ------
    UpscaleError
        If one of these is missing.
    """

    key: Key
    timings: tuple[Timing, ...]

    def __post_init__(self) -> None:
        complete = any(timing.form == CONTIGUOUS for timing in self.timings)
        complete = complete and len({len(timing.nanoseconds) for timing in self.timings}) == 1
        if complete and self.key.kept < self.key.stored:
            complete = OWN in self.ranges and OWN in self.whole
        if not complete:
            raise UpscaleError(f"the cost table of {self.key} lacks timings; delete it and calibrate again")

    @cached_property
    def quiet(self) -> tuple[Timing, ...]:
        """The timings with one figure each, of a quiet round (`upscale_opt.latency.drift.quiet_medians`)."""
        figures = np.maximum([timing.nanoseconds for timing in self.timings], 1)
        return tuple(
            replace(timing, nanoseconds=(round(found),))
            for timing, found in zip(self.timings, quiet_medians(figures).tolist(), strict=True)
        )

    @cached_property
    def contiguous(self) -> float:
        """Nanoseconds of the consumer on an input that holds just what it keeps."""
        return next(timing.median for timing in self.quiet if timing.form == CONTIGUOUS)

    @cached_property
    def least(self) -> Reading:
        """The fastest way to read just what is kept: by the module's own operator, or by a matrix product."""
        product = Way(MATMUL)
        found = [Reading(VIEW, self.contiguous)]
        if product in self.ranges:
            found.append(Reading(VIEW, self._range_time(product, self.key.kept), None, MATMUL))
        elif self.key.kept == self.key.stored and product in self.whole:
            found.append(Reading(VIEW, self.whole[product], None, MATMUL))
        return min(found, key=lambda reading: reading.nanoseconds)

    @cached_property
    def ranges(self) -> Mapping[Way, tuple[np.ndarray, np.ndarray]]:
        """Way to spans below the stored number and their nanoseconds, isotonic in the span."""
        return {
            way: _isotonic([t.channels for t in part], [t.median for t in part])
            for (form, way), timings in self._by_form.items()
            if form == OVER_READ and (part := [t for t in timings if t.channels < self.key.stored])
        }

    @cached_property
    def whole(self) -> Mapping[Way, float]:
        """Way to the nanoseconds of reading everything that is stored."""
        return {
            way: timing.median
            for (form, way), timings in self._by_form.items()
            for timing in timings
            if form == OVER_READ and timing.channels == self.key.stored
        }

    @cached_property
    def pieces(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Numbers of runs and the nanoseconds of joining and reading them, isotonic; None if not measured."""
        timings = self._by_form.get((PIECES, OWN))
        return _isotonic([t.runs for t in timings], [t.median for t in timings]) if timings else None

    @cached_property
    def copies(self) -> Mapping[Way, float]:
        """Way to the nanoseconds of gathering the kept channels and reading them.

        With a matrix product they are not timed, but follow from the times of both.
        """
        copies = {way: timings[0].median for (form, way), timings in self._by_form.items() if form == COPY}
        if self.least.kernel:
            own = {way: time for way, time in copies.items() if not way.kernel}
            copies |= {Way(self.least.kernel, way.late): time + self._saved for way, time in own.items()}
        return copies

    @property
    def _saved(self) -> float:
        """What the fastest kernel adds to the time of the module's own operator: not above 0."""
        return self.least.nanoseconds - self.contiguous

    @cached_property
    def aligned(self) -> frozenset[Way]:
        """The ways in which a range of a multiple of 8 channels is faster than one of an odd number that is smaller."""
        kept, widened = self.key.kept, -(-self.key.kept // ALIGNMENT) * ALIGNMENT
        found = set()
        for (form, way), timings in self._by_form.items():
            at = {t.channels: t.median for t in timings}
            if form == OVER_READ and {kept, widened} <= at.keys() and at[widened] < WORTH_ALIGNING * at[kept]:
                found.add(way)
        return frozenset(found)

    def reading(self, span: int, runs: int, *, called_once: bool = True) -> Reading:
        """The cheapest way to read channels that lie within a span, in so many contiguous runs.

        A consumer that is called several times cannot gather by itself: its calls may read in different ways.
        """
        kept, stored = self.key.kept, self.key.stored
        if kept == stored:
            return self.least
        mode = VIEW if span == kept else OVER_READ
        found = [Reading(OVER_READ, time, stored, *way) for way, time in self.whole.items()]
        for way in self.ranges if span < stored else ():
            width = -(-span // ALIGNMENT) * ALIGNMENT if way in self.aligned else span
            width = width if width < stored else span  # all that is stored has a time of its own
            given = None if width == span else width
            found.append(Reading(mode, self._range_time(way, width), given, *way))
        if self.pieces is not None and 2 <= runs <= self.pieces[0][-1]:
            time = float(np.interp(runs, *self.pieces)) + self._saved
            found.append(Reading(PIECES, time, None, self.least.kernel))
        copies = {way: time for way, time in self.copies.items() if called_once or way.kernel != GATHERING}
        found += [Reading(COPY, time, None, *way) for way, time in copies.items()]
        return min(found, key=lambda reading: reading.nanoseconds)

    def time_of(self, mode: str, *, width: int, runs: int, kernel: str = "", late: bool = False) -> float:
        """Nanoseconds of reading in a given way, cheapest or not.

        Parameters
        ----------
        mode
            The read mode.
        width
            Channels read, for a view or an over-read.
        runs
            Contiguous runs of the kept channels, for pieces. More than were timed count as the most that were.
        kernel, late
            As of a `Reading`. What was not timed counts as the module's own operator, channels selected early.
        """
        way, everywhere = Way(kernel, late), Way(kernel)  # what reads everything selects nowhere
        if self.key.kept == self.key.stored:
            return self.whole.get(everywhere, self.contiguous)
        if mode == PIECES and self.pieces is not None:
            return float(np.interp(runs, *self.pieces)) + (self._saved if kernel == self.least.kernel else 0.0)
        if mode in (PIECES, COPY):
            return self.copies.get(way, self.copies[OWN])
        if width == self.key.stored:
            return self.whole.get(everywhere, self.whole[OWN])
        return self._range_time(way if way in self.ranges else OWN, width)

    def _range_time(self, way: Way, width: int) -> float:
        """Nanoseconds of a range in a way that was timed; towards all that is stored it costs no less."""
        spans, times = self.ranges[way]
        whole = self.whole.get(Way(way.kernel), self.whole[OWN])
        return float(np.interp(width, [*spans, self.key.stored], [*times, max(times[-1], whole)]))

    def to_cost_table(self) -> CostTable:
        """The curves that solvers see: whole nanoseconds, a whole number of them per channel between two spans."""
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
        """What joining costs beyond a view, as far as that is less than a copy."""
        if self.pieces is None:
            return None
        runs, times = self.pieces
        curve = _whole_curve(runs, np.maximum(times + self._saved - contiguous, 0))
        offered = [i for i, cost in enumerate(curve.costs) if copy is None or cost < copy]
        if not offered or curve.points[0] != 2:
            return None
        return Curve(curve.points[: offered[-1] + 1], curve.costs[: offered[-1] + 1])

    @cached_property
    def _by_form(self) -> Mapping[tuple[str, Way], list[Timing]]:
        return by_form(self.quiet)


@dataclass(eq=False)
class MeasuredCosts:
    """Cost tables of a calibration, and of another model where there are none.

    Parameters
    ----------
    tables
        The measurements.
    fallback
        Asked for what was not measured.
    """

    tables: CostTables
    fallback: CostModel
    found: set[Key] = field(default_factory=set, init=False)
    missing: set[Key | None] = field(default_factory=set, init=False)

    def __str__(self) -> str:
        return f"{self.tables}; else {self.fallback}" if self.missing else str(self.tables)

    @property
    def name(self) -> str:
        """``measured``, with a count if some are not, or the other model's name if none is."""
        if not self.missing:
            return "measured"
        if not self.found:
            return self.fallback.name
        return (
            f"measured ({len(self.found)} of {len(self.found) + len(self.missing)} shapes, else {self.fallback.name})"
        )

    def measured(self, layer: object, *, kept: int, stored: int) -> MeasuredTable | None:
        """The table of a shape; None if it was not measured."""
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
    """The non-decreasing curve nearest to some timings (least squares; Barlow et al., 1972)."""
    return np.array(points), np.asarray(isotonic_regression(times).x)


def _whole_curve(points: np.ndarray, times: np.ndarray) -> Curve:
    """A curve through about these times whose slopes are whole, so that one tick is one nanosecond."""
    points, times = points.astype(np.int64), np.maximum.accumulate(times)
    costs = [round(float(times[0]))]
    for left, right, time in zip(points[:-1], points[1:], times[1:], strict=True):
        width = int(right - left)
        costs.append(costs[-1] + max(0, round((float(time) - costs[-1]) / width)) * width)
    return Curve(points.tolist(), costs)
