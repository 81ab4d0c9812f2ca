"""Rows of the CSV file: one per cell and variant, with the ratio to the peer's faster right export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.results import Row, csv_text
from benchmarks.vs_upscale_latency.cells import PEERS, Cell
from problems.files import write_text_atomically
from upscale_opt.models.precisions import FLOAT32

CELL_KEY = (
    "model",
    "amount",
    "seed",
    "image",
    "batch",
    "format",
    "dtype",
    "device",
    "machine",
    "threads",
    "time_limit",
)
"""Columns that identify the cell of a row."""
COLUMNS = (
    *(*CELL_KEY, "variant", "status", "reason", "relative_error"),
    *("runs", "median_ms", "iqr_ms", "peer", "ratio", "ratio_low", "ratio_high"),
    *("commit", "versions", "date", "load", "command"),
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a variant in a cell.

    Attributes
    ----------
    status
        ``ok``, ``wrong`` (it computes something else) or ``failed`` (it cannot be made, loaded or run).
    reason
        The reason if it is not ``ok``.
    relative_error
        max |its output - the masked network's| / max |the masked network's|; None if it failed.
    seconds
        Seconds per forward pass, one figure per round; empty if it failed.
    """

    status: str
    reason: str = ""
    relative_error: float | None = None
    seconds: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Median seconds per pass."""
        return float(np.median(self.seconds))


def key_of(cell: Cell, machine: str, num_threads: int) -> tuple[str, ...]:
    """The values of `CELL_KEY` as in the file. The time limit is ``plans`` if nothing is solved."""
    own = cell.subject
    values = (own.model, own.amount, own.seed, own.image_size, cell.batch, cell.memory_format, own.dtype, own.device)
    limit = own.time_limit if own.plans is None else "plans"
    return tuple(str(value) for value in (*values, machine, num_threads, limit))


def rows_of(
    key: Sequence[str], outcomes: Mapping[str, Outcome], runs: int, facts: Mapping[str, Any] | None = None
) -> list[Row]:
    """The rows of a cell.

    Parameters
    ----------
    key
        The values of `CELL_KEY`.
    outcomes
        Per variant, its outcome. All timed variants were timed in the same rounds.
    runs
        Requested number of rounds.
    facts
        Further columns.

    Returns
    -------
    list
        Status and times of every variant. ``ratio`` is the median over the rounds of (time of ``peer``) / (time of
        this variant); ``ratio_low`` and ``ratio_high`` are its quartiles. ``peer`` is the peer's faster right export,
        by the median. The ratios are empty if one of the two is not ``ok``.
    """
    peer = fastest([variant for variant in PEERS if variant in outcomes], outcomes)
    rows = []
    for variant, own in outcomes.items():
        row = {**dict.fromkeys(COLUMNS, ""), **dict(zip(CELL_KEY, key, strict=True)), **(facts or {})}
        row |= {"variant": variant, "status": own.status, "reason": own.reason, "runs": runs}
        if own.relative_error is not None:
            row["relative_error"] = f"{own.relative_error:.1e}"
        if own.seconds:
            low, high = np.percentile(own.seconds, (25, 75))
            row |= {"median_ms": f"{1e3 * own.median:.4g}", "iqr_ms": f"{1e3 * (high - low):.2g}"}
        if peer is not None and own.status == "ok" and variant != peer:
            names = ("ratio_low", "ratio", "ratio_high")
            figures = paired_ratio(outcomes[peer].seconds, own.seconds)
            row |= {"peer": peer, **{name: f"{figure:.4g}" for name, figure in zip(names, figures, strict=True)}}
        rows.append(row)
    return rows


def fastest(variants: Sequence[str], outcomes: Mapping[str, Outcome]) -> str | None:
    """The variant of smallest median among those that are ``ok``; None if there is none."""
    right = [variant for variant in variants if outcomes[variant].status == "ok"]
    return min(right, key=lambda variant: outcomes[variant].median, default=None)


def paired_ratio(over: Sequence[float], under: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratios of figures of the same round.

    Examples
    --------
    Drift that affects both alike does not change the ratio:

    >>> paired_ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    (2.0, 2.0, 2.0)
    """
    low, median, high = np.percentile(np.divide(over, under), (25, 50, 75))
    return float(low), float(median), float(high)


def read_rows(path: Path) -> list[Row]:
    """The rows of the CSV file; none if it does not exist. Older rows without a dtype are of float32."""
    return results.read_rows(path, {"dtype": FLOAT32})


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write the CSV file in one step."""
    write_text_atomically(csv_text(rows, COLUMNS), path)


def cell_key(row: Row) -> tuple[str, ...]:
    """The values that identify the cell of a row."""
    return tuple(str(row[name]) for name in CELL_KEY)


def is_done(rows: Sequence[Row], key: Sequence[str], variants: Sequence[str], runs: int) -> bool:
    """Whether there is a row of every variant of the cell, measured in at least the requested number of rounds."""
    found = {row["variant"] for row in rows if cell_key(row) == tuple(key) and int(row["runs"]) >= runs}
    return found >= set(variants)
