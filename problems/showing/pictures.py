"""Pictures for notebooks, as SVG: bars from zero, and strips of channels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems.showing.html import Html, element

QUIET, CHOSEN, BEFORE, EMPTY = "#93a4b3", "#2f80d0", "#6f7f8d", "none"
"""Colours: what simple methods make, what was chosen, what there was, what is not there. Readable on light and dark."""
MOST_ROWS = 40
"""Bars and strips of a picture. What is beyond them is counted."""
_WIDTH, _LABEL, _VALUE, _ROW = 640, 190, 110, 18
_LETTERS = 29  # of a label


@dataclass(frozen=True)
class Bar:
    """One bar.

    Parameters
    ----------
    name
        What it is.
    value
        Its length.
    text
        What stands behind it.
    colour
        Its colour. `EMPTY`: only its border is drawn.
    whole
        What it is a part of, drawn as a border around it. None: nothing.
    """

    name: str
    value: float
    text: str = ""
    colour: str = QUIET
    whole: float | None = None


def bars(given: Sequence[Bar]) -> Html:
    """Horizontal bars from zero on one scale, below each other."""
    most = max((max(own.value, own.whole or 0) for own in given), default=0) or 1
    room = _WIDTH - _LABEL - _VALUE
    parts = []
    for row, own in enumerate(given[:MOST_ROWS]):
        y, length = row * _ROW, room * max(0.0, own.value) / most
        longest = length
        parts.append(_label(own.name, y))
        if own.whole is not None:
            longest = max(length, room * own.whole / most)
            parts.append(_bar(longest, y, fill="none", stroke=QUIET, stroke_opacity=0.7))
        look = {"fill": own.colour} if own.colour != EMPTY else {"fill": "none", "stroke": QUIET, "stroke_dasharray": 3}
        parts += [_bar(length, y, **look), _text(own.text, _LABEL + longest + 6, y)]
    return _picture(parts, given)


def _bar(length: float, y: int, **look: object) -> Html:
    return element("rect", x=_LABEL, y=y + 3, width=_short(max(1.0, length)), height=_ROW - 6, **look)


@dataclass(frozen=True)
class Strip:
    """One strip of channels.

    Parameters
    ----------
    name
        What it is.
    colours
        Number of a colour per channel; int, shape (channels,). Negative: nothing is drawn.
    text
        What stands behind it.
    """

    name: str
    colours: np.ndarray
    text: str = ""


def strips(given: Sequence[Strip], palette: Sequence[str], length: int | None = None) -> Html:
    """Strips below each other, on one scale. Neighbours of one colour are one rectangle.

    Parameters
    ----------
    given
        The strips.
    palette
        The colours.
    length
        Channels of the longest strip. Default: it is found.
    """
    most = length or max((len(own.colours) for own in given), default=0) or 1
    room = _WIDTH - _LABEL - _VALUE
    parts = []
    for row, own in enumerate(given[:MOST_ROWS]):
        y = row * _ROW
        end = room * len(own.colours) / most
        frame = element("rect", x=_LABEL, y=y + 3, width=_short(end), height=_ROW - 6, fill=QUIET, fill_opacity=0.15)
        parts += [_label(own.name, y), frame]
        cells = _coarse(own.colours, max(1, int(np.ceil(most / room))))
        parts += [
            element("path", d=path, fill=palette[colour]) for colour, path in _paths(cells, end / max(1, len(cells)), y)
        ]
        parts.append(_text(own.text, _WIDTH - _VALUE + 6, y))
    return _picture(parts, given)


def legend(named: Sequence[tuple[str, str]]) -> Html:
    """What colours mean.

    Parameters
    ----------
    named
        Pairs of meaning and colour.
    """
    keys = []
    for name, colour in named:
        box = element(
            "span", style=f"display:inline-block;width:1em;height:.7em;margin-right:.35em;background:{colour}"
        )
        keys.append(element("span", box, name, style="margin-right:1.2em;white-space:nowrap"))
    return element("div", *keys, style="font-size:.85em;opacity:.85;margin:.2em 0 .5em 0")


def _paths(cells: np.ndarray, width: float, y: int) -> list[tuple[int, str]]:
    """Per colour the outline of all its cells."""
    edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(cells)]
    found: dict[int, list[str]] = {}
    for start, stop in itertools.pairwise(edges):
        if stop > start and cells[start] >= 0:
            move = f"M{_short(_LABEL + start * width)} {y + 3}h{_short((stop - start) * width)}v{_ROW - 6}"
            found.setdefault(int(cells[start]), []).append(f"{move}h-{_short((stop - start) * width)}z")
    return [(colour, "".join(moves)) for colour, moves in found.items()]


def _coarse(colours: np.ndarray, size: int) -> np.ndarray:
    """Cells of several channels each, with the colour of most of them: a strip has no more cells than pixels."""
    if size == 1 or len(colours) == 0:
        return colours
    padded = np.pad(colours, (0, -len(colours) % size), mode="edge").reshape(-1, size)
    kinds = np.unique(colours)
    return kinds[np.argmax([(padded == kind).sum(axis=1) for kind in kinds], axis=0)]


def _picture(parts: list[Html], given: Sequence[object]) -> Html:
    rows = min(len(given), MOST_ROWS)
    if len(given) > MOST_ROWS:
        parts.append(_text(f"and {len(given) - MOST_ROWS} more", _LABEL, rows * _ROW))
        rows += 1
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {max(1, rows) * _ROW}",
        role="img",
        style=f"display:block;width:100%;max-width:{_WIDTH}px;font:12px sans-serif",
    )


def _label(name: str, y: float) -> Html:
    shown = name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}"
    return element(
        "text", shown, element("title", name), x=_LABEL - 6, y=y + 13, text_anchor="end", fill="currentColor"
    )


def _text(text: str, x: float, y: float) -> Html:
    return element("text", text, x=_short(x), y=y + 13, fill="currentColor") if text else Html("")


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
