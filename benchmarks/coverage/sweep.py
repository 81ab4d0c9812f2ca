"""Runs the tasks model by model, each model in a separate process, and appends a row after every task."""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.coverage.measurement import Row, Task, failure, measure
from benchmarks.results import commit, csv_text, load

KEY = ("model", "amount", "mode", "solver", "objective", "time_limit", "seed")
"""Columns that identify a row: the fields of a `Task`."""
COLUMNS = (
    *("family", *KEY, "status", "reason", "error", "control"),
    *("input", "parameters", "model_mb", "channels", "free", "not_removable", "pinned", "pinned_by"),
    *("trace_seconds", "trace_cpu_seconds", "trace_mb", "solve_seconds", "export_seconds", "verify_seconds", "peak_mb"),
    *("removed", "copies", "proven", "segments", "commit", "versions", "load", "gradients", "gradients_reason"),
)

LARGE_PAGES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
"""An environment variable for child processes: on Linux, the first access to memory is much faster in large pages."""


def sweep(
    family: str,
    tasks: Sequence[Task],
    path: Path,
    *,
    retry: bool = False,
    again: bool = False,
    num_threads: int = 1,
) -> bool:
    """Measure the tasks that have no row in the file, and append their rows. Returns whether all are done.

    Parameters
    ----------
    family
        The family of the models.
    tasks
        In the order in which they are measured.
    path
        The CSV file.
    retry
        Forget failed rows of these tasks, so that they are measured again.
    again
        Forget all rows of these tasks.
    num_threads
        Number of torch threads.
    """
    rows = read_rows(path)
    keys = {key_of(task) for task in tasks}
    if retry or again:
        kept = "verified" if retry and not again else None
        rows = [row for row in rows if row["status"] == kept or tuple(row[name] for name in KEY) not in keys]
    path.parent.mkdir(exist_ok=True)
    path.write_text(csv_text([dict.fromkeys(COLUMNS, "")]).split("\n")[0] + "\n" + _lines(rows))
    done = {tuple(row[name] for name in KEY) for row in rows}
    waiting = [task for task in tasks if key_of(task) not in done]
    facts = {"family": family, "commit": commit(), "versions": _versions(family)}
    try:
        with tqdm(total=len(waiting), unit="row") as bar:
            while waiting:
                group = [task for task in waiting if task.model == waiting[0].model]
                bar.set_postfix_str(group[0].model)
                for found, task in zip(_in_child(group, num_threads), group, strict=False):
                    row = {**dict.fromkeys(COLUMNS, ""), **facts, **_texts(task), **found, "load": load()}
                    with path.open("a") as file:
                        file.write(_lines([row]))
                    waiting.remove(task)
                    bar.update()
                    if found["status"] != "verified":
                        bar.write(f"{task.model} {task.amount} {task.mode} {task.solver}: {found['reason']}")
    except KeyboardInterrupt:
        return False
    return True


def key_of(task: Task) -> tuple[str, ...]:
    """The values that identify a task in the file."""
    return tuple(_texts(task)[name] for name in KEY)


def read_rows(path: Path) -> list[Row]:
    """The rows of the CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _in_child(tasks: Sequence[Task], num_threads: int) -> Any:
    """Yield the rows of a new process. If the process dies, the next row is a failure.

    The many small networks of the wild family share the imports of this process (`preload`), where the system can fork.
    """
    os.environ.setdefault(*LARGE_PAGES)
    forks = "/" in tasks[0].model and sys.platform == "linux"
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(tasks, num_threads, sender), daemon=True)
    child.start()
    sender.close()
    try:
        for _ in tasks:
            try:
                yield receiver.recv()
            except EOFError:
                child.join()
                yield failure(f"the process ended with exit code {child.exitcode} (-9: out of memory)")
                return
        child.join()
    finally:
        child.kill()
        child.join()
        receiver.close()


def _report(tasks: Sequence[Task], num_threads: int, sender: Any) -> None:
    """The function that the child process runs."""
    torch.set_num_threads(num_threads)
    try:
        for row in measure(tasks):
            sender.send(row)
    except KeyboardInterrupt:
        pass


def _texts(task: Task) -> dict[str, str]:
    return {name: str(value) for name, value in asdict(task).items()}


def _lines(rows: Sequence[Row]) -> str:
    full = [{name: row.get(name, "") for name in COLUMNS} for row in rows]
    return csv_text(full).split("\n", 1)[1] if full else ""


def _versions(family: str) -> str:
    own = {"timm": ("timm",), "wild": ("timm", "segmentation_models_pytorch", "transformers", "diffusers")}
    packages = ("torch", *own.get(family, ("torchvision",)))
    return ", ".join(f"{package} {metadata.version(package)}" for package in packages if find_spec(package))
