"""The clock of a solve: seconds, or work counted in their place, so that a solve comes out the same on every machine.

Every method reads the clock through `time_now`, where it asks whether its time is up. On a clock that counts work, a
reading costs work, and searches outside this package (CP-SAT, HiGHS) charge what they say they did. A solve may also be
stopped at a reading.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

_WORK_OF_READING = 5e-5  # work: of what is done between two readings of the clock (estimate)
WORK_OF_PAIR = 1e-8  # work: of a pair of sets in a table of a path; a few vector operations (estimate)
_CHECK_SECONDS = 0.01  # seconds: between two looks at the rules that stop a solve; by hand


class Clock:
    """What a solve reads the time from.

    Parameters
    ----------
    counts_work
        Readings are work instead of seconds: they begin at 0 and depend on what was done only.
    check
        Called at readings, some 100 times a second, or at every one if work is counted. What it raises ends the solve.

    Attributes
    ----------
    counts_work
        As given.
    work
        Work so far; about seconds of one core.
    method
        The method that runs.
    figures
        Figures for reports of the methods that have ended.
    """

    def __init__(self, *, counts_work: bool = False, check: Callable[[], None] | None = None) -> None:
        self.counts_work, self.check = counts_work, check
        self.work = 0.0
        self.method = ""
        self.figures: dict[str, Any] = {}
        self._began = self._checked = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._began

    def read(self, work: float) -> float:
        """The time, after so much work."""
        self.work += work
        seconds = time.perf_counter()
        if self.check is not None and (self.counts_work or seconds - self._checked >= _CHECK_SECONDS):
            self._checked = seconds
            self.check()
        return self.work if self.counts_work else seconds


class _Bare(Clock):
    """The clock outside of a solve."""

    def read(self, work: float) -> float:
        """The time."""
        return time.perf_counter()


_BARE = _Bare()
_current: ContextVar[Clock] = ContextVar("clock")


def time_now(work: float = _WORK_OF_READING) -> float:
    """The time on the clock of the solve that runs; outside of one, `time.perf_counter`.

    Parameters
    ----------
    work
        What was done since the last reading, in seconds of one core, as far as it can be said beforehand.

    Examples
    --------
    >>> with running(Clock(counts_work=True)):
    ...     time_now(2.0), time_now(0.5)
    (2.0, 2.5)
    """
    return _current.get(_BARE).read(work)


def current() -> Clock:
    """The clock of the solve that runs in this thread."""
    return _current.get(_BARE)


@contextlib.contextmanager
def running(clock: Clock) -> Iterator[None]:
    """Let `time_now` read this clock."""
    token = _current.set(clock)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def working_on(method: str) -> Iterator[None]:
    """Name the method that runs, for reports of progress."""
    clock = current()
    before, clock.method = clock.method, method
    try:
        yield
    finally:
        clock.method = before
