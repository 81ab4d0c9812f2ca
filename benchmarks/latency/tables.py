"""The Markdown page: how to read it, the question of each claim with its answer, and every cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.latency.cells import KEY, VARIANTS
from benchmarks.latency.measuring import Row
from benchmarks.results import markdown_table, provenance

COMPARED = ("greedy", "exact latency")


def page(rows: Sequence[Row], command: str) -> str:
    """The whole page.

    Parameters
    ----------
    rows
        Of all cells measured so far, at least one.
    command
        What made them.
    """
    cells = by_cell(rows)
    lines = [
        "How to read this: every line is one masked network at one batch size and memory format. Its variants were "
        "measured in turn in one process, as many copies of each as the CSV says, of the floor twice as many; figures "
        "are ratios to the floor, median over rounds and copies, less what slowed a whole round down (the CSV has "
        "quartiles, milliseconds and read modes). **1 is the floor; lower is faster.** "
        f"{provenance(command)} Where rows were measured at another commit, the CSV says so.",
        "",
        *(f"- *{name}*: {meaning}" for name, meaning in VARIANTS.items()),
        "",
        "## In sum",
        "",
        markdown_table([_summary(cells, name) for name in VARIANTS if name != "floor"]),
        "",
        f"*exact latency* against *greedy*: {_verdicts(cells)}.",
        "",
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
    return ", ".join(f"{found.count(kind)} {kind}" for kind in ("faster", "tie", "slower"))


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
