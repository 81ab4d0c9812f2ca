"""Where a figure was measured: machine, threads, versions, disturbances; without importing what is not loaded yet."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("upscale-opt", "torch", "torchvision", "ortools", "numpy", "scipy")
COUNTERS = Path("/proc/stat")
"""Where Linux counts what processors did."""
NOTICED = 0.02
"""Share of the processors' time from which on it is said that the host took it."""


def environment() -> dict[str, Any]:
    """Python, package versions, machine, processor, cores; torch's threads and GPU only if torch is loaded."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def processor() -> str:
    """The CPU's model name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class StolenTime:
    """How much of the processors' time the host of a virtual machine gave to others, from now on.

    The system counts it where the machine was ready to run (``steal`` in proc(5)). Figures taken meanwhile are too
    long, and medians only hide that as long as most of them are not.
    """

    def __init__(self) -> None:
        self._seconds, self._started = _stolen_seconds(), time.monotonic()

    def share(self) -> float | None:
        """Between 0 and 1; None where the system does not tell, or no time has passed."""
        seconds, elapsed = _stolen_seconds(), time.monotonic() - self._started
        if seconds is None or self._seconds is None or elapsed <= 0:
            return None
        return min(1.0, max(0.0, seconds - self._seconds) / (elapsed * (os.cpu_count() or 1)))


def stolen_note(share: float | None) -> str:
    """A line about what the host of a virtual machine took; empty where it is not worth one, or not known.

    Examples
    --------
    >>> stolen_note(0.14)
    "the machine's host took 14 % of the processors' time meanwhile: figures are too long, and noisy"
    >>> stolen_note(0.001), stolen_note(None)
    ('', '')
    """
    if share is None or share < NOTICED:
        return ""
    taken = f"the machine's host took {100 * share:.0f} % of the processors' time meanwhile"
    return f"{taken}: figures are too long, and noisy"


def _stolen_seconds() -> float | None:
    """Since the machine started, summed over its processors."""
    try:
        fields = COUNTERS.read_text().partition("\n")[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
