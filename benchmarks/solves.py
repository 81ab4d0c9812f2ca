"""Solves of instances of the library, each written to a file at once, so that an interrupted command goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.results import Row, commit, csv_text, load, read_rows
from problems.collection import LIBRARY

KEY = ("objective", "instance", "solver", "time_limit", "seed")
"""Columns that identify a solve."""


def names_of(family: str) -> list[str]:
    """Names of the library's instances of a family."""
    return [name for name in LIBRARY.names() if LIBRARY.entry(name).family == family]


def sample(family: str, names: Sequence[str], number: int, *, seed: int = 0) -> list[str]:
    """Some names of a family (all if there are fewer), always the same for the same seed.

    Examples
    --------
    >>> sample("f", ["a", "b", "c"], 2) == sample("f", ["a", "b", "c"], 2), sample("f", ["b", "a"], 9)
    (True, ['a', 'b'])
    """
    return sorted(random.Random(f"{seed} {family}").sample(list(names), min(number, len(names))))


def solve_missing(
    wanted: Sequence[Row], path: Path, columns: Sequence[str], solved: Callable[[Row], Mapping[str, Any]]
) -> bool:
    """Do the solves that are not in a CSV file yet, and append them.

    Parameters
    ----------
    wanted
        The solves, by the columns of `KEY` at least.
    path
        The file. It is made if it does not exist.
    columns
        Its columns; ``commit`` and ``load`` are filled in here.
    solved
        Does one solve, and returns its columns.

    Returns
    -------
    bool
        Whether all are done. False after Ctrl-C.
    """
    done = {tuple(row[column] for column in KEY) for row in read_rows(path)}
    todo = [row for row in wanted if tuple(row[column] for column in KEY) not in done]
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text(",".join(columns) + "\n")
    stamp = commit()
    try:
        for row in tqdm(todo, unit="solve"):
            filled = {**dict.fromkeys(columns, ""), **row, **solved(row), "commit": stamp, "load": load()}
            with path.open("a") as file:
                file.write(csv_text([filled], columns).split("\n", 1)[1])
    except KeyboardInterrupt:
        return False
    return True
