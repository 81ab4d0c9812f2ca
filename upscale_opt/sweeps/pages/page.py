"""The HTML page over one or two stores: self-contained, without network, light and dark."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from upscale_opt.sweeps.pages.columns import failures, summary, table_of
from upscale_opt.sweeps.pages.comparison import Comparison, compare
from upscale_opt.sweeps.pages.pictures import svg_of
from upscale_opt.sweeps.pages.points import pictures_of
from upscale_opt.sweeps.rows import Row

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_HERE = Path(__file__).parent
_COMPARED = (
    *("kind", "model", "amount", "importance", "mode", "objective", "method", "figure", "first", "second"),
    *("change_percent", "verdict"),
)


def page(stores: Mapping[str, Sequence[Row]]) -> str:
    """The page.

    Parameters
    ----------
    stores
        Name to rows: one store, or two that are compared. Pictures and the table show the first.
    """
    (name, rows), *others = stores.items()
    today = datetime.datetime.now(datetime.UTC).date()
    parts = [
        f"<header><h1>Sweep {escape(Path(name).stem)}</h1><p>{escape(summary(rows))}. {_where(rows)} {today}.</p>",
        _failed(rows),
        "</header>",
        *(_compared(name, rows, *other) for other in others),
        "<section><h2>Networks</h2><p>To the left is faster or less. A point says what it is when pointed at. The line "
        "joins the points that no other beats; where the horizontal axis is the amount, it joins each series. "
        "Milliseconds are medians.</p>",
        '<div class="pictures">',
        *(f"<figure><figcaption>{escape(own.title)}</figcaption>{svg_of(own)}</figure>" for own in pictures_of(rows)),
        "</div></section>",
        "<section><h2>Cells</h2>",
        _table("cells", *table_of(rows)),
        "</section>",
    ]
    return _document(f"Sweep {Path(name).stem}", "\n".join(parts))


def _where(rows: Sequence[Row]) -> str:
    places = {(row.environment.get("host"), row.environment.get("processor")) for row in rows}
    told = sorted(f"{processor} ({host})" for host, processor in places if processor)
    versions = sorted({str(row.environment["torch"]) for row in rows if row.environment.get("torch")})
    text = f"Computed on {', '.join(told)}" if told else "Computed elsewhere"
    return escape(f"{text}, torch {', '.join(versions)}," if versions else f"{text},")


def _failed(rows: Sequence[Row]) -> str:
    found = failures(rows)
    if not found:
        return ""
    return f"<details><summary>Why cells failed</summary><ul>{_items(found)}</ul></details>"


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _compared(first: str, rows: Sequence[Row], second: str, others: Sequence[Row]) -> str:
    found: Comparison = compare(rows, others)
    told = [
        f"{figure}: {own['better']} better, {own['equal']} equal, {own['worse']} worse"
        for figure, own in found.counts.items()
    ]
    return (
        f"<section><h2>{escape(second)} against {escape(first)}</h2>"
        f"<p>{found.common} cells have results in both, {found.only_first} in the first only, {found.only_second} in "
        f"the second only. Latencies that differ by at most 2 % count as equal.</p><ul>{_items(told)}</ul>"
        f"{_table('compared', list(_COMPARED), found.lines)}</section>"
    )


def _table(name: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A table that the page's script fills, sorts and filters."""
    data = {"columns": list(columns), "rows": [[row.get(column) for column in columns] for row in rows]}
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<input class="filter" data-table="{name}" type="search" placeholder="filter: words that a row must have, or '
        f'column=value, column&lt;number" aria-label="filter"><p class="count" id="{name}-count"></p>'
        f'<div class="scroll"><table id="{name}"></table></div><noscript>The table needs JavaScript.</noscript>'
        f'<script type="application/json" id="{name}-data">{text}</script>'
    )


def _document(title: str, body: str) -> str:
    style, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body>\n{body}\n<script>{script}</script>\n"
        "</body></html>\n"
    )
