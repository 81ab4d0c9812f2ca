"""The Markdown page: how to read it, a summary per question, and every cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.latency.cells import KEY, VARIANTS, with_dtype_shown
from benchmarks.latency.measuring import Row
from benchmarks.results import markdown_table, provenance_of

COMPARED = ("greedy", "exact latency")
RATIOS = (
    ("greedy", "exact latency"),
    ("greedy, cheapest reads", "exact latency"),
    ("greedy", "unpruned"),
    ("exact latency", "unpruned"),
)
"""Pairs of variants. The page sums up how many times as long as the second the first takes."""
GROUPED = {
    "device and backend": ("device", "backend"),
    "network and batch size": ("model", "batch", "device", "backend"),
    "network and amount": ("model", "amount", "device", "backend"),
    "amount and batch size": ("amount", "batch", "device", "backend"),
    "memory format": ("format", "device", "backend"),
}
"""Columns by whose values the cells are summed up; a table for each."""
NUMBERS = ("amount", "batch")
"""Columns that are sorted by number. The values of other columns stay in the order of the rows."""
VERDICTS = ("faster", "tie", "slower")


def page(rows: Sequence[Row]) -> str:
    """The whole page.

    Parameters
    ----------
    rows
        The rows of all cells measured so far, at least one.
    """
    rows = with_dtype_shown(rows)
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
        "## One variant against another",
        "",
        "How many times as long as the second the first takes, by the medians of each cell.",
        "",
        markdown_table(_ratios(cells)),
        "",
        "Below: the median of the cells that have these values, and in brackets the least and the most; *faster*, "
        "*tie* and *slower* count exact latency against greedy (a tie if their quartiles overlap).",
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
    """Whether exact latency is faster or slower than greedy: only if their quartiles do not overlap."""
    greedy, exact = (cell[name] for name in COMPARED)
    if float(exact["to_floor_high"]) < float(greedy["to_floor_low"]):
        return "faster"
    return "slower" if float(exact["to_floor_low"]) > float(greedy["to_floor_high"]) else "tie"


def _ratios(cells: Sequence[dict[str, Row]]) -> list[dict[str, str]]:
    """A line per pair of variants, device and backend."""
    lines = []
    for (device, backend), own in _grouped(cells, ("device", "backend")).items():
        for first, second in RATIOS:
            found = [_to_floor(cell, first) / _to_floor(cell, second) for cell in own if cell.keys() >= {first, second}]
            if found:
                line = {"device": device, "backend": backend, "first": first, "second": second}
                line |= {"cells": str(len(found)), "geometric mean": f"{statistics.geometric_mean(found):.3f}"}
                line |= {"least": f"{min(found):.3f}", "most": f"{max(found):.3f}"}
                lines.append(line | {"first slower in": str(sum(ratio > 1 for ratio in found))})
    return lines


def _section(cells: Sequence[dict[str, Row]], name: str, columns: Sequence[str]) -> list[str]:
    """A heading, and a line per combination of values of these columns."""
    lines = []
    for values, own in _grouped(cells, columns).items():
        found = [verdict(cell) for cell in own]
        line = dict(zip(columns, values, strict=True)) | {"cells": str(len(own))}
        line |= {variant: _range(own, variant) for variant in VARIANTS if variant != "floor"}
        lines.append(line | {kind: str(found.count(kind)) for kind in VERDICTS})
    return [f"## By {name}", "", markdown_table(lines), ""]


def _grouped(cells: Sequence[dict[str, Row]], columns: Sequence[str]) -> dict[tuple[str, ...], list[dict[str, Row]]]:
    """The cells by their values in these columns, sorted by the first column, then by the second, and so on."""
    groups: dict[tuple[str, ...], list[dict[str, Row]]] = {}
    for cell in cells:
        groups.setdefault(tuple(str(cell["floor"][column]) for column in columns), []).append(cell)
    seen = list(dict.fromkeys(value for values in groups for value in values))

    def place(values: tuple[str, ...]) -> list[float]:
        named = zip(columns, values, strict=True)
        return [float(value) if column in NUMBERS else seen.index(value) for column, value in named]

    return {values: groups[values] for values in sorted(groups, key=place)}


def _range(cells: Sequence[dict[str, Row]], name: str) -> str:
    """Median, least and most of the ratios to the floor of the cells that have this variant."""
    ratios = [_to_floor(cell, name) for cell in cells if name in cell]
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _to_floor(cell: dict[str, Row], name: str) -> float:
    return float(cell[name]["to_floor"])


def _line(cell: dict[str, Row]) -> dict[str, str]:
    floor = cell["floor"]
    line = {name: str(floor[name]) for name in ("model", "amount", "batch", "format", "device", "backend")}
    line |= {"floor ms": str(floor["median_ms"])}
    line |= {name: f"{_to_floor(cell, name):.3f}" if name in cell else "" for name in VARIANTS if name != "floor"}
    return line | {"exact latency against greedy": verdict(cell)}
