"""The page over one or two stores: pictures of networks, and tables of cells that sort and filter."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from upscale_opt.pages.html import Html, element
from upscale_opt.pages.page import Page, Section
from upscale_opt.sweeps.pages.columns import failures, summary, table_of
from upscale_opt.sweeps.pages.comparison import compare
from upscale_opt.sweeps.pages.pictures import svg_of
from upscale_opt.sweeps.pages.points import pictures_of
from upscale_opt.sweeps.rows import Row

_HERE = Path(__file__).parent
_COMPARED = (
    *("kind", "model", "amount", "importance", "mode", "objective", "method", "figure", "first", "second"),
    *("change_percent", "verdict"),
)
_HOW = (
    "To the left is faster or less. A point says what it is when pointed at. The line joins the points that no other "
    "beats; where the horizontal axis is the amount, it joins each series. Milliseconds are medians."
)


def page(stores: Mapping[str, Sequence[Row]]) -> Page:
    """The page.

    Parameters
    ----------
    stores
        Name to rows: one store, or two that are compared. Pictures and the table show the first.
    """
    (name, rows), *others = stores.items()
    today = datetime.datetime.now(datetime.UTC).date()
    pictures = [element("figure", element("figcaption", own.title), Html(svg_of(own))) for own in pictures_of(rows)]
    return Page(
        f"Sweep {Path(name).stem}",
        f"{summary(rows)}. {_where(rows)} {today}.",
        top=_failed(rows),
        sections=(
            *(_compared(name, rows, *other) for other in others),
            Section("Networks", (_HOW, element("div", *pictures, class_="pictures"))),
            Section("Cells", (_table("cells", *table_of(rows)),)),
        ),
        style=(_HERE / "cells.css").read_text(encoding="utf-8"),
        script=(_HERE / "cells.js").read_text(encoding="utf-8"),
    )


def _where(rows: Sequence[Row]) -> str:
    places = {(row.environment.get("host"), row.environment.get("processor")) for row in rows}
    told = sorted(f"{processor} ({host})" for host, processor in places if processor)
    versions = sorted({str(row.environment["torch"]) for row in rows if row.environment.get("torch")})
    text = f"Computed on {', '.join(told)}" if told else "Computed elsewhere"
    return f"{text}, torch {', '.join(versions)}," if versions else f"{text},"


def _failed(rows: Sequence[Row]) -> tuple[Html, ...]:
    found = failures(rows)
    return (element("details", element("summary", "Why cells failed"), _items(found)),) if found else ()


def _items(texts: Sequence[str]) -> Html:
    return element("ul", *(element("li", own) for own in texts))


def _compared(first: str, rows: Sequence[Row], second: str, others: Sequence[Row]) -> Section:
    found = compare(rows, others)
    told = [
        f"{figure}: {own['better']} better, {own['equal']} equal, {own['worse']} worse"
        for figure, own in found.counts.items()
    ]
    counted = (
        f"{found.common} cells have results in both, {found.only_first} in the first only, {found.only_second} in the "
        "second only. Latencies that differ by at most 2 % count as equal."
    )
    table = (_table("compared", list(_COMPARED), found.lines),) if found.lines else ()
    return Section(f"{second} against {first}", (counted, _items(told), *table))


def _table(name: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Html:
    """A table that the page's script fills, sorts and filters."""
    data = {"columns": list(columns), "rows": [[row.get(column) for column in columns] for row in rows]}
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    hint = "filter: words that a row must have, or column=value, column<number"
    return element(
        "div",
        element("input", class_="filter", data_table=name, type="search", placeholder=hint, aria_label="filter"),
        element("p", class_="count", id=f"{name}-count"),
        element("div", element("table", id=name), class_="scroll"),
        element("noscript", "The table needs JavaScript."),
        element("script", Html(text), type="application/json", id=f"{name}-data"),
        class_="cells",
    )
