"""Progress over all workers: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from upscale_opt.sweeps.rows import Row

SECONDS = 10.0


class Progress:
    """Counts rows and tells, on standard error, while its block runs.

    Parameters
    ----------
    total
        Number of cells to compute.
    every
        Seconds between lines where there is no terminal.
    quiet
        Tell nothing.
    """

    def __init__(self, total: int, *, every: float = SECONDS, quiet: bool = False) -> None:
        self.total, self.every, self.quiet = total, every, quiet
        self.done = self.failed = 0
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._bar: Any = None
        self._thread: threading.Thread | None = None

    def add(self, row: Row) -> None:
        """Count a row. A failed one is told at once."""
        self.done += row.done
        self.failed += not row.done
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix_str(f"{self.failed} failed" if self.failed else "", refresh=False)
        if not row.done and not self.quiet:
            self._say(f"failed: {row.cell['kind']} {row.cell['model']['name']} {row.cell['amount']}: {row.reason}")

    def line(self) -> str:
        """What is done, in one line.

        Examples
        --------
        >>> Progress(10).line()
        'sweep: 0 of 10 cells'
        """
        count, seconds = self.done + self.failed, time.monotonic() - self._started
        text = f"sweep: {count} of {self.total} cells"
        if self.failed:
            text += f", {self.failed} failed"
        if count and seconds:
            text += f", {count / seconds:.2g} a second, {_duration((self.total - count) * seconds / count)} left"
        return text

    def __enter__(self) -> Self:
        if self.quiet or not self.total:
            return self
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, desc="sweep", unit="cell", leave=False)
        else:
            self._thread = threading.Thread(target=self._tell, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._bar is not None:
            self._bar.close()

    def _tell(self) -> None:
        while not self._stop.wait(self.every):
            self._say(self.line())

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    """A duration in its largest unit.

    Examples
    --------
    >>> _duration(20), _duration(200), _duration(20000)
    ('20 s', '3 min', '5.6 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
