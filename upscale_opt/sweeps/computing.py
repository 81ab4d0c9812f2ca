"""Computes a cell: what a worker runs, whatever the engine. It raises no error; a cell that fails is a row, too."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from problems.errors import ProblemError
from solvers import SolverError
from upscale_opt.errors import SweepError, UpscaleError, UpscaleWarning
from upscale_opt.latency.environment import processor
from upscale_opt.sweeps.addresses import Addresses, versions
from upscale_opt.sweeps.cells import Cell
from upscale_opt.sweeps.costs import Clock, PeakMemory
from upscale_opt.sweeps.rows import DONE, FAILED, Row

MOST_LETTERS = 400
_ADDRESSES = Addresses()


@dataclass(frozen=True)
class Task:
    """A cell to compute.

    Attributes
    ----------
    address, attempt, cell
        As in `upscale_opt.sweeps.rows.Row`.
    shards
        Directory where the worker keeps the row, too. None: nowhere.
    """

    address: str
    attempt: int
    cell: Cell
    shards: str | None = None


def compute(task: Task) -> Row:
    """The row of a cell, done or failed."""
    clock, memory = Clock(), PeakMemory()
    figures: dict[str, Any] = {}
    reason, notes = "", []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", UpscaleWarning)
        try:
            import torch

            from upscale_opt.sweeps.figures import figures_of

            _require_same(task)
            torch.set_num_threads(task.cell.threads)
            figures = figures_of(task.cell)
        except Exception as error:  # any error of a network or of a library is this cell's, and is in its row
            figures, reason = {}, reason_of(error)
        notes = [str(own.message) for own in caught if issubclass(own.category, UpscaleWarning)]
    costs = {
        "seconds": round(clock.seconds, 3),
        "cpu_seconds": round(clock.cpu_seconds, 3),
        "peak_bytes": memory.growth + memory.before,
    }
    row = _row(task, FAILED if reason else DONE, reason, figures, costs, notes)
    if task.shards is not None:
        _keep(row, Path(task.shards))
    return row


def lost(task: Task, reason: str) -> Row:
    """The row of a cell whose processes died."""
    return _row(task, FAILED, reason[:MOST_LETTERS], {}, {}, [])


def reason_of(error: Exception) -> str:
    """One line about an error."""
    text = " ".join(str(error).split())[:MOST_LETTERS]
    known = isinstance(error, (UpscaleError, SolverError, ProblemError))
    return text if known and text else f"{type(error).__name__}: {text}"


def _require_same(task: Task) -> None:
    """Raise an error if this worker would compute something else than what the address stands for."""
    if _ADDRESSES.of(task.cell) != task.address:
        raise SweepError(
            "here the cell is not what was asked for: a file that it names, the version of a package, or (for a "
            "latency) the machine is another one; run the sweep again"
        )


def _row(task: Task, status: str, reason: str, figures: dict[str, Any], costs: dict[str, Any], notes: list[str]) -> Row:
    where = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "processor": processor(),
        "cores": os.cpu_count(),
        **versions(),
        "sources": sources_digest(),
        **({"notes": notes} if notes else {}),
    }
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    cell = task.cell.to_dict()
    return Row(task.address, status, cell, task.attempt, reason, figures, costs, where, finished)


@functools.cache
def sources_digest() -> str:
    """The first digits of a digest of the package's own code. It tells rows of different code of one version apart."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for floor in ("problems", "solvers", "upscale_opt"):
        for path in sorted((root / floor).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _keep(row: Row, directory: Path) -> None:
    """Append a row to this process's own file."""
    from upscale_opt.sweeps.lines_store import LinesStore

    directory.mkdir(parents=True, exist_ok=True)
    with LinesStore(directory / f"{socket.gethostname()}-{os.getpid()}.jsonl") as store:
        store.append(row)
