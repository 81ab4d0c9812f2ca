"""Choosers: ways from a speedup that is asked for to widths, or to widths and windows, by the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from solvers.widths.dispatch import choose_widths
from upscale_opt.widths.candidates import Widths
from upscale_opt.widths.corrections import Correction
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.stream_windows import choose_stream_windows
from upscale_opt.widths.window_streams import WindowStream


@dataclass(frozen=True, eq=False)
class Picked:
    """What a chooser found.

    Attributes
    ----------
    widths
        Widths and windows of all free blocks.
    predicted
        Speedup of the whole network by the tables.
    loss, bound
        Estimated loss, and what no choice for the same budget can go below. None if nothing is known.
    """

    widths: Widths
    predicted: float
    loss: float
    bound: float | None


class Chooser(Protocol):
    """Chooses for a speedup."""

    def choose(self, programme: Programme, correction: Correction, asked: float, time_limit: float) -> Picked:
        """Widths and windows for a speedup of the whole network, by corrected tables.

        Raises
        ------
        UnreachableSpeedupError
            If the tables allow no such speedup.
        """
        ...


@dataclass(frozen=True)
class WidthChooser:
    """One width per block.

    Attributes
    ----------
    solver
        A method of `solvers.widths.dispatch.choose_widths`.
    """

    solver: str

    def choose(self, programme: Programme, correction: Correction, asked: float, time_limit: float) -> Picked:
        """Widths of little loss; see `Chooser`."""
        problem = programme.problem(1.0, scale=correction.scale, constant=correction.constant)
        found = choose_widths(problem.for_speedup(asked), self.solver, time_limit=time_limit)
        widths = {b: found.widths[programme.graph.blocks[b].name] for b in programme.candidates}
        unit = programme.loss_unit
        return Picked(widths, problem.base / found.time, found.loss * unit, found.bound * unit)


@dataclass(frozen=True, eq=False)
class WindowChooser:
    """Windows of streams, and one width per other block. Its bound is unknown; see `stream_windows`.

    Attributes
    ----------
    streams
        The streams that get windows, at least one.
    seed
        Of the searches.
    """

    streams: Sequence[WindowStream]
    seed: int = 0

    def choose(self, programme: Programme, correction: Correction, asked: float, time_limit: float) -> Picked:
        """Windows and widths of little loss; see `Chooser`. Constrained widths are the start."""
        start = WidthChooser("auto").choose(programme, correction, asked, time_limit / 4)
        problem = programme.problem(1.0, scale=correction.scale, constant=correction.constant)
        # Rounding to whole nanoseconds differs with the scale, so that the start may be over by a few.
        allowed = (problem.for_speedup(asked).budget - correction.constant) / correction.scale
        widths = {b: width for b, width in start.widths.items() if isinstance(width, int)}
        budget = max(allowed, programme.predicted(widths))
        found = choose_stream_windows(
            programme, self.streams, budget, start=widths, time_limit=time_limit, seed=self.seed
        )
        own = {stream.block: found.windows[stream.name] for stream in self.streams}
        time = correction.scale * found.time + correction.constant
        return Picked({**found.widths, **own}, problem.base / time, found.loss, None)
