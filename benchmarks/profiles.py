"""Performance profiles (Dolan and More, Mathematical Programming 91, 2002): share of proven instances over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def performance_profile(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the share of instances that each solver proves within a factor of the fastest solver's time.

    One panel per objective. An instance that no solver proves counts as proven by nobody.

    Parameters
    ----------
    rows
        Solves with ``objective``, ``instance``, ``solver``, ``status`` and ``seconds``.
    path
        Path of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    objectives = list(dict.fromkeys(row["objective"] for row in rows))
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    figure = Figure(figsize=(3.2 * len(objectives), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(objectives), sharey=True, squeeze=False)[0]
    for panel, objective in zip(axes, objectives, strict=True):
        ratios = time_ratios([row for row in rows if row["objective"] == objective], solvers)
        finite = ratios[np.isfinite(ratios)]
        factors = np.geomspace(1, max(2.0, 1.1 * finite.max(initial=1.0)), 200)
        for s, solver in enumerate(solvers):
            shares = (ratios[s, :, np.newaxis] <= factors).mean(axis=0)
            panel.step(factors, shares, where="post", label=solver, color=f"C{s}")
        panel.set_xscale("log")
        panel.set_title(objective)
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel("time / fastest solver's")
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("share of instances proven")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(5, len(solvers)))
    figure.savefig(path, dpi=110, metadata={"Software": None})


def time_ratios(rows: Sequence[dict[str, Any]], solvers: Sequence[str]) -> np.ndarray:
    """Time to prove each instance, divided by the fastest solver's time; infinite if there is no proof.

    Returns
    -------
    np.ndarray
        float64, shape (num_solvers, num_instances).

    Examples
    --------
    >>> solve = {"instance": "a", "status": "OPTIMAL"}
    >>> solves = [{**solve, "solver": "x", "seconds": "1"}, {**solve, "solver": "y", "seconds": "3"}]
    >>> time_ratios(solves, ["x", "y", "z"])
    array([[ 1.],
           [ 3.],
           [inf]])
    """
    instances = {name: i for i, name in enumerate(dict.fromkeys(row["instance"] for row in rows))}
    times = np.full((len(solvers), len(instances)), np.inf)
    for row in rows:
        if row["status"] == "OPTIMAL":
            times[solvers.index(row["solver"]), instances[row["instance"]]] = float(row["seconds"])
    fastest = times.min(axis=0)
    ratios = np.full(times.shape, np.inf)
    np.divide(times, fastest, out=ratios, where=np.isfinite(times))
    return ratios
