"""Tables that fit a screen. Nothing is left out: names lose their middle first, then columns go below the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from upscale_opt.screens.lines import screen_width, shortened

GAP = "  "
LEAST_NAME = 20
"""Columns that a name keeps before a table is divided."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    heading
        What stands above it.
    cells
        One text per row.
    right
        Whether it is aligned at the right, as numbers are.
    footer
        What stands in the last row. Empty: nothing.
    group
        What stands above the headings of columns that belong together, such as a solver's name.
    is_name
        Whether its texts may lose their middle.
    """

    heading: str
    cells: Sequence[str]
    right: bool = True
    footer: str = ""
    group: str = ""
    is_name: bool = False

    @property
    def width(self) -> int:
        """Columns that it takes on the screen."""
        return max(map(len, (self.heading, self.footer, *self.cells)))

    def narrowed(self, width: int) -> Column:
        """The same column with shortened texts."""
        cells = tuple(shortened(cell, width) for cell in self.cells)
        return replace(self, cells=cells, footer=shortened(self.footer, width))


def grid(columns: Sequence[Column], *, width: int | None = None) -> str:
    """A table as text.

    The first column says what a row is about. If the table does not fit, names are shortened in the middle, to
    `LEAST_NAME` columns and in the end to what is left. If it still does not fit, it is divided: further columns stand
    below, beside the first column again. Columns of a group stay together if they can.

    Parameters
    ----------
    columns
        At least one, with equally many cells.
    width
        Columns of the screen. Default: `upscale_opt.screens.lines.screen_width`.

    Examples
    --------
    >>> print(grid([Column("order", ["greedy", "auto"], right=False), Column("traffic", ["3,211", "2,444"])]))
    order   traffic
    ---------------
    greedy    3,211
    auto      2,444
    """
    width = screen_width() if width is None else width
    columns = _shortened(columns, width)
    return "\n\n".join("\n".join(_lines(block)) for block in _blocks(columns, width))


def _taken(columns: Sequence[Column]) -> int:
    """Columns of the screen that a block takes."""
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _shortened(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns with names that are shortened as far as the table needs it."""
    chosen = list(columns)
    for i, column in enumerate(chosen):
        excess = _taken(chosen) - width
        if column.is_name and excess > 0:
            chosen[i] = column.narrowed(max(min(LEAST_NAME, column.width), column.width - excess))
    if _taken(chosen) > width and chosen[0].is_name:  # it will be divided: the name has the room that is left there
        groups = [_taken(group) for group in _groups(chosen[1:])]
        room = width - len(GAP) - max((own for own in groups if own + len(GAP) + LEAST_NAME <= width), default=0)
        chosen[0] = columns[0].narrowed(max(LEAST_NAME, room))
    room = width - chosen[0].width - len(GAP)
    return [chosen[0], *(column if column.width <= room else column.narrowed(room) for column in chosen[1:])]


def _blocks(columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """The columns, divided into tables that fit. Each begins with the first column."""
    first, block = columns[0], [columns[0]]
    for group in _groups(columns[1:]):
        if len(block) > 1 and _taken([*block, *group]) > width and _taken([first, *group]) <= width:
            yield block
            block = [first]
        for column in group:
            if len(block) > 1 and _taken([*block, column]) > width:
                yield block
                block = [first]
            block.append(column)
    yield block


def _groups(columns: Sequence[Column]) -> Iterator[list[Column]]:
    """Neighbours of one group."""
    found: list[Column] = []
    for column in columns:
        if found and found[-1].group != column.group:
            yield found
            found = []
        found.append(column)
    if found:
        yield found


def _lines(block: Sequence[Column]) -> Iterator[str]:
    """The lines of one table."""
    if any(column.group for column in block):
        yield _group_line(block)
    yield _line([column.heading for column in block], block)
    yield "-" * _taken(block)
    for row in zip(*(column.cells for column in block), strict=True):
        yield _line(row, block)
    if any(column.footer for column in block):
        yield "-" * _taken(block)
        yield _line([column.footer for column in block], block)


def _line(texts: Sequence[str], block: Sequence[Column]) -> str:
    cells = (
        text.rjust(column.width) if column.right else text.ljust(column.width)
        for text, column in zip(texts, block, strict=True)
    )
    return GAP.join(cells).rstrip()


def _group_line(block: Sequence[Column]) -> str:
    """The names of groups, each above its first column, cut where the next one begins."""
    parts = [(_taken(group), shortened(group[0].group, _taken(group))) for group in _groups(block)]
    return GAP.join(text.ljust(taken) for taken, text in parts).rstrip()
