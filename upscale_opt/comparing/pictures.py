"""Pictures: the access x channel matrix of a segment, before and after reordering."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from problems import Evaluation, Order, Problem, evaluate
from problems.bundles import occupants
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.arguments.entrance import ORDERS, entrance
from upscale_opt.errors import UpscaleError

COLOURS = {
    "not read": "#ffffff",
    "dropped": "#e4e7eb",
    VIEW: "#2a9d8f",
    OVER_READ: "#e9b44c",
    PIECES: "#7b68b5",
    COPY: "#d1495b",
}


@entrance(orders=ORDERS)
def save_picture(problem: Problem, orders: dict[str, Order], path: str | Path, *, objective: str = "copies") -> None:
    """Draw one panel per order. Rows are accesses, columns are stored channels, and colours are read modes.

    Parameters
    ----------
    problem
        The segment.
    orders
        Panel title to order, such as ``{"original": Order.identity(problem), "auto": result.order}``.
    path
        The PNG file to write.
    objective
        The objective whose read modes and value are shown.

    Raises
    ------
    UpscaleError
        If the file cannot be written.
    """
    rows = len(problem.accesses)
    label_width = max(len(access.name) for access in problem.accesses)
    figure = Figure(figsize=(9 + 0.06 * label_width, len(orders) * (0.9 + 0.24 * rows) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(orders), 1, squeeze=False)[:, 0]
    cmap = ListedColormap(list(COLOURS.values()))
    for panel, (title, order) in zip(panels, orders.items(), strict=True):
        evaluation = evaluate(problem, order, objective)
        matrix = _matrix(problem, order, evaluation)
        panel.imshow(matrix, cmap=cmap, vmin=0, vmax=len(COLOURS) - 1, aspect="auto", interpolation="nearest")
        panel.set_yticks(range(rows), [access.name for access in problem.accesses], fontsize=8)
        panel.set_title(f"{title}: {evaluation}", fontsize=9, loc="left")
        panel.hlines(np.arange(rows - 1) + 0.5, -0.5, matrix.shape[1] - 0.5, color="white", linewidth=2)
        for edge in sorted(_starts(problem, order))[1:]:
            panel.axvline(edge - 0.5, color="black", linewidth=0.8)
    panels[-1].set_xlabel("stored position")
    handles = [Patch(facecolor=colour, edgecolor="#999999", label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle(f"segment {problem.name}", fontsize=10)
    with matplotlib.rc_context({"savefig.dpi": 130}):
        try:
            figure.savefig(path, format="png")
        except OSError as error:
            raise UpscaleError(f"cannot write {path}: {error.strerror}; choose a writable path") from error


def _matrix(problem: Problem, order: Order, evaluation: Evaluation) -> np.ndarray:
    """Colour index of every access and stored position; int, shape (num_accesses, num_stored)."""
    names = list(COLOURS)
    starts = _starts(problem, order)
    matrix = np.zeros((len(problem.accesses), problem.num_stored), dtype=int)
    for reader, reads in zip(problem.readers, problem.reads, strict=True):
        columns = slice(starts[reader.block], starts[reader.block] + len(order[reader.block]))
        kept = reads[order[reader.block]]
        colours = np.where(kept, names.index(evaluation.accesses[reader.access].mode), names.index("dropped"))
        matrix[reader.access, columns] = np.maximum(matrix[reader.access, columns], colours)
    return matrix


def _starts(problem: Problem, order: Order) -> list[int]:
    """The first column of every block. Blocks stand side by side, each in its place in the order."""
    occupant = occupants(len(problem.blocks), problem.bundles, order.arrangement)
    widths = np.array([len(order[b]) for b in occupant])
    starts = np.empty(len(occupant), dtype=np.int64)
    starts[occupant] = np.cumsum(widths) - widths
    return starts.tolist()
