"""Says what a slow call is doing: `ProgressBar`, the one mechanism of the three packages and of the command line.

Where it says so depends on the argument ``progress`` of the call:

===============  ====================================================================================================
``None``         on a terminal (standard error) and in a notebook: one line, from two seconds on. Elsewhere: nothing.
``True``         the same; and where there is neither, a line on standard error every ten seconds
``False``        nothing, in the call and in all calls that it makes
a function       is called with a `Stage` at the start and after every step. What it raises stops the call
===============  ====================================================================================================

Bars may stand in each other. A bar inside another one does what the outer one does, unless it is told otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from typing import Any, Generic, Literal, TextIO, TypeVar

from problems.showing.stages import Stage

Item = TypeVar("Item")

SECONDS_BEFORE = 2.0  # a shorter call shows nothing
SECONDS_BETWEEN_LINES = 10.0  # without a terminal
SECONDS_BETWEEN_UPDATES = 0.2  # of a terminal's line
SECONDS_BETWEEN_LOOKS = 1.0  # of the thread that shows bars which do not advance


ShowProgress = bool | Callable[[Stage], object] | None
"""What an argument ``progress`` may be."""

_Where = Literal["nowhere", "terminal", "notebook", "lines", "function"]
_SHOWN = ("terminal", "notebook", "lines")


class ProgressBar(Generic[Item]):
    """Shows how far a call is. Use it as a context manager, or loop over it.

    Parameters
    ----------
    what
        What is done, in a word or two.
    items
        What a loop goes over. Default: nothing; then call `advance`.
    total
        Number of steps. Default: the number of items, if it is known.
    done
        Steps that an earlier call did.
    unit
        What a step is called.
    progress
        Where to show it; see above.
    measures
        The steps measure times. Then only their own thread shows the bar, between the steps.

    Examples
    --------
    >>> told = []
    >>> with ProgressBar("solve", ["a", "b"], unit="run", progress=lambda stage: told.append(str(stage))) as bar:
    ...     for name in bar:
    ...         bar.note(name)
    >>> told[0]
    'solve: 0 of 2 runs, 0 s'
    """

    def __init__(
        self,
        what: str,
        items: Iterable[Item] | None = None,
        *,
        total: int | None = None,
        done: int = 0,
        unit: str = "step",
        progress: ShowProgress = None,
        measures: bool = False,
    ) -> None:
        if total is None and isinstance(items, Sized):
            total = len(items) + done
        self._what, self._items, self._unit, self._measures = what, items, unit, measures
        self.total, self.done, self._first, self._note = total, done, done, ""
        self._thread = threading.get_ident()
        self._started = time.perf_counter()
        outer = _SCREEN.innermost(self._thread)
        self._outer = outer
        self._where, self._function = _where(progress, outer)
        self._next_look = self._started + SECONDS_BEFORE
        self._is_open = True
        _SCREEN.open(self)
        if self._function is not None:
            try:
                self._function(self.stage())
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> ProgressBar[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        try:
            for item in () if self._items is None else self._items:
                yield item
                self.advance()
        finally:
            self.close()

    def advance(self, steps: int = 1, *, total: int | None = None) -> None:
        """Say that steps are done, and perhaps how many there are in all by now."""
        self.done += steps
        if total is not None:
            self.total = total
        self._look()

    def note(self, text: str) -> None:
        """Say something about the step that runs. A function gets it with the next step."""
        self._note = text

    def close(self) -> None:
        """Remove the bar. A loop over it, and its context, do this by themselves."""
        if self._is_open:
            self._is_open = False
            _SCREEN.close(self)

    def stage(self) -> Stage:
        """How far it is now."""
        seconds = time.perf_counter() - self._started
        left, steps = None, self.done - self._first
        if self.total is not None and steps > 0 and self.done < self.total and seconds >= 1:
            left = seconds / steps * max(0, self.total - self.done)
        return Stage(self._what, self.done, self.total, self._unit, seconds, left, self._note, tuple(self._path()))

    def _path(self) -> list[str]:
        """Enclosing stages that say something new, the outermost first."""
        found: list[str] = []
        bar: ProgressBar[Any] | None = self._outer
        inner = self._what
        while bar is not None:
            if bar._what != inner:
                count = "" if bar.total is None else f" {min(bar.done + 1, bar.total)} of {bar.total}"
                found.insert(0, f"{bar._what}{count}")
            inner, bar = bar._what, bar._outer
        return found

    def _is_in(self, other: ProgressBar[Any]) -> bool:
        """Whether it is another bar, or stands in it."""
        bar: ProgressBar[Any] | None = self
        while bar is not None and bar is not other:
            bar = bar._outer
        return bar is other

    def _look(self) -> None:
        if self._function is not None:
            self._function(self.stage())
        elif self._where != "nowhere":
            now = time.perf_counter()
            if now >= self._next_look:
                self._next_look = now + SECONDS_BETWEEN_UPDATES
                _SCREEN.show(self)


def tell(line: str, progress: ShowProgress = None) -> None:
    """Print a line of news above the bar, wherever a bar of this call would be shown. A function is not called."""
    where, _ = _where(progress, _SCREEN.innermost(threading.get_ident()))
    if where not in ("nowhere", "function"):
        _SCREEN.tell(line, where)


class _Screen:
    """What is open, and what is shown of it: always the innermost bar of the thread that opened one last."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bars: list[ProgressBar[Any]] = []
        self._watch: threading.Thread | None = None
        self._width = 0  # of what is on the terminal's line
        self._display: Any = None  # of the notebook
        self._last_line = time.perf_counter()

    def innermost(self, thread: int) -> ProgressBar[Any] | None:
        """The innermost open bar of a thread."""
        return next((bar for bar in reversed(self._bars) if bar._thread == thread), None)

    def open(self, bar: ProgressBar[Any]) -> None:
        """Add a bar."""
        with self._lock:
            if not self._bars:
                self._last_line = time.perf_counter()
            self._bars.append(bar)
            if bar._where in _SHOWN and (self._watch is None or not self._watch.is_alive()):
                self._watch = threading.Thread(target=self._look, name="progress", daemon=True)
                self._watch.start()

    def close(self, bar: ProgressBar[Any]) -> None:
        """Remove a bar, the bars in it that an error left open, and what is shown of it."""
        with self._lock:
            for own in (gone := [own for own in self._bars if own._is_in(bar)]):
                own._is_open = False
            self._bars = [own for own in self._bars if own not in gone]
            if bar._where == "terminal":
                self._clear()
            if bar._where == "notebook" and self._display is not None and not self._bars:
                self._display.update(_html(""), raw=True)
                self._display = None

    def show(self, bar: ProgressBar[Any]) -> None:
        """Show a bar now."""
        with self._lock:
            if self._visible() is not bar:
                return
            stage, stream = bar.stage(), sys.stderr
            if bar._where == "terminal" and stream is not None:
                line = _line(stage, stream)
                _write(stream, f"\r{line.ljust(self._width)}")
                self._width = len(line)
            elif bar._where == "notebook":
                self._display = _displayed(_html(_markup(stage)), self._display)
            elif bar._where == "lines" and time.perf_counter() - self._last_line >= SECONDS_BETWEEN_LINES:
                self.tell(str(stage), "lines")

    def tell(self, line: str, where: _Where) -> None:
        """Print a line above the bar."""
        stream = sys.stdout if where == "notebook" else sys.stderr
        with self._lock:
            self._clear()
            self._last_line = time.perf_counter()
            if stream is not None:
                _write(stream, f"{line}\n")

    def forget(self) -> None:
        """Start anew in a forked process, which has no thread and no bar of its own."""
        self.__init__()  # type: ignore[misc]

    def _visible(self) -> ProgressBar[Any] | None:
        return next((bar for bar in reversed(self._bars) if bar._where in _SHOWN), None)

    def _clear(self) -> None:
        if self._width and sys.stderr is not None:
            _write(sys.stderr, f"\r{' ' * self._width}\r")
        self._width = 0

    def _look(self) -> None:
        """The thread: shows bars that do not advance. It ends when nothing is open."""
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            with self._lock:
                if not self._bars:
                    self._watch = None
                    return
                bar = self._visible()
                if bar is None or any(own._measures for own in self._bars):
                    continue
                if time.perf_counter() >= bar._started + SECONDS_BEFORE:
                    self.show(bar)


_SCREEN = _Screen()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SCREEN.forget)


def _where(progress: ShowProgress, outer: ProgressBar[Any] | None) -> tuple[_Where, Callable[[Stage], object] | None]:
    """Where a bar is shown, and the function that is told."""
    if progress is None and outer is not None:
        return outer._where, outer._function
    if callable(progress):
        return "function", progress
    if progress is False or (progress is None and multiprocessing.parent_process() is not None):
        return "nowhere", None
    if _in_notebook():
        return "notebook", None
    if sys.stderr is not None and sys.stderr.isatty():
        return "terminal", None
    return ("nowhere" if progress is None else "lines"), None


def _write(stream: TextIO, text: str) -> None:
    """Write at once. A stream that is closed, broken, or cannot encode the text must not end the work."""
    with suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


def _in_notebook() -> bool:
    """Whether a notebook runs this, not IPython on a terminal. Loads nothing."""
    interpreter = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(interpreter, "kernel", None) is not None


def _displayed(content: dict[str, str], display: Any) -> Any:
    """Show content in a notebook, in the place of what was shown before."""
    if display is not None:
        display.update(content, raw=True)
        return display
    from IPython.display import display as first  # notebooks have it

    return first(content, raw=True, display_id=True)


def _html(text: str) -> dict[str, str]:
    return {"text/html": text, "text/plain": ""}


def _markup(stage: Stage) -> str:
    from html import escape

    bar = "" if stage.total is None else f'<progress value="{stage.done}" max="{max(1, stage.total)}"></progress> '
    return f"<div>{bar}{escape(str(stage))}</div>"


def _line(stage: Stage, stream: TextIO) -> str:
    """One line of a terminal, with a bar if the end is known."""
    width = shutil.get_terminal_size().columns - 1
    text = str(stage)
    if stage.total:
        filled = round(_BAR * min(1.0, stage.done / stage.total))
        full, empty = ("█", "░") if (getattr(stream, "encoding", "") or "").lower().startswith("utf") else ("#", ".")
        text = f"{full * filled}{empty * (_BAR - filled)} {text}"
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


_BAR = 12  # characters
