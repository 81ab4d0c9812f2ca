"""Draws pictures as SVG that stands in a page and takes its colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from upscale_opt.sweeps.pages.points import Picture, Point, front_of

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 42
NUM_COLOURS = 8
NUM_TICKS = 5


def svg_of(picture: Picture) -> str:
    """The picture with axes, points, and lines: the front, or each series."""
    marked = [] if picture.unpruned is None else [picture.unpruned]
    x_axis, y_axis = _Axis([*(own.x for own in picture.points), *marked]), _Axis([own.y for own in picture.points])
    series = list(dict.fromkeys(own.series for own in picture.points))
    grouped = len(series) > NUM_COLOURS
    groups = list(dict.fromkeys(own.group for own in picture.points)) if grouped else series
    numbers = {own.series: groups.index(own.group if grouped else own.series) for own in picture.points}
    colours = {name: f"c{number % NUM_COLOURS}" for name, number in numbers.items()}

    def at(x: float, y: float) -> tuple[float, float]:
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + width * x_axis.share(x), 1), round(TOP + height * (1 - y_axis.share(y)), 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(picture.title)}">']
    for value in x_axis.ticks:
        x, bottom = at(value, y_axis.low)
        parts.append(f'<line class="grid" x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{_label(value)}</text>')
    for value in y_axis.ticks:
        left, y = at(x_axis.low, value)
        parts.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 4}" text-anchor="end">{_label(value)}</text>')
    for value in marked:
        (x, bottom), (_, top) = at(value, y_axis.low), at(value, y_axis.high)
        parts.append(f'<line class="unpruned" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>')
        parts.append(f'<text x="{x - 4}" y="{bottom - 5}" text-anchor="end">unpruned</text>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(picture.x_label)}</text>')
    turned = f"translate(12 {TOP + (HEIGHT - TOP - BOTTOM) / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(picture.y_label)}</text>')
    lines = [("front", front_of(picture.points, higher=picture.higher))] if picture.front else []
    if not picture.front:
        lines = [(f"line {colours[name]}", _path(picture.points, name)) for name in series]
    for kind, own in lines:
        places = " ".join(f"{x},{y}" for x, y in (at(point.x, point.y) for point in own))
        parts.append(f'<polyline class="{kind}" points="{places}"/>')
    for point in picture.points:
        x, y = at(point.x, point.y)
        note = f"<title>{escape(point.note)}</title>"
        parts.append(f'<circle class="{colours[point.series]}" cx="{x}" cy="{y}" r="4">{note}</circle>')
    return "".join([*parts, "</svg>", _legend(groups)])


def _path(points: Sequence[Point], series: str) -> list[Point]:
    """The line of a series: the mean of its points at every x."""
    own = [point for point in points if point.series == series]
    places = sorted({point.x for point in own})
    found = []
    for x in places:
        values = [point.y for point in own if point.x == x]
        found.append(Point(series, "", x, sum(values) / len(values), ""))
    return found


def _legend(names: Sequence[str]) -> str:
    keys = "".join(f'<li><i class="c{i % NUM_COLOURS}"></i>{escape(own)}</li>' for i, own in enumerate(names))
    return f'<ul class="legend">{keys}</ul>'


class _Axis:
    """A range with round ticks."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = min(values), max(values)
        if high == low:
            low, high = low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
        raw = (high - low) / NUM_TICKS
        unit = 10 ** math.floor(math.log10(raw))
        step = next(own * unit for own in (1, 2, 5, 10) if own * unit >= raw)
        first, last = math.floor(low / step), math.ceil(high / step)
        self.low, self.high = first * step, last * step
        self.ticks = [number * step for number in range(first, last + 1)]

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def _label(value: float) -> str:
    return f"{value:.4g}"
