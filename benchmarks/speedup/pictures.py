"""A picture per network: distance to the dense network, and accuracy, against measured speedup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Row
from benchmarks.speedup.cells import METHODS, TIME
from benchmarks.speedup.judging import OK

FIGURES = {"kl": "KL after repair", "tuned_kl": "KL after fine-tuning"}
COLOURS = dict(
    zip(METHODS, ("#8d99ae", "#e9c46a", "#b08968", "#7b68b5", "#2a9d8f", "#d1495b", "#264653", "#f4a261"), strict=True)
)
MARKERS = dict(zip(METHODS, "ovPso^Dx", strict=True))


def save_pictures(rows: Sequence[Row], directory: Path, prefix: str) -> dict[str, str]:
    """Draw a picture per network with cells of a time budget. Returns network to file name."""
    found = {}
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network and row["status"] == OK and row["budget"] == TIME]
        if own:
            found[network] = f"{prefix}_{network}.png"
            _save(own, network, directory / found[network])
    return found


def _save(rows: Sequence[Row], network: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    conditions = sorted({(row["backend"], int(row["batch"])) for row in rows})
    figures = [name for name in FIGURES if any(row.get(name) is not None for row in rows)]
    figure = Figure(figsize=(3.6 * len(conditions) + 1, 3.0 * len(figures) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(figures), len(conditions), squeeze=False)
    for line, name in zip(panels, figures, strict=True):
        for panel, condition in zip(line, conditions, strict=True):
            _panel(panel, [row for row in rows if (row["backend"], int(row["batch"])) == condition], name)
            panel.set_title(f"{network}, {condition[0]}, batch {condition[1]}", fontsize=9)
            panel.set_xlabel("measured speedup")
            panel.set_yscale("log")
            panel.grid(alpha=0.3)
        line[0].set_ylabel(FIGURES[name])
    handles = {label: own for line in panels for panel in line for own, label in zip(*_legend(panel), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(conditions), fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _legend(panel: Any) -> tuple[list[Any], list[str]]:
    return panel.get_legend_handles_labels()


def _panel(panel: Any, rows: Sequence[Row], name: str) -> None:
    """A line per method through the means over the seeds."""
    points: dict[str, dict[float, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get(name) is not None:
            points[row["method"]][float(row["target"])].append((float(row["measured"]), max(1e-6, float(row[name]))))
    for method in (own for own in METHODS if own in points):
        means = np.array(sorted(np.mean(own, axis=0).tolist() for own in points[method].values()))
        panel.plot(*means.T, color=COLOURS[method], marker=MARKERS[method], markersize=5, label=METHODS[method])
