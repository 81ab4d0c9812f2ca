"""Rows of a store as flat columns, for tables, for CSV files, and for the command line."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from upscale_opt.models.python_files import in_file
from upscale_opt.sweeps.cells import flat
from upscale_opt.sweeps.rows import Row

FIRST = (
    *("kind", "model", "amount", "importance", "mode", "scope", "objective", "method", "device", "dtype", "batch"),
    *("backend", "seed", "status", "reason"),
)
"""Columns that come first, in this order."""
DULL = ("data", "images", "input_shape", "verify", "threads", "memory_format", "time_limit", "weights", "tables")
COSTS = ("seconds", "cpu_seconds", "peak_bytes")
MOST_TOLD = 10


def columns_of(row: Row) -> dict[str, Any]:
    """All columns of a row that have a value."""
    return {
        **flat(row.cell),
        "model": short_name(row.cell["model"]["name"]),
        "status": row.status,
        **({"reason": row.reason} if row.reason else {}),
        **{name: value for name, value in row.figures.items() if value is not None},
        **row.costs,
    }


def short_name(model: str) -> str:
    """A model's name without the folder of its file.

    Examples
    --------
    >>> short_name("nets/small.py:Residual"), short_name("resnet18")
    ('small.py:Residual', 'resnet18')
    """
    own = in_file(model)
    return model if own is None else f"{PurePath(own[0]).name}:{own[1]}"


def table_of(rows: Sequence[Row]) -> tuple[list[str], list[dict[str, Any]]]:
    """Names of columns, and the rows. A column with one value in all rows, such as a default, is left out."""
    found = [columns_of(row) for row in rows]
    names = list(dict.fromkeys([*FIRST, *(name for row in found for name in row)]))
    values = {name: {str(row.get(name)) for row in found} for name in names}
    telling = [name for name in names if values[name] - {"None"} and (len(values[name]) > 1 or name not in DULL)]
    return telling, found


def csv_text(rows: Sequence[Row]) -> str:
    """All rows and all columns as CSV."""
    found = [columns_of(row) | {"address": row.address, "finished": row.finished} for row in rows]
    names = list(dict.fromkeys([*FIRST, *(name for row in found for name in row)]))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return buffer.getvalue()


def summary(rows: Sequence[Row]) -> str:
    """How many rows there are of every kind and status, and what they cost."""
    counts = Counter((row.cell["kind"], row.status) for row in rows)
    told = [f"{number} {kind} {status}" for (kind, status), number in sorted(counts.items())]
    seconds = sum(float(row.costs.get("cpu_seconds", 0)) for row in rows)
    peak = max((float(row.costs.get("peak_bytes", 0)) for row in rows), default=0.0)
    costs = f"; {seconds:.0f} CPU seconds, at most {peak / 1e9:.2f} GB" if seconds else ""
    return f"{len(rows)} rows: {', '.join(told) or 'none'}{costs}"


def failures(rows: Iterable[Row]) -> list[str]:
    """Why cells failed, the most frequent reasons first."""
    counts = Counter(row.reason for row in rows if not row.done)
    told = [f"{number} failed: {reason}" for reason, number in counts.most_common(MOST_TOLD)]
    more = len(counts) - MOST_TOLD
    return [*told, *([f"{more} more reasons"] if more > 0 else [])]


def text_of(value: Any) -> str:
    """A value for a table.

    Examples
    --------
    >>> text_of(0.123456), text_of(1234567), text_of("a"), text_of(None)
    ('0.1235', '1234567', 'a', '')
    """
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def mask_key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two cells of one pruned network have in common: network, seed, amount and masks, but not the images."""
    masking = cell["masking"]
    own = tuple(masking[name] for name in ("importance", "mode", "scope"))
    return (short_name(cell["model"]["name"]), cell["model"]["weights"], cell["seed"], cell["amount"], *own)
