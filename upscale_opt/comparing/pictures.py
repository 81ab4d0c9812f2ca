"""Pictures: the access x channel matrix of a segment, before and after reordering. What is counted stands out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from problems import Order, Problem, evaluate
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.arguments.entrance import ORDERS, entrance
from upscale_opt.pages.figure_files import form_of, save_figure
from upscale_opt.pages.states import DROPPED, KEPT, STATES, UNREAD, block_starts, states

COLOURS = {
    UNREAD: "#ffffff",
    DROPPED: "#eef2f5",
    VIEW: "#bccad6",
    KEPT: "#f3d9a4",
    OVER_READ: "#e3960b",
    PIECES: "#7d5cc4",
    COPY: "#cb2a4b",
}
MEANINGS = {
    DROPPED: "dropped",
    VIEW: "kept: view",
    KEPT: "kept: in an over-read",
    OVER_READ: "dropped, but read",
    PIECES: "kept: joined from pieces",
    COPY: "kept: copied",
}
"""What the colours say, of the states in the legend."""


@entrance(orders=ORDERS)
def save_picture(problem: Problem, orders: dict[str, Order], path: str | Path, *, objective: str = "copies") -> None:
    """Draw one panel per order. Rows are accesses, columns are stored channels, and colours are what is done with them.

    Channels that cost something have strong colours: copied ones, joined ones, and those that are read in vain.

    Parameters
    ----------
    problem
        The segment.
    orders
        Panel title to order, such as ``{"original": Order.identity(problem), "auto": result.order}``.
    path
        The file to write. Its ending chooses the form: ``.png``, ``.svg`` or ``.pdf``.
    objective
        The objective whose read modes and value are shown.

    Raises
    ------
    UpscaleError
        If the ending is another one, or the file cannot be written.
    """
    form_of(path)
    rows = len(problem.accesses)
    label_width = max(len(access.name) for access in problem.accesses)
    figure = Figure(figsize=(9 + 0.06 * label_width, len(orders) * (0.9 + 0.24 * rows) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(orders), 1, squeeze=False)[:, 0]
    cmap, shown = ListedColormap([COLOURS[own] for own in STATES]), set()
    for panel, (title, order) in zip(panels, orders.items(), strict=True):
        evaluation = evaluate(problem, order, objective)
        matrix = states(problem, order, evaluation)
        shown |= {STATES[own] for own in np.unique(matrix)}
        panel.imshow(matrix, cmap=cmap, vmin=0, vmax=len(STATES) - 1, aspect="auto", interpolation="nearest")
        panel.set_yticks(range(rows), [access.name for access in problem.accesses], fontsize=8)
        panel.set_title(f"{title}: {evaluation}", fontsize=9, loc="left")
        panel.hlines(np.arange(rows - 1) + 0.5, -0.5, matrix.shape[1] - 0.5, color="white", linewidth=2)
        for edge in sorted(block_starts(problem, order))[1:]:
            panel.axvline(edge - 0.5, color="black", linewidth=0.8)
    panels[-1].set_xlabel("stored position")
    handles = [
        Patch(facecolor=COLOURS[own], edgecolor="#999999", label=text) for own, text in MEANINGS.items() if own in shown
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle(f"segment {problem.name}", fontsize=10)
    save_figure(figure, path)
