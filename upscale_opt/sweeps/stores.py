"""Stores: where the rows of sweeps are. They only grow: no row is changed or removed.

A store is a SQLite file, or a file of JSON lines where the name ends with ``.jsonl``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from upscale_opt.sweeps.lines_store import LinesStore
from upscale_opt.sweeps.owners import Owner
from upscale_opt.sweeps.rows import Row
from upscale_opt.sweeps.sqlite_store import SqliteStore

LINES = ".jsonl"


class Store(Protocol):
    """A store that is open."""

    path: Path

    def known(self) -> Mapping[str, tuple[bool, int]]:
        """Address to whether it is done, and how many rows it has."""
        ...

    def append(self, row: Row) -> bool:
        """Add a row, unless its address is done or has this attempt already. Returns whether it was added."""
        ...

    def claim(self, address: str, owner: Owner) -> bool:
        """Say that a run computes a cell now. Returns False if another run that is alive does, or it is done."""
        ...

    def renew(self, owner: Owner) -> None:
        """Say that a run is alive."""
        ...

    def release(self, owner: Owner) -> None:
        """Give back what a run has claimed."""
        ...

    def note(self, command: str, declaration: str, num_cells: int) -> None:
        """Note that a run began."""
        ...

    def rows(self) -> Iterator[Row]:
        """The last row of every address, in the order in which they were added."""
        ...

    def close(self) -> None:
        """Close the store."""
        ...

    def __enter__(self) -> Self:
        """Close the store at the end of a block."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


def open_store(path: str | Path, *, create: bool = True) -> Store:
    """Open a store.

    Parameters
    ----------
    path
        A SQLite file, or a file whose name ends with ``.jsonl``.
    create
        Make the file if there is none.

    Raises
    ------
    SweepError
        If the file cannot be opened, or is none of this kind.
    """
    path = Path(path)
    return LinesStore(path, create=create) if path.suffix == LINES else SqliteStore(path, create=create)
