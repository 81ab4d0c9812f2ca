"""What computing costs: wall-clock seconds, processor seconds, and peak memory of this process."""

from __future__ import annotations

import contextlib
import gc
import resource
import sys
import time
from pathlib import Path


class Clock:
    """Seconds since the object was made: wall-clock time, and processor time of this process."""

    def __init__(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds."""
        return time.perf_counter() - self.started

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of this process, all threads."""
        return time.process_time() - self.cpu_started


class PeakMemory:
    """The growth of this process's peak memory from now on, in bytes.

    On Linux the peak is reset first. On other systems the growth is counted from the largest peak so far.
    """

    def __init__(self) -> None:
        gc.collect()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self.before = peak_bytes()

    @property
    def growth(self) -> int:
        """Bytes."""
        return peak_bytes() - self.before


def peak_bytes() -> int:
    """The largest resident size of this process since `PeakMemory` was made, or ever."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
