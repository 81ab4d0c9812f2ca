"""Pictures of a segment's orders for pages: one strip of channels per access, in which counted channels stand out.

Neighbouring channels of one state are one rectangle, so a wide segment takes little room once its classes are together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from problems import AccessCost, Evaluation, Objective, Order, Problem, evaluate, in_units, objective_named
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.pages.html import Html, element
from upscale_opt.pages.states import DROPPED, KEPT, STATES, block_starts, counted, states

MOST_RECTANGLES = 8000
"""A panel with more rectangles than this is drawn in cells of several channels."""
CELLS = 400
_LEGEND = {
    VIEW: "kept, read in place",
    COPY: "kept, copied first",
    PIECES: "kept, joined from pieces first",
    KEPT: "kept, within an over-read",
    OVER_READ: "dropped, but read",
    DROPPED: "dropped, not read",
}
_COLOURS = {DROPPED: "empty"}


def legend(shown: set[str]) -> Html:
    """What the colours mean, of the ways of reading that are shown.

    Parameters
    ----------
    shown
        Ways of reading (`problems.objectives`).
    """
    wanted = [name for name in _LEGEND if name in shown | {VIEW, DROPPED} or (name == KEPT and OVER_READ in shown)]
    keys = (
        element("span", element("i", style=f"background:var(--{_COLOURS.get(name, name)})"), _LEGEND[name])
        for name in wanted
    )
    return element("div", *keys, class_="legend")


def segment(problem: Problem, orders: Mapping[str, Order], objective: str | Objective) -> Html:
    """A segment under several orders, side by side where there is room.

    Parameters
    ----------
    problem
        The segment.
    orders
        Name to order, such as original, greedy, auto.
    objective
        The objective that chooses the ways of reading.
    """
    size = f"{problem.num_stored:,} stored channels, {len(problem.accesses)} readers, {len(problem.classes):,} classes"
    head = element("figcaption", element("h3", problem.name), element("p", size, class_="how"))
    panels = [_panel(problem, name, order, objective) for name, order in orders.items()]
    return element("figure", head, element("div", *panels, class_="orders"), class_="segment")


def _panel(problem: Problem, name: str, order: Order, objective: str | Objective) -> Html:
    evaluation = evaluate(problem, order, objective)
    found = states(problem, order, evaluation)
    unit = " ns" if objective_named(objective).uses_tables else ""
    edges = np.array(sorted(block_starts(problem, order))[1:], dtype=float)
    caption = ""
    if np.count_nonzero(np.diff(found, axis=1)) > MOST_RECTANGLES:
        found, per_cell = _coarser(found)
        edges = edges / per_cell
        caption = f" Every cell stands for {per_cell} channels, and has the colour of most of them."
    strips = [_strip(row, own, edges, found.shape[1]) for row, own in zip(found, evaluation.accesses, strict=True)]
    return element(
        "div",
        element("h4", name),
        element("p", f"{_summary(evaluation, unit)}{caption}", class_="total"),
        *strips,
        class_="order",
    )


def _summary(evaluation: Evaluation, unit: str) -> str:
    """Objective, value and ways of reading, in one line; ways that no access has are left out."""
    value = in_units(evaluation.value, evaluation.ticks)
    numbers = {
        (VIEW, "views"): evaluation.views,
        (OVER_READ, "over-reads"): evaluation.over_reads,
        ("in pieces", "in pieces"): evaluation.pieces,
        (COPY, "copies"): evaluation.copies,
    }
    ways = [f"{number} {names[number > 1]}" for names, number in numbers.items() if number]
    return f"{evaluation.objective} {value:,.10g}{unit}: {', '.join(ways)}."


def _strip(row: np.ndarray, access: AccessCost, edges: np.ndarray, width: int) -> Html:
    ends = np.flatnonzero(np.diff(row)) + 1
    begins = np.concatenate([[0], ends])
    lengths = np.diff(np.concatenate([begins, [len(row)]]))
    paths = []
    for state in np.unique(row):
        if STATES[state] == DROPPED:
            continue
        own = row[begins] == state
        drawn = "".join(f"M{x} 0h{w}v1h-{w}z" for x, w in zip(begins[own].tolist(), lengths[own].tolist()))
        paths.append(element("path", class_=STATES[state], d=drawn))
    if len(edges):
        paths.append(element("path", class_="edge", d="".join(f"M{x:g} 0v1" for x in edges)))
    said = counted(access)
    picture = element(
        "svg",
        *paths,
        viewBox=f"0 0 {width} 1",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{access.name}: {access.mode} {said}".strip(),
    )
    name = element("span", element("bdi", access.name), class_="name", title=access.name)
    return element("div", name, picture, element("span", said, class_="counted"), class_="strip")


def _coarser(found: np.ndarray) -> tuple[np.ndarray, int]:
    """States of cells of several channels: that of most of them. Also the number of channels per cell."""
    per_cell = -(-found.shape[1] // CELLS)
    cells = [found[:, i : i + per_cell] for i in range(0, found.shape[1], per_cell)]
    counts = [np.stack([(own == state).sum(axis=1) for state in range(len(STATES))]) for own in cells]
    return np.stack([own.argmax(axis=0) for own in counts], axis=1).astype(np.int8), per_cell
