"""Windows of streams and widths of all other blocks for one budget: alternation, bisection, filling up.

Given the widths of the other blocks and a multiplier (loss per nanosecond), streams decouple: an access costs per
channel the multiplier times the slope of its tables, and `solvers.choose_windows` chooses. Given the windows, what is
left is a width problem. Both are done in turn, and the multiplier is bisected until the budget is met.

Prices are slopes, but tables are not linear, and widths and windows are chosen in turn. So nothing here is a bound on
the loss of windows and widths together. What is certified are the windows of each stream at the last prices, and the
widths of the other blocks given the windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from problems.allocation.problem import UnreachableSpeedupError
from problems.widths.problem import WidthProblem
from problems.windows.decision import Windows, evaluate_windows
from problems.windows.problem import WindowProblem
from solvers.widths.dispatch import choose_widths, widths_at
from solvers.windows.dispatch import choose_windows
from upscale_opt.errors import UpscaleError
from upscale_opt.masking.windows import WindowChoice
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.window_rounding import grown, rounded
from upscale_opt.widths.window_streams import STORED, WindowStream
from upscale_opt.widths.window_times import WindowTimes

WINDOW_SHARE = 0.375
"""Share of a stream that every access holds. Losses of single channels misjudge narrow windows, because what dropped
channels of one writer do adds up. By hand, on one network (docs/windows.md)."""
_BISECTIONS = 10  # multipliers: at most; by hand
_TURNS = 3  # turns of windows and widths per multiplier, at most; by hand
_CLOSE = 0.002  # share of the budget: a time so near below it ends the bisection
_FACTOR = 4.0  # of the multiplier, while its range is looked for
_WIDTH_SECONDS = 5.0  # seconds: at most, for the widths given the windows


@dataclass(frozen=True, eq=False)
class WindowedWidths:
    """Windows and widths for a budget.

    Attributes
    ----------
    windows
        Block name to windows, for every stream.
    widths
        Block number to width, for all other free blocks.
    loss
        Estimated loss.
    time
        Sum of the tables, in nanoseconds.
    multiplier
        Loss per nanosecond at which the windows were chosen.
    gaps
        Stream name to the most by which its windows' loss and price at the last prices may be above the least, as a
        share; None without a bound. Rounding to steps comes after that.
    """

    windows: Mapping[str, WindowChoice]
    widths: Mapping[int, int]
    loss: float
    time: float
    multiplier: float
    gaps: Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class _State:
    """Windows per stream, with the words to start from, and a choice of widths for the other blocks."""

    windows: tuple[Windows, ...]
    words: tuple[tuple[int, ...] | None, ...]
    widths: Mapping[int, int]


def choose_stream_windows(
    programme: Programme,
    streams: Sequence[WindowStream],
    budget: float,
    *,
    start: Mapping[int, int],
    share: float = WINDOW_SHARE,
    time_limit: float = 60.0,
    seed: int = 0,
) -> WindowedWidths:
    """Windows and widths of little loss whose tables add up to at most a budget.

    Parameters
    ----------
    programme
        The network's blocks, losses and tables.
    streams
        The streams that get windows (`upscale_opt.widths.window_streams.window_streams`), at least one.
    budget
        Nanoseconds of the sum of the tables, without correction.
    start
        Widths that keep the budget, by block number, such as those of `choose_widths`. The result is not worse.
    share
        Share of a stream's channels, the strongest ones, that every access holds; at most as many as the start has.
    time_limit
        Seconds for all windows together.
    seed
        Of the searches.

    Raises
    ------
    UpscaleError
        If the start does not keep the budget.
    """
    held = []
    for own in streams:
        size = own.problem.num_channels
        held.append(own.holding(min(start.get(own.block, size), math.ceil(share * size))))
    return _Alternation(programme, held, budget, time_limit, seed).run(start)


class _Alternation:
    def __init__(
        self, programme: Programme, streams: Sequence[WindowStream], budget: float, time_limit: float, seed: int
    ) -> None:
        self.programme, self.streams, self.budget, self.seed = programme, streams, budget, seed
        self.times = WindowTimes(programme, frozenset(own.block for own in streams))
        self.seconds = time_limit / max(1, len(streams) * (_BISECTIONS * _TURNS + 4))
        self.best: tuple[float, _State, float] | None = None

    def run(self, start: Mapping[int, int]) -> WindowedWidths:
        """From full windows to the best ones."""
        state = self._first(start)
        if self._time(state) > self.budget:
            raise UpscaleError("the widths to start from are over the budget; give widths that keep it")
        self._keep(state, 0.0)
        multiplier = self._first_multiplier(state)
        low, high = 0.0, math.inf
        for _ in range(_BISECTIONS):
            state = self._alternated(state, multiplier)
            self._filled(state, multiplier)
            time = self._time(state)
            if (1 - _CLOSE) * self.budget <= time <= self.budget:
                break
            low, high = (low, multiplier) if time <= self.budget else (multiplier, high)
            if high == math.inf or low == 0.0:
                multiplier *= _FACTOR if high == math.inf else 1 / _FACTOR
            elif high < low * (1 + _CLOSE):
                break
            else:
                multiplier = math.sqrt(low * high)
        assert self.best is not None
        return self._proved(self.best[1], self.best[2] or multiplier)

    def _first(self, start: Mapping[int, int]) -> _State:
        """Full windows over the strongest channels of every stream."""
        windows = []
        for stream in self.streams:
            width = start.get(stream.block, stream.problem.num_channels)
            order = np.argsort(-stream.problem.losses.total, kind="stable")
            windows.append(stream.whole(order[:width]))
        own = {b: width for b, width in start.items() if b not in self.times.streams}
        return _State(tuple(windows), (None,) * len(windows), own)

    def _first_multiplier(self, state: _State) -> float:
        """The multiplier of the widths, or what the whole network loses per nanosecond."""
        certificate = None
        problem = self._problem(state)
        if problem.budget >= problem.fixed:
            certificate = choose_widths(problem, "lagrangian", time_limit=_WIDTH_SECONDS).certificate
        if certificate is not None and certificate.time_weight:
            return certificate.time_weight / certificate.loss_weight * self.programme.loss_unit
        lost = sum(float(stream.problem.losses.total.sum()) for stream in self.streams)
        return max(lost, self.programme.loss_unit) / self.budget

    def _alternated(self, state: _State, multiplier: float) -> _State:
        """Windows and widths in turn at one multiplier, until their value does not fall any more."""
        value = math.inf
        for _ in range(_TURNS):
            after = self._with_widths(self._with_windows(state, multiplier), multiplier)
            own = self._loss(after) + multiplier * self._time(after)
            if own >= value:
                break
            better = own < value * (1 - 1e-3)
            state, value = after, own
            if not better:
                break
        return state

    def _with_windows(self, state: _State, multiplier: float) -> _State:
        """The best windows found per stream, on the device's grid where that pays."""
        windows, words = list(state.windows), list(state.words)
        for i in range(len(self.streams)):
            problem = self._priced(replace(state, windows=tuple(windows)), i, multiplier)
            found = choose_windows(problem, "local-search", time_limit=self.seconds, seed=self.seed, start=words[i])
            words[i] = found.word
            windows[i] = self._rounded(state, windows, i, found.windows, problem, multiplier)
        return _State(tuple(windows), tuple(words), state.widths)

    def _rounded(
        self,
        state: _State,
        windows: list[Windows],
        i: int,
        found: Windows,
        problem: WindowProblem,
        multiplier: float,
    ) -> Windows:
        def value(own: Windows) -> float:
            changed = replace(state, windows=(*windows[:i], own, *windows[i + 1 :]))
            return evaluate_windows(self.streams[i].problem, own).loss + multiplier * self._time(changed)

        return rounded(problem, found, 1 if self.programme.tables.counted else self.streams[i].step, value)

    def _with_widths(self, state: _State, multiplier: float) -> _State:
        """The widths of least loss and price given the windows."""
        problem = self._problem(state)
        choice = widths_at(problem, multiplier / self.programme.loss_unit)
        return replace(state, widths=self._widths(problem.widths_of(choice)))

    def _filled(self, state: _State, multiplier: float) -> None:
        """Give what is left of the budget to the other blocks, then to the windows, and keep the result."""
        for _ in range(2):
            problem = self._problem(state)
            try:
                found = choose_widths(problem, "lagrangian", time_limit=_WIDTH_SECONDS)
            except UnreachableSpeedupError:
                return
            state = replace(state, widths=self._widths(found.widths))
            self._keep(state, multiplier)
            after = self._grown(state)
            if after is state:
                return
            state = after
            self._keep(state, multiplier)

    def _grown(self, state: _State) -> _State:
        """Wider windows as long as the budget allows."""
        problems = [own.problem for own in self.streams]
        steps = [own.step for own in self.streams]

        def time(windows: tuple[Windows, ...]) -> float:
            return self._time(replace(state, windows=windows))

        windows = grown(problems, state.windows, steps, time, self.budget)
        return state if windows is state.windows else replace(state, windows=windows)

    def _proved(self, state: _State, multiplier: float) -> WindowedWidths:
        """The result, with bounds for the windows at the last prices; windows that are found on the way are tried."""
        gaps: dict[str, float | None] = {}
        for i, stream in enumerate(self.streams):
            problem = self._priced(state, i, multiplier)
            found = choose_windows(problem, "auto", time_limit=4 * self.seconds, seed=self.seed, start=state.words[i])
            gaps[stream.name] = found.gap
            windows = list(state.windows)
            windows[i] = self._rounded(state, windows, i, found.windows, problem, multiplier)
            self._filled(replace(state, windows=tuple(windows)), multiplier)
        assert self.best is not None
        loss, state, _ = self.best
        return WindowedWidths(self._choices(state), state.widths, loss, self._time(state), multiplier, gaps)

    def _priced(self, state: _State, i: int, multiplier: float) -> WindowProblem:
        """A stream's problem with the prices at the current widths."""
        stream = self.streams[i]
        slopes = self.times.slopes(self._choices(state), state.widths)
        keys = [None if own.name == STORED else own.name for own in stream.problem.accesses]
        return stream.problem.with_prices([multiplier * slopes.get((stream.block, key), 0.0) for key in keys])

    def _problem(self, state: _State) -> WidthProblem:
        """The width problem of the other blocks, with the budget."""
        losses = {
            stream.block: evaluate_windows(stream.problem, own).loss
            for stream, own in zip(self.streams, state.windows, strict=True)
        }
        return self.times.problem(self._choices(state), losses).with_budget(math.floor(self.budget))

    def _widths(self, named: Mapping[str, int]) -> dict[int, int]:
        blocks = self.programme.graph.blocks
        return {b: named[blocks[b].name] for b in self.programme.candidates if b not in self.times.streams}

    def _choices(self, state: _State) -> dict[str, WindowChoice]:
        pairs = zip(self.streams, state.windows, strict=True)
        return {stream.name: stream.choice(windows) for stream, windows in pairs}

    def _time(self, state: _State) -> float:
        return self.times.predicted(self._choices(state), state.widths)

    def _loss(self, state: _State) -> float:
        pairs = zip(self.streams, state.windows, strict=True)
        lost = sum(evaluate_windows(stream.problem, windows).loss for stream, windows in pairs)
        return lost + self.programme.loss_of(state.widths)

    def _keep(self, state: _State, multiplier: float) -> None:
        """Remember a state that keeps the budget if it is the best."""
        loss = self._loss(state)
        if self._time(state) <= self.budget and (self.best is None or loss < self.best[0]):
            self.best = (loss, state, multiplier)
