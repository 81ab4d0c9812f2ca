"""Keeps freed memory in the process while latencies are measured on a CPU, as a server does.

Without this, glibc returns large blocks to the system when they are freed. The next pass fetches them again, page by
page. This may take longer than the arithmetic (docs/latency.md has a command that shows it). How often it happens
depends on earlier allocations, so neither a consumer nor a network would have a well-defined latency. The allocators of
servers (jemalloc, tcmalloc) and of CUDA keep memory.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

RETAINED = "retained"

# Parameters of mallopt(3), and the largest values that glibc's own adjustment reaches.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER_TRIM = 2**31 - 1
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_DEFAULT_MMAP_MAX = 65536

_depth = 0


def memory_kind(device_type: str) -> str:
    """``retained`` if `retained_memory` has an effect on this type of device, else empty."""
    return RETAINED if device_type == "cpu" and _glibc() is not None else ""


@contextmanager
def retained_memory() -> Iterator[None]:
    """Keep freed memory in the process. At the end, free memory returns to the system. This works only with glibc.

    Afterwards, blocks of 32 MiB and more come from the system again. That is the largest threshold of glibc's own
    adjustment.
    """
    global _depth
    libc = _glibc()
    if libc is None:
        yield
        return
    if _depth == 0:
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER_TRIM)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            _as_adjusted(libc)


def return_memory() -> None:
    """Let freed memory go back to the system, as in a program that does not care: a saved network runs like that.

    glibc adjusts itself to the blocks that a process frees; this is where the adjustment ends. Blocks of 32 MiB and
    more come from the system each time, page by page, so a layer whose output is smaller may be several times as fast.
    Inside `retained_memory`, and with other C libraries, this does nothing.
    """
    libc = _glibc()
    if libc is not None and _depth == 0:
        _as_adjusted(libc)


def _as_adjusted(libc: Any) -> None:
    """The largest values that glibc's own adjustment reaches."""
    libc.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
    libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library. None if it is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
