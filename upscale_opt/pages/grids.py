"""What a table is made of: columns with units, rows of values, a last row."""

from __future__ import annotations

from dataclasses import dataclass

from upscale_opt.errors import UpscaleError

Cell = str | int | float | None
"""A value of a table. None is a value that does not exist: empty in CSV, a dash elsewhere."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        What is in it.
    unit
        The unit of its numbers, such as ``ms``.
    group
        A heading that it shares with its neighbours of the same group.
    digits
        Decimals of its numbers, except in CSV, which has all of them. None: as many as a number has.
    ways
        Whether its texts are ways of reading (`problems.objectives`), which pages show in their colours.
    """

    name: str
    unit: str = ""
    group: str = ""
    digits: int | None = None
    ways: bool = False

    @property
    def heading(self) -> str:
        """Name and unit.

        Examples
        --------
        >>> Column("median", "ms").heading
        'median, ms'
        """
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def written(self, value: Cell) -> str:
        """A value for people, with thousands apart.

        Examples
        --------
        >>> Column("median", digits=2).written(1234.567), Column("kept").written(12), Column("bound").written(None)
        ('1,234.57', '12', '-')
        """
        if value is None:
            return "-"
        if isinstance(value, str):
            return value
        return f"{value:,.{self.digits}f}" if self.digits is not None else f"{value:,}"


@dataclass(frozen=True)
class Grid:
    """The content of a table; `upscale_opt.pages.tables.Table` has the attributes."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[Cell, ...] = ()
    title: str = ""
    sortable: bool = False

    def __post_init__(self) -> None:
        for row in self.all_rows:
            if len(row) != len(self.columns):
                raise UpscaleError(f"a row has {len(row)} values for {len(self.columns)} columns; give one per column")

    @property
    def all_rows(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows and the last one."""
        return (*self.rows, self.footer) if self.footer else self.rows

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers, so that it is set to the right."""
        values = [row[column] for row in self.all_rows]
        texts = [row[column] for row in self.rows]
        return any(isinstance(own, (int, float)) for own in values) and not any(isinstance(own, str) for own in texts)
