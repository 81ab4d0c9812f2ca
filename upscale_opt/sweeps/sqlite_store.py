"""A store in a SQLite file: one table of rows that only grows, one of claims, one of runs.

The file is in WAL mode where its file system allows that: readers do not wait for the writer. On network file systems,
where WAL does not work (its index is shared memory), it has a rollback journal. SQLite's locks need a file system whose
locks work; on NFS that is version 4. Everybody waits for a lock for up to a minute.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.owners import Owner, owner_of
from upscale_opt.sweeps.rows import DONE, PARTS, Row

VERSION = 1
BUSY_SECONDS = 60.0
APPLICATION = 0x55505357
"""Marks SQLite files that are stores ("UPSW")."""
NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p", "orangefs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.juicefs"),
)
"""File systems where several machines may see one file."""
_SCHEMA = """
CREATE TABLE rows (
    address TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN ('done', 'failed')), cell TEXT NOT NULL,
    attempt INTEGER NOT NULL, reason TEXT NOT NULL, figures TEXT NOT NULL, costs TEXT NOT NULL,
    environment TEXT NOT NULL, finished TEXT NOT NULL, PRIMARY KEY (address, attempt)
);
CREATE UNIQUE INDEX done ON rows (address) WHERE status = 'done';
CREATE TRIGGER rows_stay BEFORE UPDATE ON rows BEGIN SELECT RAISE(ABORT, 'rows are never changed'); END;
CREATE TRIGGER rows_remain BEFORE DELETE ON rows BEGIN SELECT RAISE(ABORT, 'rows are never removed'); END;
CREATE TABLE claims (address TEXT PRIMARY KEY, owner TEXT NOT NULL, renewed REAL NOT NULL);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, command TEXT NOT NULL, declaration TEXT NOT NULL,
    cells INTEGER NOT NULL
);
CREATE VIEW cells AS SELECT rowid AS number, * FROM rows AS own
    WHERE attempt = (SELECT MAX(attempt) FROM rows WHERE address = own.address);
"""
_COLUMNS = tuple(own.name for own in fields(Row))


class SqliteStore:
    """A SQLite file that is open; see `upscale_opt.sweeps.stores.Store`.

    Several threads may use it.

    Raises
    ------
    SweepError
        If the file cannot be opened, or is no store.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if not create and not path.is_file():
            raise SweepError(f"there is no store {path}; name the file that a sweep wrote")
        self._lock = threading.RLock()
        with self._errors():
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._settle()
            except BaseException:
                self._connection.close()
                raise

    def known(self) -> Mapping[str, tuple[bool, int]]:
        """Address to whether it is done, and how many rows it has."""
        query = "SELECT address, MAX(status = ?), MAX(attempt) FROM rows GROUP BY address"
        with self._errors():
            return {address: (bool(done), last) for address, done, last in self._connection.execute(query, (DONE,))}

    def append(self, row: Row) -> bool:
        """Add a row, unless its address is done or has this attempt already. Returns whether it was added."""
        values = [json.dumps(own, sort_keys=True) if name in PARTS else own for name, own in vars(row).items()]
        marks = ", ".join("?" * len(_COLUMNS))
        query = (
            f"INSERT OR IGNORE INTO rows ({', '.join(_COLUMNS)}) SELECT {marks} "
            "WHERE NOT EXISTS (SELECT 1 FROM rows WHERE address = ? AND status = 'done')"
        )
        with self._transaction():
            added = self._connection.execute(query, (*values, row.address)).rowcount
            self._connection.execute("DELETE FROM claims WHERE address = ?", (row.address,))
        return added > 0

    def claim(self, address: str, owner: Owner) -> bool:
        """Say that a run computes a cell now. Returns False if another run that is alive does, or it is done."""
        now = time.time()
        with self._transaction():
            if self._one("SELECT 1 FROM rows WHERE address = ? AND status = 'done'", address):
                return False
            held = self._one("SELECT owner, renewed FROM claims WHERE address = ?", address)
            if held is not None and held[0] != str(owner) and not owner_of(held[0]).is_gone(held[1], now):
                return False
            self._connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (address, str(owner), now))
        return True

    def renew(self, owner: Owner) -> None:
        """Say that a run is alive."""
        with self._errors():
            self._connection.execute("UPDATE claims SET renewed = ? WHERE owner = ?", (time.time(), str(owner)))

    def release(self, owner: Owner) -> None:
        """Give back what a run has claimed."""
        with self._errors():
            self._connection.execute("DELETE FROM claims WHERE owner = ?", (str(owner),))

    def note(self, command: str, declaration: str, num_cells: int) -> None:
        """Note that a run began."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        values = (now, command, declaration, num_cells)
        with self._errors():
            self._connection.execute(
                "INSERT INTO runs (started, command, declaration, cells) VALUES (?, ?, ?, ?)", values
            )

    def rows(self) -> Iterator[Row]:
        """The last row of every address, in the order in which they were added."""
        with self._errors():
            found = self._connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM cells ORDER BY number").fetchall()
        for values in found:
            named = dict(zip(_COLUMNS, values, strict=True))
            yield Row(**{name: json.loads(own) if name in PARTS else own for name, own in named.items()})

    def close(self) -> None:
        """Close the store."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _settle(self) -> None:
        """Make the tables, or check that they are there."""
        run = self._connection.execute
        if file_system(self.path) not in NETWORK:
            run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        with self._transaction():
            if not run("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                for statement in _statements(_SCHEMA):
                    run(statement)
                run(f"PRAGMA application_id = {APPLICATION}")
                run(f"PRAGMA user_version = {VERSION}")
        (kind,), (version,) = run("PRAGMA application_id").fetchone(), run("PRAGMA user_version").fetchone()
        if kind != APPLICATION:
            raise SweepError(f"{self.path} is a SQLite file, but no store of a sweep; choose another file")
        if version != VERSION:
            raise SweepError(f"{self.path} has version {version}, not {VERSION}; use a newer upscale_opt")

    def _one(self, query: str, *values: object) -> Any:
        return self._connection.execute(query, values).fetchone()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise SweepError(
                f"cannot use the store {self.path} ({error}); choose a file on a disk that can be written and locked"
            ) from error


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: triggers have semicolons inside."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def file_system(path: Path) -> str:
    """The type of the file system of a path, as Linux names it. Empty if the system does not tell."""
    target = str(path.absolute().resolve())
    with contextlib.suppress(OSError):
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        inside = [own for own in mounts if target == own[1] or target.startswith(own[1].rstrip("/") + "/")]
        if inside:
            return max(reversed(inside), key=lambda own: len(own[1]))[2]
    return ""
