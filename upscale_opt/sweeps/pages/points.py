"""Points of pictures: what was measured of one pruned network, joined over cells of all kinds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upscale_opt.sweeps.cells import ACCURACY, LATENCY
from upscale_opt.sweeps.pages.columns import mask_key, short_name, text_of
from upscale_opt.sweeps.rows import Row


@dataclass(frozen=True)
class Point:
    """A point of a picture.

    Attributes
    ----------
    series
        What it is of, such as ``l2 input, auto``.
    group
        A coarser series, without the importance: it colours pictures of many series.
    x, y
        Its place.
    note
        What it says when pointed at.
    """

    series: str
    group: str
    x: float
    y: float
    note: str


@dataclass(frozen=True)
class Picture:
    """The points of one network under one condition.

    Attributes
    ----------
    title, x_label, y_label
        What it shows.
    points
        The points.
    higher
        Whether more is better, upwards. To the left is better in any case.
    front
        Whether the points that no other beats are joined; else each series is.
    unpruned
        Median milliseconds of the unpruned network, a line upwards. None: there is none.
    """

    title: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]
    higher: bool
    front: bool = True
    unpruned: float | None = None


def pictures_of(rows: Iterable[Row]) -> list[Picture]:
    """Pictures of all networks, in the order in which they appear."""
    networks: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.done:
            networks[short_name(row.cell["model"]["name"])].append(row)
    return [picture for name, own in networks.items() for picture in _of_network(name, own)]


def _of_network(name: str, rows: Sequence[Row]) -> list[Picture]:
    """Accuracy against latency; without accuracies, traffic; without latencies, against the amount."""
    accuracies = {mask_key(row.cell): _top1(row.figures) for row in rows if row.cell["kind"] == ACCURACY}
    latencies: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.cell["kind"] == LATENCY and "latency_ms" in row.figures:
            latencies[_condition(row)].append(row)
    orders = {(mask_key(row.cell), *_solved_by(row)): row for row in rows if "value" in row.figures}
    found = []
    for condition, own in latencies.items():
        dense = [row.figures["unpruned_ms"] for row in own if row.figures.get("unpruned_ms")]
        unpruned = statistics.median(dense) if dense else None
        if any(accuracies.get(mask_key(row.cell)) is not None for row in own):
            points = [
                _point(row, row.figures["latency_ms"], 100 * share)
                for row in own
                if (share := accuracies.get(mask_key(row.cell))) is not None
            ]
            title, label = f"{name}, {condition}", "top-1 %"
            found.append(Picture(title, "milliseconds", label, tuple(points), higher=True, unpruned=unpruned))
            continue
        points = []
        for row in own:
            ordered = orders.get((mask_key(row.cell), *_solved_by(row)))
            moved = row.figures.get("traffic") if ordered is None else ordered.figures.get("traffic")
            if moved is not None:
                points.append(_point(row, row.figures["latency_ms"], moved))
        label = "traffic (channels moved in excess)"
        if not points:
            points, label = [_point(row, float(row.cell["amount"] or 0), row.figures["latency_ms"]) for row in own], ""
        if label:
            title = f"{name}, {condition}"
            found.append(Picture(title, "milliseconds", label, tuple(points), higher=False, unpruned=unpruned))
        else:
            title = f"{name}, {condition}"
            found.append(Picture(title, "amount removed", "milliseconds", tuple(points), higher=False, front=False))
    return found or _without_latencies(name, rows, accuracies)


def _without_latencies(name: str, rows: Sequence[Row], accuracies: Mapping[Any, float | None]) -> list[Picture]:
    found = []
    tested = [row for row in rows if row.cell["kind"] == ACCURACY and _amount(row) is not None]
    points = [_point(row, _amount(row), 100 * (accuracies[mask_key(row.cell)] or 0)) for row in tested]
    if points:
        found.append(Picture(name, "amount removed", "top-1 %", tuple(points), higher=True, front=False))
    by_objective: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.cell["kind"] != ACCURACY and "value" in row.figures and _amount(row) is not None:
            by_objective[str(row.cell["objective"])].append(row)
    for objective, own in by_objective.items():
        points = [_point(row, _amount(row), row.figures["value"]) for row in own]
        title = f"{name}, {objective}"
        found.append(Picture(title, "amount removed", objective, tuple(points), higher=False, front=False))
    return found


def _point(row: Row, x: Any, y: Any) -> Point:
    masking, method = row.cell["masking"], row.cell["method"]
    group = ", ".join([masking["mode"], *([method] if method else [])])
    series = f"{masking['importance']} {group}"
    told = {name: row.figures[name] for name in ("ratio_to_unpruned", "gap", "unpruned_ms") if row.figures.get(name)}
    note = [f"{series}, amount {row.cell['amount']}", *(f"{name} {text_of(value)}" for name, value in told.items())]
    return Point(series, group, float(x), float(y), f"{'; '.join(note)} ({float(x):.4g}, {float(y):.4g})")


def _amount(row: Row) -> float | None:
    try:
        return float(row.cell["amount"])
    except ValueError:
        return None


def _top1(figures: Mapping[str, Any]) -> float | None:
    """The accuracy after fine-tuning if there was one, else right after pruning."""
    found: float | None = figures.get("tuned_top1", figures.get("pruned_top1"))
    return found


def _solved_by(row: Row) -> tuple[Any, Any]:
    return row.cell["objective"], row.cell["method"]


def _condition(row: Row) -> str:
    own = row.cell["condition"]
    parts = [own["device"], own["dtype"], f"batch {own['batch'] or row.cell['model']['input_shape'][0]}"]
    if own["memory_format"] != "contiguous":
        parts.append(own["memory_format"])
    backend = row.figures.get("backend") or own["backend"]
    return ", ".join([*parts, *([backend] if backend else [])])


def front_of(points: Sequence[Point], *, higher: bool) -> list[Point]:
    """The points that no other beats: smallest x for their y. From left to right.

    Examples
    --------
    >>> points = [Point("", "", x, y, "") for x, y in ((1, 5), (2, 4), (3, 7), (2, 6))]
    >>> [(own.x, own.y) for own in front_of(points, higher=True)]
    [(1, 5), (2, 6), (3, 7)]
    >>> [(own.x, own.y) for own in front_of(points, higher=False)]
    [(1, 5), (2, 4)]
    """
    best: list[Point] = []
    for own in sorted(points, key=lambda point: (point.x, -point.y if higher else point.y)):
        if not best or (own.y > best[-1].y if higher else own.y < best[-1].y):
            best.append(own)
    return best
