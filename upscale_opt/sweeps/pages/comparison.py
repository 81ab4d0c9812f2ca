"""Compares two stores cell by cell: which figures differ, and by how much."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from upscale_opt.sweeps.pages.columns import columns_of, mask_key
from upscale_opt.sweeps.rows import Row

COMPARED = ("value", "bound", "traffic", "copied_channels", "latency_ms", "pruned_top1", "tuned_top1", "parameters")
HIGHER = ("bound", "pruned_top1", "tuned_top1")
"""Figures of which more is better. Of the others, less is."""
NOISE = 0.02
"""Latencies that are closer than this share count as equal."""
_NAMES = ("kind", "model", "amount", "importance", "mode", "objective", "method", "device", "batch", "seed")


@dataclass(frozen=True)
class Comparison:
    """What two stores say of the same cells.

    Attributes
    ----------
    common, only_first, only_second
        Numbers of cells with results.
    counts
        Figure to how often the second store is better, equal and worse.
    lines
        The differences, largest first: columns of a table.
    """

    common: int
    only_first: int
    only_second: int
    counts: dict[str, dict[str, int]]
    lines: list[dict[str, Any]]


def compare(first: Sequence[Row], second: Sequence[Row]) -> Comparison:
    """Compare two stores. Cells are the same if their descriptions are, whatever versions computed them."""
    ours, theirs = ({_key(row): row for row in rows if row.done} for rows in (first, second))
    common = [key for key in ours if key in theirs]
    counts: dict[str, Counter[str]] = {}
    lines = []
    for key in common:
        before, after = ours[key], theirs[key]
        for name in COMPARED:
            old, new = before.figures.get(name), after.figures.get(name)
            if not isinstance(old, (int, float)) or not isinstance(new, (int, float)):
                continue
            change = (new - old) / abs(old) if old else float(new != old)
            small = abs(change) <= (NOISE if name.endswith("_ms") else 0)
            verdict = "equal" if small else "better" if (new > old) == (name in HIGHER) else "worse"
            counts.setdefault(name, Counter())[verdict] += 1
            if not small:
                own = columns_of(after)
                described = {column: own[column] for column in _NAMES if column in own}
                figures = {"figure": name, "first": old, "second": new, "change_percent": round(100 * change, 2)}
                lines.append({**described, **figures, "verdict": verdict})
    lines.sort(key=lambda line: -abs(line["change_percent"]))
    told = {name: {own: found[own] for own in ("better", "equal", "worse")} for name, found in counts.items()}
    return Comparison(len(common), len(ours) - len(common), len(theirs) - len(common), told, lines)


def _key(row: Row) -> str:
    """The description of a cell without folders of files."""
    cell = {name: value for name, value in row.cell.items() if name not in ("model", "tables", "masking")}
    shape = list(row.cell["model"]["input_shape"])
    return json.dumps([cell, mask_key(row.cell), shape], sort_keys=True)
