"""The picture: accuracy against measured latency, a column per network, with and without fine-tuning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.cells import LEARNT
from benchmarks.accuracy.equal_latency import STAGES
from upscale_opt.arguments.modes import CONSTRAINED, INPUT, OUTPUT

Row = dict[str, Any]
LINES = {
    ("unconstrained inputs, exact", INPUT, "exact"): ("#2a9d8f", "-", "o"),
    ("unconstrained inputs, greedy", INPUT, "greedy"): ("#2a9d8f", ":", "x"),
    ("unconstrained outputs, exact", OUTPUT, "exact"): ("#7b68b5", "-", "s"),
    ("constrained, exact", CONSTRAINED, "exact"): ("#d1495b", "-", "^"),
}
"""Per title, mode and export: colour, line and marker."""
_MARKERS = dict(zip(LEARNT, "*PD", strict=True))


def save_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw a point per importance and amount (mean over the seeds), a line through the means over the importances."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["status"] == "ok" and row.get("exact")]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure = Figure(figsize=(4.4 * max(1, len(networks)), 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(STAGES), max(1, len(networks)), squeeze=False)
    for line, (stage, words) in zip(panels, STAGES.items(), strict=True):
        for panel, network in zip(line, networks, strict=False):
            own = [row for row in rows if row["network"] == network]
            _panel(panel, own, stage)
            panel.set_title(f"{network}, {words}", fontsize=9)
            panel.set_xlabel("latency / dense")
            panel.grid(alpha=0.3)
        line[0].set_ylabel("% of 500 digits")
    handles, labels = panels[-1][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _panel(panel: Any, rows: Sequence[Row], stage: str) -> None:
    for (title, mode, export), (colour, style, marker) in LINES.items():
        points = _points([row for row in rows if row["mode"] == mode and row["method"] not in LEARNT], stage, export)
        if not points:
            continue
        everything = np.array([point for own in points.values() for point in own])
        panel.scatter(*everything.T, color=colour, marker=marker, s=10, alpha=0.35)
        middle = np.array(sorted(np.mean(own, axis=0).tolist() for own in points.values()))
        panel.plot(*middle.T, color=colour, linestyle=style, marker=marker, label=title)
    for method in LEARNT if stage == "tuned" else ():
        points = _points([row for row in rows if row["method"] == method], stage, "exact")
        if points:
            own = np.array([point for some in points.values() for point in some])
            panel.scatter(*own.T, color="#222222", marker=_MARKERS[method], s=36, label=f"{method}, exact")


def _points(rows: Sequence[Row], stage: str, export: str) -> dict[str, list[tuple[float, float]]]:
    """Per amount, points of latency and accuracy, one per method: means over the seeds."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        groups[row["amount"], row["method"]].append((float(row[export]), float(row[stage])))
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (amount, _), own in groups.items():
        latency, accuracy = np.mean(own, axis=0)
        found[amount].append((float(latency), float(accuracy)))
    return found
