"""A picture of predicted against measured latencies: one point per order, the diagonal, and the noise."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from upscale_opt.comparing.order_checks import OrderCheck
from upscale_opt.pages.figure_files import save_figure


def save_scatter(check: OrderCheck, path: str | Path, *, title: str) -> None:
    """Draw predicted against measured seconds of the whole model. Bars show the measurement noise.

    Parameters
    ----------
    check
        The check to draw.
    path
        The file to write. Its ending chooses the form: ``.png``, ``.svg`` or ``.pdf``.
    title
        Title of the picture.

    Raises
    ------
    UpscaleError
        If the ending is another one, or the file cannot be written.
    """
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, predicted, measured in zip(check.names, check.predicted, check.measured, strict=True):
        own = check.profiles[name]
        axes.errorbar(1e3 * predicted, 1e3 * measured, yerr=1e3 * own.iqr / 2, fmt="o", markersize=5, label=name)
    values = [1e3 * value for value in (*check.predicted, *check.measured, check.floor)]
    low, high = min(values), max(values)
    margin = 0.03 * (high - low) or 1.0
    axes.plot([low - margin, high + margin], [low - margin, high + margin], color="#999999", linewidth=1)
    axes.axhline(1e3 * check.floor, color="#999999", linewidth=1, linestyle=":", label="floor")
    axes.set_xlabel("predicted, ms")
    axes.set_ylabel("measured, ms")
    axes.set_title(f"{title}\n{check.agreement.verdict}", fontsize=10)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    save_figure(figure, path)
