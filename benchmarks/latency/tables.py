"""The Markdown page: how to read it, the question of each claim with its answer, and every cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.latency.cells import KEY, VARIANTS
from benchmarks.latency.measuring import Row
from benchmarks.results import markdown_table, provenance_of

COMPARED = ("greedy", "exact latency")
GROUPED = {
    "network and batch size": ("model", "batch", "device", "backend"),
    "amount and batch size": ("amount", "batch", "device", "backend"),
    "memory format": ("format", "device", "backend"),
    "device and backend": ("device", "backend"),
}
"""Columns by whose values the cells are summed up, in a table each."""
VERDICTS = ("faster", "tie", "slower")


def page(rows: Sequence[Row]) -> str:
    """The whole page.

    Parameters
    ----------
    rows
        Of all cells measured so far, at least one.
    """
    cells = by_cell(rows)
    lines = [
        "How to read this: every line is one masked network at one batch size and memory format. Its variants were "
        "measured in turn in one process, as many copies of each as the CSV says, of the floor twice as many; figures "
        "are ratios to the floor, median over rounds and copies, less what slowed a whole round down (the CSV has "
        "quartiles, milliseconds and read modes). **1 is the floor; lower is faster.** "
        f"The CSV says which command, at which commit, measured a row. {provenance_of(rows)}",
        "",
        "Variants:",
        "",
        *(f"- *{name}*: {meaning}" for name, meaning in VARIANTS.items()),
        "",
        "## In sum",
        "",
        markdown_table([_summary(cells, name) for name in VARIANTS if name != "floor"]),
        "",
        f"*exact latency* against *greedy*: {_verdicts(cells)}.",
        "",
        "Below: the median of the cells that have these values, and in brackets the least and the most; *faster*, "
        "*tie* and *slower* count exact latency against greedy.",
        "",
        *(part for name, columns in GROUPED.items() for part in _section(cells, name, columns)),
        "## Every cell",
        "",
        markdown_table([_line(own) for own in cells]),
    ]
    return "\n".join([*lines, ""])


def by_cell(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """The rows of each cell by variant, complete ones only."""
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[name]) for name in KEY), {})[row["variant"]] = row
    return [own for own in found.values() if own.keys() >= {"floor", *COMPARED}]


def verdict(cell: dict[str, Row]) -> str:
    """Whether exact latency is faster or slower than greedy beyond the noise: if their quartiles do not overlap."""
    greedy, exact = (cell[name] for name in COMPARED)
    if float(exact["to_floor_high"]) < float(greedy["to_floor_low"]):
        return "faster"
    return "slower" if float(exact["to_floor_low"]) > float(greedy["to_floor_high"]) else "tie"


def _verdicts(cells: Sequence[dict[str, Row]]) -> str:
    found = [verdict(cell) for cell in cells]
    return ", ".join(f"{found.count(kind)} {kind}" for kind in VERDICTS)


def _section(cells: Sequence[dict[str, Row]], name: str, columns: Sequence[str]) -> list[str]:
    return [f"## By {name}", "", markdown_table(_groups(cells, columns)), ""]


def _groups(cells: Sequence[dict[str, Row]], columns: Sequence[str]) -> list[dict[str, str]]:
    """One line per combination of values of these columns: networks as they come, numbers by size."""
    groups: dict[tuple[str, ...], list[dict[str, Row]]] = {}
    for cell in cells:
        groups.setdefault(tuple(str(cell["floor"][column]) for column in columns), []).append(cell)
    if columns[0] == "model":
        networks = list(dict.fromkeys(values[0] for values in groups))
        order = sorted(groups, key=lambda values: (networks.index(values[0]), *map(_by_size, values[1:])))
    else:
        order = sorted(groups, key=lambda values: [_by_size(value) for value in values])
    lines = []
    for values in order:
        own = groups[values]
        found = [verdict(cell) for cell in own]
        line = dict(zip(columns, values, strict=True)) | {"cells": str(len(own))}
        line |= {name: _range(own, name) for name in VARIANTS if name != "floor"}
        lines.append(line | {kind: str(found.count(kind)) for kind in VERDICTS})
    return lines


def _by_size(value: str) -> tuple[int, str]:
    """A key that sorts ``8`` in front of ``64``, and ``0.1`` in front of ``0.5``."""
    return len(value), value


def _range(cells: Sequence[dict[str, Row]], name: str) -> str:
    """Median, least and most of the ratios to the floor of the cells that have this variant."""
    ratios = [float(cell[name]["to_floor"]) for cell in cells if name in cell]
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _summary(cells: Sequence[dict[str, Row]], name: str) -> dict[str, str]:
    ratios = [float(cell[name]["to_floor"]) for cell in cells if name in cell]
    if not ratios:
        return {"variant": name, "cells": "0", "median": "", "best": "", "worst": ""}
    return {
        "variant": name,
        "cells": str(len(ratios)),
        "median": f"{statistics.median(ratios):.3f}",
        "best": f"{min(ratios):.3f}",
        "worst": f"{max(ratios):.3f}",
    }


def _line(cell: dict[str, Row]) -> dict[str, str]:
    floor = cell["floor"]
    line = {name: str(floor[name]) for name in ("model", "amount", "batch", "format", "device", "backend")}
    line |= {"floor ms": str(floor["median_ms"])}
    line |= {
        name: f"{float(cell[name]['to_floor']):.3f}" if name in cell else "" for name in VARIANTS if name != "floor"
    }
    return line | {"exact latency against greedy": verdict(cell)}
