"""The one model of a table. It is written as text, CSV, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from upscale_opt.pages import table_forms
from upscale_opt.pages.grids import Cell, Column, Grid
from upscale_opt.pages.html import Html

__all__ = ["Cell", "Column", "Table"]


@dataclass(frozen=True)
class Table(Grid):
    """A table.

    Attributes
    ----------
    columns
        The columns.
    rows
        The rows: one value per column.
    footer
        A last row, such as totals. Empty for none.
    title
        What the table shows, in one line. Empty for none.
    sortable
        Whether people can sort and filter it on a page. The page then has a script of its own.

    Raises
    ------
    UpscaleError
        If a row does not have one value per column.

    Examples
    --------
    >>> table = Table((Column("variant"), Column("median", "ms", digits=1)), (("unpruned", 20.25), ("exact", 16.0)))
    >>> print(table.text())
    variant   median, ms
    --------  ----------
    unpruned        20.2
    exact           16.0
    >>> print(table.csv(), end="")
    variant,"median, ms"
    unpruned,20.25
    exact,16.0
    """

    @classmethod
    def of(
        cls, names: Iterable[str | Column], rows: Iterable[Iterable[Cell]], *, title: str = "", sortable: bool = False
    ) -> Table:
        """A table from names (or columns) and rows."""
        columns = tuple(own if isinstance(own, Column) else Column(own) for own in names)
        return cls(columns, tuple(tuple(row) for row in rows), title=title, sortable=sortable)

    def without(self, *names: str, if_empty: Collection[str] = ()) -> Table:
        """The table without some columns.

        Parameters
        ----------
        names
            Names of columns to leave out, in every group.
        if_empty
            Names of columns to leave out if their values are all zero, missing or empty.
        """

        def stays(i: int) -> bool:
            name = self.columns[i].name
            return name not in names and (name not in if_empty or any(row[i] for row in self.all_rows))

        kept = [i for i in range(len(self.columns)) if stays(i)]
        columns = tuple(self.columns[i] for i in kept)
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        footer = tuple(self.footer[i] for i in kept) if self.footer else ()
        return replace(self, columns=columns, rows=rows, footer=footer)

    def text(self) -> str:
        """Plain text in its natural width."""
        return table_forms.text(self)

    def csv(self) -> str:
        """Comma-separated values (RFC 4180) with a heading line and all digits; without the last row."""
        return table_forms.comma_separated(self)

    def latex(self) -> str:
        """A LaTeX ``tabular`` with the rules of the package booktabs."""
        return table_forms.latex(self)

    def html(self) -> Html:
        """HTML for a page (`upscale_opt.pages.page`)."""
        return table_forms.html(self)
