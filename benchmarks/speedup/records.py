"""Rows of cells in a file: a line of JSON per cell, written as soon as the cell is done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.gpu.records import Records
from benchmarks.results import Row, measured_here
from benchmarks.speedup.cells import KEY
from benchmarks.speedup.judging import FAILED

PACKAGES = ("onnx", "onnxruntime", "torch-pruning", "scikit-learn", "scikit-image", "foolbox", "mlxtend")


def key_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What identifies the cell of a row."""
    return tuple(str(row[name]) for name in KEY)


def read(path: Path) -> dict[tuple[str, ...], Row]:
    """The rows of a file by their cells. The last row of a cell counts; a line that was cut off does not."""
    if not path.exists():
        return {}
    found: dict[tuple[str, ...], Row] = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the run was killed while it wrote
        found[key_of(row)] = row
    return found


def append(row: Row, path: Path, *, command: str, settings: Mapping[str, Any]) -> Row:
    """Append a row with machine, versions, commit, date and settings. Returns the whole row."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")  # after a line that was cut off
    facts = {**measured_here("cpu", command), "packages": _versions(), "settings": dict(settings)}
    Records(path.parent, facts).add(path.stem, [row])
    return {**row, **facts}


def is_done(rows: Mapping[tuple[str, ...], Row], key: Sequence[str]) -> bool:
    """Whether a cell has a row. One that failed is tried again."""
    row = rows.get(tuple(key))
    return row is not None and row["status"] != FAILED


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
