"""Bars as figures for papers: SVG, PDF or PNG, by the ending of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from upscale_opt.pages.bars import BEFORE, CHOSEN, LIMIT, SIMPLE, Bars
from upscale_opt.pages.figure_files import save_figure

_COLOURS = {BEFORE: "#8b98a5", SIMPLE: "#b3bfca", CHOSEN: "#0a66c2", LIMIT: "#ffffff"}
_INCHES, _ROW, _HEAD = 6.3, 0.23, 0.55


def save_bars(panels: Sequence[Bars], path: str | Path) -> None:
    """Draw bars below each other, with their noise.

    Parameters
    ----------
    panels
        What to draw, from above.
    path
        The file; its ending says which form it has.

    Raises
    ------
    UpscaleError
        If the ending is unknown, or the file cannot be written.
    """
    heights = [_HEAD + _ROW * len(own.bars) for own in panels]
    figure = Figure(figsize=(_INCHES, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for one, panel in zip(axes, panels, strict=True):
        for y, bar in enumerate(panel.bars):
            limit = bar.role == LIMIT
            one.barh(y, bar.value, 0.7, color=_COLOURS[bar.role], edgecolor="#5c6a77" if limit else "none",
                     linestyle="--" if limit else "-", linewidth=0.8)  # fmt: skip
            if bar.low is not None and bar.high is not None:
                one.plot([bar.low, bar.high], [y, y], color="black", linewidth=1, marker="|", markersize=5)
            value = f"{bar.value:,.{panel.digits}f}{f' {panel.unit}' if panel.unit else ''}"
            one.text(max(bar.value, bar.high or 0), y, f" {value}", va="center", fontsize=7)
        one.set_yticks(range(len(panel.bars)), [own.name for own in panel.bars], fontsize=7)
        one.invert_yaxis()
        one.set_xlim(0, 1.18 * panel.longest)
        one.tick_params(axis="both", length=0, labelsize=7)
        one.set_title(f"{panel.title}\n{panel.how}" if panel.how else panel.title, fontsize=7, loc="left")
        one.spines[["top", "right", "bottom"]].set_visible(False)
        one.set_xticks([])
    save_figure(figure, path)
