"""The forms of a table (`upscale_opt.pages.tables.Table`): text, CSV, LaTeX with booktabs, and HTML."""

from __future__ import annotations

import csv
import io
from itertools import groupby

from upscale_opt.pages.grids import Cell, Column, Grid
from upscale_opt.pages.html import Html, element

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\n": " ", "\r": " ", "µ": r"\textmu{}",
}  # fmt: skip
_RULES = {0: r"\toprule", 1: r"\midrule", 2: r"\midrule", 3: r"\bottomrule"}


def text(table: Grid) -> str:
    """Plain text in its natural width."""
    headings = [_full_heading(own) for own in table.columns]
    rows = [[own.written(value) for own, value in zip(table.columns, row)] for row in table.rows]
    last = [[own.written(value) for own, value in zip(table.columns, row)] for row in table.all_rows[len(rows) :]]
    widths = [max(map(len, column)) for column in zip(headings, *rows, *last)]
    right = [table.is_number(i) for i in range(len(widths))]
    rule = "  ".join("-" * width for width in widths)

    def line(values: list[str]) -> str:
        set_ = (
            own.rjust(width) if at_right else own.ljust(width) for own, width, at_right in zip(values, widths, right)
        )
        return "  ".join(set_).rstrip()

    lines = [line(headings), rule, *map(line, rows), *([rule, line(last[0])] if last else [])]
    return "\n".join([table.title, *lines] if table.title else lines)


def comma_separated(table: Grid) -> str:
    """CSV: a heading line, then the rows with all digits. The last row is left out: readers would take it for data."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_full_heading(own) for own in table.columns])
    writer.writerows([["" if value is None else value for value in row] for row in table.rows])
    return out.getvalue()


def latex(table: Grid) -> str:
    """A ``tabular`` with booktabs' rules; a comment says what it needs."""
    kinds = "".join("r" if table.is_number(i) else "l" for i in range(len(table.columns)))
    lines = [f"% {' '.join(table.title.split())}"] if table.title else []
    lines += ["% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{{kinds}}}", _RULES[0]]
    if any(own.group for own in table.columns):
        lines += _latex_groups(table.columns)
    lines += [_latex_row([own.heading for own in table.columns]), _RULES[1]]
    lines += [_latex_row([own.written(value) for own, value in zip(table.columns, row)]) for row in table.rows]
    if table.footer:
        lines += [_RULES[2], _latex_row([own.written(value) for own, value in zip(table.columns, table.footer)])]
    return "\n".join([*lines, _RULES[3], r"\end{tabular}", ""])


def html(table: Grid) -> Html:
    """A table that scrolls by itself where it is wider than the page."""
    right = [table.is_number(i) for i in range(len(table.columns))]
    head = []
    if any(own.group for own in table.columns):
        groups = [(name, len(list(own))) for name, own in groupby(table.columns, key=lambda own: own.group)]
        cells = [element("th", name, colspan=str(n), class_="group" if name else None) for name, n in groups]
        head.append(element("tr", *cells))
    names = [
        element("th", own.heading, scope="col", class_=_side(at_right)) for own, at_right in zip(table.columns, right)
    ]
    head.append(element("tr", *names))
    body = [element("tr", *_cells(table, row, right)) for row in table.rows]
    foot = [element("tfoot", element("tr", *_cells(table, table.footer, right)))] if table.footer else []
    caption = [element("caption", table.title)] if table.title else []
    drawn = element(
        "table",
        *caption,
        element("thead", *head),
        element("tbody", *body),
        *foot,
        class_="sortable" if table.sortable else None,
    )
    return element("div", drawn, class_="wide", tabindex="0")


def way_of_reading(mode: str) -> Html:
    """A way of reading in its colour."""
    return element("span", mode, class_=f"way {mode}")


def _cells(table: Grid, row: tuple[Cell, ...], right: list[bool]) -> list[Html]:
    return [
        element(
            "td",
            way_of_reading(str(value)) if own.ways and value else own.written(value),
            class_=_side(at_right),
            data_value=str(value) if table.sortable and isinstance(value, (int, float)) else None,
        )
        for own, value, at_right in zip(table.columns, row, right)
    ]


def _side(at_right: bool) -> str | None:
    return "number" if at_right else None


def _full_heading(column: Column) -> str:
    return f"{column.group} {column.heading}" if column.group else column.heading


def _latex_groups(columns: tuple[Column, ...]) -> list[str]:
    cells, rules, first = [], [], 1
    for name, own in groupby(columns, key=lambda column: column.group):
        number = len(list(own))
        cells.append(rf"\multicolumn{{{number}}}{{c}}{{{_latex_text(name)}}}" if name else " & " * (number - 1))
        rules += [rf"\cmidrule(lr){{{first}-{first + number - 1}}}"] if name else []
        first += number
    return [" & ".join(cells) + r" \\", "".join(rules)]


def _latex_row(values: list[str]) -> str:
    return " & ".join(map(_latex_text, values)) + r" \\"


def _latex_text(value: str) -> str:
    if value.replace(",", "").replace(".", "").isdigit():
        return value.replace(",", "{,}")
    return "".join(_LATEX.get(own, own) for own in value)
