"""Running tasks model by model, each model in a process of its own, and appending a row after every one."""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.coverage.measurement import Row, Task, failure, measure
from benchmarks.results import commit, csv_text, load

KEY = ("model", "amount", "mode", "solver", "objective", "time_limit", "seed")
"""Columns that say what a row is of: the fields of a `Task`."""
COLUMNS = (
    *("family", *KEY, "status", "reason", "error", "control"),
    *("input", "parameters", "model_mb", "channels", "free", "not_removable", "pinned", "pinned_by"),
    *("trace_seconds", "trace_cpu_seconds", "trace_mb", "solve_seconds", "export_seconds", "verify_seconds", "peak_mb"),
    *("removed", "copies", "proven", "segments", "commit", "versions", "load"),
)

LARGE_PAGES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
"""An environment variable for children: on Linux, memory in large pages is touched first several times as fast."""


def sweep(family: str, tasks: Sequence[Task], path: Path, *, retry: bool = False, num_threads: int = 1) -> bool:
    """Measure the tasks that the file has no row of and append them; returns whether all are done.

    Parameters
    ----------
    family
        Which family the models are of.
    tasks
        In the order in which they are measured.
    path
        The CSV file.
    retry
        Forget failed rows of these tasks, so that they are measured again.
    num_threads
        Of torch.
    """
    rows = read_rows(path)
    keys = {key_of(task) for task in tasks}
    if retry:
        rows = [row for row in rows if row["status"] == "verified" or tuple(row[name] for name in KEY) not in keys]
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
    """What says in the file which task a row is of."""
    return tuple(_texts(task)[name] for name in KEY)


def read_rows(path: Path) -> list[Row]:
    """The rows of the CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _in_child(tasks: Sequence[Task], num_threads: int) -> Any:
    """Yield the rows that a fresh process finds; if it dies, a failure takes the place of the next row."""
    os.environ.setdefault(*LARGE_PAGES)
    context = multiprocessing.get_context("spawn")
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
    """What the child does."""
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
    packages = ("torch", "timm" if family == "timm" else "torchvision")
    return ", ".join(f"{package} {metadata.version(package)}" for package in packages)
