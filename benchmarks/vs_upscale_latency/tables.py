"""The Markdown page: how to read it, a summary of the ratios, every cell, and every failure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.results import markdown_table, provenance_of
from benchmarks.vs_upscale_latency.cells import MASKED, OWN, PEERS, VARIANTS
from benchmarks.vs_upscale_latency.rows import CELL_KEY, Row, cell_key


def page(rows: Sequence[Row]) -> str:
    """The whole page.

    Parameters
    ----------
    rows
        As `rows.read_rows` returns them, at least one.
    """
    present = [variant for variant in VARIANTS if any(row["variant"] == variant for row in rows)]
    lines = [
        "How to read this: every line is one masked network at one batch size and memory format, its exports measured "
        "in turn in one process as TorchScript files; times are median milliseconds per forward pass (± half the "
        "distance between the quartiles), a ratio is the time of apple-upscale's faster right export over ours, "
        "paired by round, median [quartiles], and **above 1 our export is faster**. "
        "The CSV says which command, at which commit and under which load, measured a row. "
        f"{provenance_of(rows)}",
        "",
        "Variants:",
        "",
        *(f"- `{variant}`: {VARIANTS[variant]}" for variant in present),
        "",
        f"The same for all lines: {_shared_text(rows)}.",
        "",
    ]
    summary = _summary(rows)
    if summary:
        lines += ["## Ratios in sum", "", markdown_table(summary), ""]
    lines += ["## Every cell", "", markdown_table(_cells(rows, present)), ""]
    failures = [row for row in rows if row["status"] != "ok"]
    lines += ["## Failures and wrong results", ""]
    lines += [
        f"- {row['model']} {row['amount']}, N = {row['batch']}, {row['format']}, {row['dtype']}, {row['device']}, "
        f"`{row['variant']}`: {row['status']}: {row['reason']}"
        for row in failures
    ] or ["None: every output is the masked network's."]
    return "\n".join([*lines, ""])


def _shared(rows: Sequence[Row]) -> dict[str, str]:
    """Columns of the key in which all rows have the same value."""
    values = {name: {str(row[name]) for row in rows} for name in (*CELL_KEY, "runs")}
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1 and name != "model"}


def _shared_text(rows: Sequence[Row]) -> str:
    return ", ".join(f"{name} {value}" for name, value in _shared(rows).items()) or "nothing"


def _cells(rows: Sequence[Row], present: Sequence[str]) -> list[dict[str, str]]:
    """A line per cell."""
    shared = _shared(rows)
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(cell_key(row), {})[row["variant"]] = row
    lines = []
    for found in cells.values():
        first = next(iter(found.values()))
        line = {name: str(first[name]) for name in (*CELL_KEY, "runs") if name not in shared}
        line |= {f"{variant} ms": _time(found.get(variant)) for variant in present}
        line |= {f"peer / {variant}": _ratio(found.get(variant)) for variant in (MASKED, *OWN) if variant in present}
        lines.append(line)
    return lines


def _time(row: Row | None) -> str:
    if row is None:
        return ""
    if not row["median_ms"]:
        return row["status"]
    text = f"{row['median_ms']} ± {float(row['iqr_ms']) / 2:.3g}"
    return text if row["status"] == "ok" else f"{row['status']} ({text})"


def _ratio(row: Row | None) -> str:
    if row is None or not row["ratio"]:
        return ""
    return f"{float(row['ratio']):.2f} [{float(row['ratio_low']):.2f}, {float(row['ratio_high']):.2f}]"


def _summary(rows: Sequence[Row]) -> list[dict[str, str]]:
    """A line per own variant, device, dtype, memory format and batch size."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["variant"] in OWN and row["ratio"]:
            names = ("variant", "machine", "device", "dtype", "format", "batch")
            groups.setdefault(tuple(str(row[name]) for name in names), []).append(row)
    lines = []
    for (variant, machine, device, dtype, memory_format, batch), found in sorted(groups.items()):
        faster = sum(float(row["ratio_low"]) > 1 for row in found)
        slower = sum(float(row["ratio_high"]) < 1 for row in found)
        lines.append(
            {
                "ours": variant,
                "device": f"{device} ({machine})",
                "dtype": dtype,
                "format": memory_format,
                "batch": batch,
                "cells": str(len(found)),
                "geometric mean of peer / ours": f"{statistics.geometric_mean(float(r['ratio']) for r in found):.2f}",
                "ours faster": str(faster),
                "ours slower": str(slower),
                "within the quartiles": str(len(found) - faster - slower),
                **{f"{peer} was the faster": str(sum(row["peer"] == peer for row in found)) for peer in PEERS},
            }
        )
    return lines
