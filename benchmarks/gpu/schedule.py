"""Steps with budgets: each runs in a process that is ended when its time is over; what became of it is noted at once.

A step that fails, hangs or takes its process with it (an error on a GPU does) costs no other step more than its time.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.gpu.records import Records
from benchmarks.gpu.settings import Setting

GRACE = 5.0
"""Seconds that a step may take beyond its budget before its process is ended, and that ending it may take."""
DONE, FAILED, EXPIRED, DIED, LEFT_OUT = "done", "failed", "out of time", "its process died", "left out"

Clock = Callable[[], float]


class Deadline:
    """When a step should end."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; negative afterwards."""
        return self._end - self._clock()

    def share(self, part: float) -> Deadline:
        """One after this part of what is left."""
        return Deadline(self._clock, part * self.left)


@dataclass(frozen=True)
class Step:
    """Something to measure.

    Attributes
    ----------
    name
        What it is called.
    call
        Measures it; may return a line that says what came out.
    most
        Seconds it may take.
    least
        Seconds without which it is not begun.
    """

    name: str
    call: Callable[[Setting, Deadline], str | None]
    most: float
    least: float = 10.0


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes
    ----------
    kind
        `DONE`, `FAILED`, `EXPIRED`, `DIED` or `LEFT_OUT`.
    line
        What came out, or what went wrong, in a line.
    details
        The traceback of what went wrong.
    """

    kind: str
    line: str = ""
    details: str = ""


class Runner(Protocol):
    """Runs steps."""

    def run(self, step: Step, seconds: float) -> Outcome:
        """Run one within so many seconds."""


def run_steps(steps: Sequence[Step], budget: float, runner: Runner, clock: Clock, records: Records) -> list[Outcome]:
    """Run steps in this order as long as the budget lasts; a row for each.

    Parameters
    ----------
    steps
        The most valuable ones first.
    budget
        Seconds for everything.
    runner, clock
        What runs them, and what tells the time.
    records
        Where rows and tracebacks go.
    """
    end, found = clock() + budget, []
    for step in steps:
        began = clock()
        seconds = min(step.most, end - began - GRACE)
        if seconds < step.least:
            outcome = Outcome(LEFT_OUT, f"{max(0.0, end - began):.0f} s are left")
        else:
            outcome = runner.run(step, seconds)
        taken = clock() - began
        row = {"step": step.name, "outcome": outcome.kind, "seconds": round(taken, 2), "budget": round(seconds, 1)}
        records.add("steps", [{**row, "line": outcome.line}])
        if outcome.details:
            records.log(step.name, outcome.details)
        print(f"{step.name}: {outcome.kind} ({taken:.0f} s) {outcome.line}".rstrip(), flush=True)
        found.append(outcome)
    return found


def outcome_of(step: Step, setting: Setting, seconds: float, clock: Clock) -> Outcome:
    """Run a step right here; its errors become an outcome."""
    try:
        return Outcome(DONE, step.call(setting, Deadline(clock, seconds)) or "")
    except (Exception, SystemExit) as error:  # a step may raise anything
        line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Outcome(FAILED, line, traceback.format_exc())


class Worker:
    """Runs steps in a process of its own, one process for all as long as none of them breaks it."""

    def __init__(self, setting: Setting, grace: float = GRACE) -> None:
        self.setting, self.grace = setting, grace
        self._process: Any = None
        self._connection: Any = None

    def run(self, step: Step, seconds: float) -> Outcome:
        """Run one; its process is ended if it is not done in time."""
        began = time.monotonic()
        if self._process is None:
            self._start()
        try:
            self._connection.send((step, self.setting, began + seconds))
            if not self._connection.poll(max(0.0, seconds + self.grace - (time.monotonic() - began))):
                self.close(patience=0.0)
                return Outcome(EXPIRED, f"ended after {time.monotonic() - began:.0f} s; what it had measured is kept")
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(self.grace)
            code = self._process.exitcode
            self.close()
            return Outcome(DIED, f"exit code {code}")
        if "CUDA" in outcome.details:  # later calls would fail with the same error
            self.close()
        return outcome

    def close(self, patience: float = 2.0) -> None:
        """End the process; it has so many seconds to do so by itself."""
        if self._process is not None:
            self._connection.close()
            self._process.join(patience)
            self._process.kill()
            self._process.join()
        self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=False)
        self._process.start()
        other.close()


def _serve(connection: Any) -> None:
    """Run the steps that come, until none does."""
    while True:
        try:
            step, setting, end = connection.recv()  # processes share the clock, and starting one takes time, too
        except (EOFError, KeyboardInterrupt):
            return
        try:
            connection.send(outcome_of(step, setting, end - time.monotonic(), time.monotonic))
        except KeyboardInterrupt:
            return


class FakeClock:
    """Moves on by itself whenever somebody looks at it: with it, steps end without waiting."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        """Seconds."""
        self.now += self.tick
        return self.now


class DryRun:
    """Runs steps right here, by a fake clock, on which each takes at least a share of its budget."""

    def __init__(self, setting: Setting, clock: FakeClock, share: float) -> None:
        self.setting, self.clock, self.share = setting, clock, share

    def run(self, step: Step, seconds: float) -> Outcome:
        """Run one."""
        began = self.clock.now
        outcome = outcome_of(step, self.setting, seconds, self.clock)
        self.clock.now = max(self.clock.now, began + self.share * seconds)
        return outcome
