"""A sign of life: a line on standard error whenever a command has been silent for ten seconds.

    with heartbeat("solve"):
        doing("solving segment 3 of 17")
        ...

`problems.showing.progress` shows the calls of the library, which know their steps. Between two calls, and in a call
without steps, it shows nothing. This is the promise for all commands, with a terminal or without: whatever is written
to either stream counts as a sign of life, so bars and this line never say the same thing twice.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from problems.showing.progress import tell

SECONDS = 10.0
"""Longest silence."""


class _Heard:
    """A stream that remembers when it was written to last."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.at = time.monotonic()

    def write(self, text: str) -> int:
        """Write, as the stream does."""
        self.at = time.monotonic()
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass
class _Work:
    """What a command is doing."""

    command: str
    started: float = field(default_factory=time.monotonic)
    step: str = ""

    def __str__(self) -> str:
        step = f", {self.step}" if self.step else ""
        return f"{self.command}{step}: still at work after {time.monotonic() - self.started:.0f} s"


_WORK: list[_Work] = []
"""The commands that run, the innermost last."""


def doing(step: str) -> None:
    """Say what the running command does now, in a few words. It is shown only if the command is silent for long."""
    if _WORK:
        _WORK[-1].step = step


@contextmanager
def heartbeat(command: str, *, seconds: float = SECONDS) -> Iterator[None]:
    """Write a line to standard error whenever nothing was written for some seconds.

    Parameters
    ----------
    command
        Name of the command, for the line.
    seconds
        Longest silence.
    """
    out, err, stop = _Heard(sys.stdout), _Heard(sys.stderr), threading.Event()
    work = _Work(command)

    def beat() -> None:
        wait = seconds
        while not stop.wait(wait):
            wait = max(out.at, err.at) + seconds - time.monotonic()
            if wait <= 0:
                tell(str(work), True)  # above the bar, if there is one
                wait = seconds

    _WORK.append(work)
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    with redirect_stdout(out), redirect_stderr(err):
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            _WORK.remove(work)
