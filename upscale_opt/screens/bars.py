"""Bars of text: a figure per line, drawn to scale."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from upscale_opt.screens.lines import screen_width, shortened

LONGEST = 60
LONGEST_NAME = 22


def bars(figures: Mapping[str, float], *, texts: Mapping[str, str] | None = None, width: int | None = None) -> str:
    """One line per figure: its name, its value, and a bar. All bars begin at zero.

    Parameters
    ----------
    figures
        Name to a number of at least 0.
    texts
        Name to the text of its value. Default: one digit after the point.
    width
        Columns of the screen. Default: `upscale_opt.screens.lines.screen_width`.

    Examples
    --------
    >>> print(bars({"unpruned": 8.0, "floor": 4.0}, width=30))
    unpruned  8.0  ###############
    floor     4.0  ########
    """
    width = screen_width() if width is None else width
    written = {name: (texts or {}).get(name, f"{value:,.1f}") for name, value in figures.items()}
    names = {name: shortened(name, LONGEST_NAME) for name in figures}
    left = max(map(len, names.values())) + 2
    middle = max(map(len, written.values()))
    room = min(LONGEST, width - left - middle - 2)
    most = max(figures.values()) or 1.0
    block = _block()
    lines = (
        f"{names[name]:{left}}{written[name]:>{middle}}  {block * _length(value, most, room)}".rstrip()
        for name, value in figures.items()
    )
    return "\n".join(lines)


def _length(value: float, most: float, room: int) -> int:
    """Columns of a bar; at least one for what is not nothing."""
    return max(round(room * value / most), 1 if value > 0 else 0)


def _block() -> str:
    """What bars are made of: blocks where the terminal can show them."""
    try:
        "█".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return "#"
    return "█"
