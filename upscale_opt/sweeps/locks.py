"""A lock of the whole machine: many who compute, or one who measures.

Cells that compute hold it shared. A cell that measures a latency holds it alone, so nothing of a sweep runs beside a
measurement, whatever the device: kernels of a GPU are launched by the CPU. Locks are the operating system's (flock), so
they end with their process.

The lock is fair. There are two files. Whoever wants the lock holds the gate while waiting for it, so those who come
later wait behind, also behind one who waits to measure. Several sweeps, of several users, share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from upscale_opt.errors import SweepError

DIRECTORY = "UPSCALE_OPT_LOCKS"
"""Environment variable: directory of the lock's files. Default: ``upscale_opt-locks`` in the temporary directory."""
GATE, LOCK = "machine.gate", "machine.lock"


def lock_directory() -> Path:
    """The directory of the lock's files."""
    return Path(os.environ.get(DIRECTORY) or Path(tempfile.gettempdir()) / "upscale_opt-locks")


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Compute beside others who compute, and never beside a measurement."""
    with _held(fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Measure while nobody else computes or measures."""
    with _held(fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _held(kind: int) -> Iterator[None]:
    directory = lock_directory()
    gate = _opened(directory / GATE)
    try:
        lock = _opened(directory / LOCK)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(lock, kind)
            fcntl.flock(gate, fcntl.LOCK_UN)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # also if a forked process still has the file open
            os.close(lock)
    finally:
        os.close(gate)


def _opened(path: Path) -> int:
    """Open a file of the lock. Every user may lock it, whoever made it."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):
                path.parent.chmod(0o1777)
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with contextlib.suppress(PermissionError):
                os.fchmod(handle, 0o666)
            return handle
    except OSError as error:
        raise SweepError(
            f"cannot open the lock {path}: {error.strerror}; set {DIRECTORY} to a directory of this machine that you "
            "can write to"
        ) from error
