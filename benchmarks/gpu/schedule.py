"""Steps with time budgets. Each runs in a process that is ended after its time; its outcome is written at once.

A step may fail, hang, or kill its process (as an error on a GPU does). The other steps lose only its time.
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
"""Seconds that a step may exceed its budget before its process is ended, and seconds for ending it."""
DONE, FAILED, EXPIRED, DIED, LEFT_OUT = "done", "failed", "out of time", "its process died", "left out"

Clock = Callable[[], float]


class Deadline:
    """The time at which a step should end."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; negative afterwards."""
        return self._end - self._clock()

    def share(self, part: float) -> Deadline:
        """The deadline after this share of the remaining time."""
        return Deadline(self._clock, part * self.left)


@dataclass(frozen=True)
class Step:
    """A step of the measurement.

    Attributes
    ----------
    name
        Name of the step.
    call
        The function that measures. It may return a line with the result.
    most
        Most seconds that it may take.
    least
        The step is not begun if fewer seconds than this are left.
    """

    name: str
    call: Callable[[Setting, Deadline], str | None]
    most: float
    least: float = 10.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step.

    Attributes
    ----------
    kind
        `DONE`, `FAILED`, `EXPIRED`, `DIED` or `LEFT_OUT`.
    line
        The result or the error, in one line.
    details
        The traceback of the error.
    """

    kind: str
    line: str = ""
    details: str = ""


class Runner(Protocol):
    """Runs steps."""

    def run(self, step: Step, seconds: float) -> Outcome:
        """Run a step within some seconds."""


def run_steps(steps: Sequence[Step], budget: float, runner: Runner, clock: Clock, records: Records) -> list[Outcome]:
    """Run steps in this order as long as the budget lasts; write a row for each.

    Parameters
    ----------
    steps
        The most valuable ones first.
    budget
        Seconds for everything.
    runner, clock
        The object that runs steps, and the function that returns the time.
    records
        The files for rows and tracebacks.
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
    """Run a step in this process. An error becomes its outcome."""
    try:
        return Outcome(DONE, step.call(setting, Deadline(clock, seconds)) or "")
    except (Exception, SystemExit) as error:  # a step may raise anything
        line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Outcome(FAILED, line, traceback.format_exc())


class Worker:
    """Runs steps in a separate process. All steps share it, until a step breaks it."""

    def __init__(self, setting: Setting, grace: float = GRACE) -> None:
        self.setting, self.grace = setting, grace
        self._process: Any = None
        self._connection: Any = None

    def run(self, step: Step, seconds: float) -> Outcome:
        """Run a step; its process is ended if the step is not done in time."""
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
        """End the process; first it gets some seconds to end by itself."""
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
    """Run all steps that arrive, until there are no more."""
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
    """A clock that advances whenever it is read, so that steps end without waiting."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        """Seconds."""
        self.now += self.tick
        return self.now


class DryRun:
    """Runs steps in this process with a fake clock, on which each takes at least a share of its budget."""

    def __init__(self, setting: Setting, clock: FakeClock, share: float) -> None:
        self.setting, self.clock, self.share = setting, clock, share

    def run(self, step: Step, seconds: float) -> Outcome:
        """Run a step."""
        began = self.clock.now
        outcome = outcome_of(step, self.setting, seconds, self.clock)
        self.clock.now = max(self.clock.now, began + self.share * seconds)
        return outcome
