"""Runs a sweep: computes the cells that a store lacks, with any engine, and appends their rows.

Several runs may work on one store, of one machine or of several. A run claims a cell before it computes it, and waits
at the end for cells that others have claimed. Claims save work, but do not decide: whatever happens, the store takes
one row per cell.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.addresses import Addresses
from upscale_opt.sweeps.cells import Cell
from upscale_opt.sweeps.computing import Task, compute, lost
from upscale_opt.sweeps.engines.interface import Engine
from upscale_opt.sweeps.lines_store import LinesStore
from upscale_opt.sweeps.owners import RENEWAL_SECONDS, this_process
from upscale_opt.sweeps.progress import Progress
from upscale_opt.sweeps.rows import Row
from upscale_opt.sweeps.stores import Store

WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    cells
        Cells of the sweep.
    known
        Of these, those with a row before the run: done, or failed and not tried again.
    done, failed
        Cells that this run computed.
    failed_before
        Of `known`, those that failed.
    others
        Cells that other runs computed meanwhile.
    """

    cells: int
    known: int
    done: int
    failed: int
    failed_before: int = 0
    others: int = 0

    def __str__(self) -> str:
        parts = [f"{self.cells} cells: {self.done} computed now, {self.known} known before"]
        if self.others:
            parts.append(f"{self.others} computed by other runs")
        if self.failed or self.failed_before:
            parts.append(f"{self.failed} failed now, {self.failed_before} before (--retry-failed tries them again)")
        return ", ".join(parts)


def part_of(cells: Sequence[Cell], part: int, parts: int) -> list[Cell]:
    """The cells of one of several equal parts, which different machines may compute without a common store.

    Parts are cut between networks where possible: a machine should trace few of them.

    Parameters
    ----------
    cells
        All cells.
    part, parts
        Number of the part, from 1 on, and how many there are.

    Raises
    ------
    SweepError
        If there is no such part.
    """
    if not 1 <= part <= parts:
        raise SweepError(f"there is no part {part} of {parts}; count parts from 1")
    ordered = sorted(range(len(cells)), key=lambda i: (str(cells[i].model), cells[i].seed, i))
    first, last = (len(cells) * number // parts for number in (part - 1, part))
    return [cells[i] for i in sorted(ordered[first:last])]


def run(
    cells: Sequence[Cell], store: Store, engine: Engine, *, retry_failed: bool = False, quiet: bool = False
) -> Summary:
    """Compute the cells that a store lacks.

    Parameters
    ----------
    cells
        The cells of the sweep.
    store
        Where rows are and go.
    engine
        Where cells are computed.
    retry_failed
        Compute failed cells again, too.
    quiet
        Tell nothing.

    Raises
    ------
    SweepError
        If the store cannot be used.
    ProblemError
        If a file that a cell names cannot be read.
    """
    shards = Path(f"{store.path}.shards")
    collect_shards(store, shards)
    addresses = Addresses()
    known = store.known()
    kept_in = str(shards.absolute()) if engine.keeps_shards else None
    tasks = [Task(addresses.of(cell), 1, cell, kept_in) for cell in cells]
    tasks = [replace(task, attempt=1 + known.get(task.address, (False, 0))[1]) for task in tasks]
    waiting = [task for task in tasks if task.address not in known or (retry_failed and not known[task.address][0])]
    old = [known[task.address][0] for task in tasks if task.address in known and task not in waiting]
    with Progress(len(waiting), quiet=quiet) as progress, _Claims(store) as claims, engine:
        num_others = _computed(waiting, store, engine, claims, progress)
    collect_shards(store, shards)
    return Summary(len(cells), len(old), progress.done, progress.failed, old.count(False), num_others)


def _computed(waiting: Sequence[Task], store: Store, engine: Engine, claims: _Claims, progress: Progress) -> int:
    """Compute what can be claimed, until every cell has a row. Returns how many rows came from other runs."""
    others = 0
    while waiting:
        before = progress.done + progress.failed
        postponed: list[Task] = []
        for row in engine.results(claims.claimed(waiting, postponed), compute, lost):
            if store.append(row):
                progress.add(row)
            else:
                others += 1
        known = store.known()
        waiting = [task for task in postponed if known.get(task.address, (False, 0))[1] < task.attempt]
        others += len(postponed) - len(waiting)
        if waiting and progress.done + progress.failed == before:
            time.sleep(WAIT_SECONDS)
    return others


class _Claims:
    """Claims cells for this run, and renews the claims in a thread of its own."""

    def __init__(self, store: Store) -> None:
        self.store, self.owner = store, this_process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def claimed(self, tasks: Sequence[Task], postponed: list[Task]) -> Iterator[Task]:
        """The tasks that are free, each claimed when it is taken. Others are postponed."""
        for task in tasks:
            if self.store.claim(task.address, self.owner):
                yield task
            else:
                postponed.append(task)

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL_SECONDS):
            with contextlib.suppress(SweepError):  # the store is busy: the next renewal is soon enough
                self.store.renew(self.owner)

    def __enter__(self) -> _Claims:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()
        self.store.release(self.owner)


def collect(store: Store, rows: Iterator[Row]) -> int:
    """Append rows of another store. Returns how many were new."""
    known = store.known()
    found = 0
    for row in rows:
        done, last = known.get(row.address, (False, 0))
        if not done:
            found += store.append(replace(row, attempt=max(row.attempt, last + 1) if row.done else row.attempt))
    return found


def collect_shards(store: Store, directory: Path) -> int:
    """Append the rows that workers kept in files of their own. The files stay: some workers may still run."""
    if not directory.is_dir():
        return 0
    found = 0
    for path in sorted(directory.glob("*.jsonl")):
        with LinesStore(path, create=False) as shard:
            found += collect(store, shard.rows())
    return found
