"""The environment of a measurement: machine, threads, versions, disturbances. Imports only what is already loaded."""

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
"""The file where Linux counts processor times."""
NOTICED = 0.02
"""Share of processor time taken by the host from which on it is reported."""


def environment() -> dict[str, Any]:
    """Python, package versions, machine, processor, cores. Also torch's threads and GPU, if torch is already loaded."""
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
    """Name of the CPU model, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class StolenTime:
    """Measures the share of processor time that the host of a virtual machine gives to other guests, from now on.

    The system counts this time if the machine was ready to run (``steal`` in proc(5)). Latencies measured during it are
    too long. Medians hide this only as long as most measurements are undisturbed.
    """

    def __init__(self) -> None:
        self._seconds, self._started = _stolen_seconds(), time.monotonic()

    def share(self) -> float | None:
        """The share, between 0 and 1. None if the system does not report it, or no time has passed."""
        seconds, elapsed = _stolen_seconds(), time.monotonic() - self._started
        if seconds is None or self._seconds is None or elapsed <= 0:
            return None
        return min(1.0, max(0.0, seconds - self._seconds) / (elapsed * (os.cpu_count() or 1)))


def stolen_note(share: float | None) -> str:
    """A line about processor time taken by the host of a virtual machine. Empty if the share is small or unknown.

    Examples
    --------
    >>> stolen_note(0.14)
    "the machine's host took 14 % of the processors' time meanwhile: latencies are too high, and noisy"
    >>> stolen_note(0.001), stolen_note(None)
    ('', '')
    """
    if share is None or share < NOTICED:
        return ""
    taken = f"the machine's host took {100 * share:.0f} % of the processors' time meanwhile"
    return f"{taken}: latencies are too high, and noisy"


def _stolen_seconds() -> float | None:
    """Stolen seconds since the machine started, summed over its processors."""
    try:
        fields = COUNTERS.read_text().partition("\n")[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
