"""Lines that fit a screen: its width, long names shortened in the middle, and paragraphs."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap

NARROW = 80
"""Columns of a screen whose width is unknown, such as a pipe. Narrower screens count as this wide."""
PROSE = 100
"""Most columns of a paragraph. Longer lines are hard to read."""
CUT = "..."


def screen_width() -> int:
    """Columns of the terminal: the variable COLUMNS, else what the terminal says; `NARROW` without a terminal."""
    return max(NARROW, shutil.get_terminal_size((NARROW, 24)).columns)


def shortened(text: str, width: int) -> str:
    """A text in at most `width` columns, without its middle if it is longer.

    Examples
    --------
    >>> shortened("features.denseblock4.denselayer16.conv1", 24)
    'features.de...r16.conv1'
    >>> shortened("layer1.0.conv3", 24)
    'layer1.0.conv3'
    """
    if len(text) <= width:
        return text
    left = (width - len(CUT) + 1) // 2
    right = width - len(CUT) - left
    return f"{text[:left]}{CUT}{text[len(text) - right :] if right else ''}"


def wrapped(text: str, width: int | None = None, *, hanging: int = 2) -> str:
    """A text whose long lines are broken at spaces. Following lines are indented by `hanging` columns more.

    Words are never broken: paths and commands stay what they are. Lines with columns (three spaces in a row after the
    indentation) are of tables, and stay as they are.

    Examples
    --------
    >>> print(wrapped("  read: one, two, three, four", 20))
      read: one, two,
        three, four
    """
    width = min(screen_width() if width is None else width, PROSE)
    return "\n".join(_broken(line, width, hanging) for line in text.split("\n"))


def noted(text: str) -> str:
    """A text for standard error: broken as by `wrapped` on a terminal, else one line, as logs are searched by lines."""
    return wrapped(text) if sys.stderr.isatty() else text


def _broken(line: str, width: int, hanging: int) -> str:
    if len(line) <= width or re.search(r"\S {3,}\S", line):
        return line
    indentation = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        width,
        initial_indent=indentation,
        subsequent_indent=indentation + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
