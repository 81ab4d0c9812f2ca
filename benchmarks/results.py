"""Files of benchmark results: a CSV file, and a Markdown table with machine, versions and commit."""

from __future__ import annotations

import csv
import datetime
import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from tqdm import tqdm

from problems.files import write_text_atomically
from upscale_opt.errors import UpscaleError
from upscale_opt.latency.environment import environment

Row = dict[str, Any]
Item = TypeVar("Item")

DIRECTORY = Path(__file__).parent / "results"
MEASURED = ("machine", "versions", "commit", "date", "load", "command")
"""Columns of benchmarks that can be continued. Their rows may come from several machines and commits."""


def commit() -> str:
    """The short commit hash, or "unknown"; with ``+`` if more than results and solutions changed since."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        results = (
            ":!benchmarks/results",
            ":(exclude,glob)problems/library/**/*.sol.json",
            ":!problems/library/archives",
        )
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
        return git("rev-parse", "--short", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def load() -> str:
    """Load average: processes that want to run, averaged over the last minute. Empty if the system does not say."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""


def measured_here(device: str, command: str) -> dict[str, Any]:
    """Columns that say where, when and by which command a row was measured: `MEASURED`.

    Parameters
    ----------
    device
        ``cpu``, or a torch device name that begins with ``cuda``.
    command
        The command line.
    """
    where = environment()
    machine = where["gpu"] if device.startswith("cuda") else f"{where['processor']}, {where['cores']} cores"
    values = (machine, _versions(where), commit(), str(datetime.date.today()), load(), command)
    return dict(zip(MEASURED, values, strict=True))


def replaced(
    rows: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], names: Sequence[str], key: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows without those that have this key in these columns, and then the new rows.

    Examples
    --------
    >>> replaced([{"a": 1, "b": 1}, {"a": 2, "b": 2}], [{"a": 1, "b": 3}], ["a"], ["1"])
    [{'a': 2, 'b': 2}, {'a': 1, 'b': 3}]
    """
    return [row for row in rows if [str(row[name]) for name in names] != list(key)] + list(new)


def resumed(
    files: Mapping[str, Sequence[str]],
    wanted: Mapping[tuple[str, ...], Item],
    measured: Callable[[Item], Mapping[str, Sequence[Row]]],
    page: Callable[[Mapping[str, list[Row]]], str],
    *,
    key: Sequence[str],
    defaults: Mapping[str, str] | None = None,
    fresh: bool = False,
    unit: str = "cell",
) -> int:
    """Measure what is missing in CSV files of `DIRECTORY`, and write the page of all rows. Returns the exit code.

    The files are written after every item, so an interrupted command continues where it stopped. The first file says
    what is done: it is written last, and rows of other files without a row in it are dropped.

    Parameters
    ----------
    files
        Names of the CSV files, without their ending, to their columns. The page is named like the first one.
    wanted
        What to measure, by its values of `key` as text.
    measured
        Measures one item; returns its rows for every file.
    page
        Makes the Markdown page from the rows of all files.
    key
        Columns that identify an item; all files have them.
    defaults
        Values of columns that older rows lack.
    fresh
        Measure everything again.
    unit
        What an item is called in the progress bar.

    Returns
    -------
    int
        0; 2 for bad input, of which one sentence is printed; 130 if interrupted.
    """
    paths = {name: DIRECTORY / f"{name}.csv" for name in files}
    first = next(iter(files))
    found = {name: read_rows(path, defaults) for name, path in paths.items()}

    def key_of(row: Row) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in key)

    done = set(map(key_of, found[first]))
    found = {name: [row for row in rows if key_of(row) in done] for name, rows in found.items()}
    try:
        for own, item in tqdm([(o, i) for o, i in wanted.items() if fresh or o not in done], unit=unit):
            for name, rows in measured(item).items():
                found[name] = replaced(found[name], rows, key, own)
            for name in [*[name for name in files if name != first], first]:
                write_text_atomically(csv_text(found[name], files[name]), paths[name])
    except KeyboardInterrupt:
        return 130
    except UpscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not found[first]:
        return 0
    text = page(found)
    write_text_atomically(text, paths[first].with_suffix(".md"))
    print(text)
    return 0


def read_rows(path: Path, defaults: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a CSV file; none if it does not exist. The defaults are values of columns that the file may lack."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{**(defaults or {}), **row} for row in csv.DictReader(file)]


def per_cent(share: float | None) -> str:
    """A share for a CSV, in per cent; empty if it is not known.

    Examples
    --------
    >>> per_cent(0.1416), per_cent(None)
    ('14.2', '')
    """
    return "" if share is None else f"{100 * share:.1f}"


def save(name: str, rows: Sequence[dict[str, Any]], summary: str) -> str:
    """Write ``results/NAME.csv`` and ``results/NAME.md``; returns the Markdown.

    Parameters
    ----------
    name
        Name of the benchmark.
    rows
        One dictionary per row, all with the same keys.
    summary
        Sentences above the table.
    """
    DIRECTORY.mkdir(exist_ok=True)
    write_text_atomically(csv_text(rows), DIRECTORY / f"{name}.csv")
    return save_markdown(name, [summary, "", markdown_table(rows)])


def save_markdown(name: str, lines: Sequence[str]) -> str:
    """Write ``results/NAME.md``: the first line, where and how it was measured, the other lines. Returns the text."""
    DIRECTORY.mkdir(exist_ok=True)
    markdown = "\n".join([lines[0], "", provenance(f"python -m benchmarks.{name}"), *lines[1:], ""])
    write_text_atomically(markdown, DIRECTORY / f"{name}.md")
    return markdown


def provenance(command: str) -> str:
    """A sentence with date, machine, versions, commit and command."""
    return f"Measured {_here()}; commit {commit()}. Command: `{command}`."


def provenance_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Dates, machines and versions, and a list of the commands that measured rows, with the commits they ran at.

    Parameters
    ----------
    rows
        Rows of a benchmark that can be continued. They have the columns `MEASURED`; old rows may lack them.

    Examples
    --------
    >>> common = {"machine": "A", "versions": "torch 2", "date": "2026-01-01", "command": "ls"}
    >>> print(provenance_of([common | {"commit": "a1"}, common | {"commit": "b2", "date": "2026-01-03"}]))
    Measured 2026-01-01 to 2026-01-03 on A (torch 2) by these commands, at the commits beside them:
    <BLANKLINE>
    - `ls` (a1, b2)
    """

    def noted(*names: str) -> list[tuple[str, ...]]:
        return list(dict.fromkeys(tuple(str(row.get(name) or "") for name in names) for row in rows))

    dates = sorted(date for (date,) in noted("date") if date) or ["(dates not noted)"]
    machines = [
        f"{machine or 'a machine not noted'} ({versions})" for machine, versions in noted("machine", "versions")
    ]
    commits: dict[str, list[str]] = {}
    for command, own in noted("command", "commit"):
        commits.setdefault(f"`{command}`" if command else "a command not noted", []).append(own)
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    head = f"Measured {when} on {'; '.join(machines)} by these commands, at the commits beside them:"
    return "\n".join([head, "", *(f"- {command} ({', '.join(own)})" for command, own in commits.items())])


def _here() -> str:
    """Today's date, the machine and the versions."""
    where = environment()
    torch = f"{where['torch_threads']} torch threads, GPU: {where['gpu'] or 'none'}; " if "gpu" in where else ""
    return (
        f"{datetime.date.today()} on {where['machine']}, {where['processor']}, {where['cores']} cores, {torch}"
        f"{_versions(where)}"
    )


def _versions(where: Mapping[str, Any]) -> str:
    packages = ("torch", "torchvision", "ortools", "numpy")
    return ", ".join([f"Python {where['python']}", *(f"{package} {where[package]}" for package in packages)])


def csv_text(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    """The rows as CSV with a header. Default columns: those of the first row. A missing value is empty."""
    buffer = io.StringIO()
    extra: Literal["ignore", "raise"] = "ignore" if columns else "raise"
    writer = csv.DictWriter(buffer, columns or list(rows[0]), extrasaction=extra, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table with a header."""
    columns = list(rows[0])
    return "\n".join(
        [
            "| " + " | ".join(columns) + " |",
            "|" + "---|" * len(columns),
            *("| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows),
        ]
    )


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
