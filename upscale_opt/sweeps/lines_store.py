"""A store in a file of JSON lines: for runs whose rows are collected later, and for programs without SQLite.

A line is written in one call, under a lock, and is on the disk before it counts. A line that a killed process left half
is no row; the next line begins after it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.owners import Owner
from upscale_opt.sweeps.rows import Row, row_of


class LinesStore:
    """A file of JSON lines that is open; see `upscale_opt.sweeps.stores.Store`.

    Claims are not kept. Several runs that write one file of this kind compute the same cells, but each counts once.

    Raises
    ------
    SweepError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            self._handle = os.open(path, flags, 0o666)
        except OSError as error:
            raise SweepError(f"cannot open the store {path}: {error.strerror}; choose another file") from error
        self._known: dict[str, tuple[bool, int]] = {}
        self._rest, self._position, self._number = b"", 0, 0
        self._lock = threading.Lock()

    def known(self) -> Mapping[str, tuple[bool, int]]:
        """Address to whether it is done, and how many rows it has."""
        with self._lock:
            self._read_on()
            return dict(self._known)

    def append(self, row: Row) -> bool:
        """Add a row, unless its address is done or has this attempt already. Returns whether it was added."""
        try:
            with self._lock:  # of threads; the file's lock is of processes
                fcntl.flock(self._handle, fcntl.LOCK_EX)
                try:
                    return self._added(row)
                finally:
                    fcntl.flock(self._handle, fcntl.LOCK_UN)
        except OSError as error:
            raise SweepError(f"cannot write the store {self.path}: {error.strerror}; choose another file") from error

    def _added(self, row: Row) -> bool:
        """Whether a row is new; then it is written."""
        self._read_on()
        done, last = self._known.get(row.address, (False, 0))
        if done or last >= row.attempt:
            return False
        torn = b"\n" if self._rest else b""
        os.write(self._handle, torn + row.to_json().encode() + b"\n")
        os.fsync(self._handle)
        return True

    def claim(self, address: str, owner: Owner) -> bool:
        """Whether the cell is not done."""
        return not self._known.get(address, (False, 0))[0]

    def renew(self, owner: Owner) -> None:
        """Do nothing: there are no claims."""

    def release(self, owner: Owner) -> None:
        """Do nothing: there are no claims."""

    def note(self, command: str, declaration: str, num_cells: int) -> None:
        """Do nothing: runs are not noted."""

    def rows(self) -> Iterator[Row]:
        """The last row of every address, in the order in which they were added."""
        last: dict[str, Row] = {}
        for number, line in enumerate(self._content().split(b"\n"), 1):
            row = self._row(line, number)
            if row is not None:
                last.pop(row.address, None)
                last[row.address] = row
        yield from last.values()

    def close(self) -> None:
        """Close the store."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _read_on(self) -> None:
        """Read what was added since the last time."""
        content = self._content(self._position)
        self._position += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            self._number += 1
            row = self._row(line, self._number)
            if row is not None:
                done, last = self._known.get(row.address, (False, 0))
                self._known[row.address] = (done or row.done, max(last, row.attempt))

    def _content(self, start: int = 0) -> bytes:
        size = os.fstat(self._handle).st_size
        return os.pread(self._handle, max(0, size - start), start)

    def _row(self, line: bytes, number: int) -> Row | None:
        """The row of a line. None for an empty line, and for half a line that a killed process left."""
        if not line.strip():
            return None
        try:
            return row_of(line.decode(), f"{self.path}, line {number}")
        except (SweepError, UnicodeDecodeError):
            if line.startswith(b'{"address"') and not line.endswith(b"}"):
                return None
            raise
