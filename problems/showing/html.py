"""Cards for notebooks: a title, tables and pictures, as markup that needs nothing else.

A card has no script, loads nothing, and takes the text colour of its notebook, so it is readable on light and dark. Its
markup is well-formed XML. Everything that is not `Html` is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

MOST_ROWS = 40
"""Rows of a table. What is beyond them is counted."""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, *content: object, **attributes: object) -> Html:
    """Markup of an element.

    Parameters
    ----------
    name
        Name of the element.
    content
        Its content; what is not `Html` is escaped.
    attributes
        Its attributes. An underscore is a hyphen, one at the end is dropped.

    Examples
    --------
    >>> element("td", "a < b", class_="x")
    '<td class="x">a &lt; b</td>'
    """
    own = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for key, value in attributes.items())
    inner = "".join(part if isinstance(part, Html) else _escaped(part) for part in content)
    return Html(f"<{name}{own}>{inner}</{name}>")


def card(title: str, *parts: Html) -> str:
    """A title with tables and pictures below each other."""
    head = element("div", element("b", title), style="margin:0 0 .4em 0")
    return element("div", head, *parts, style="max-width:60em;line-height:1.35")


def facts(values: Mapping[str, object]) -> Html:
    """Names with values beside them. Values that are None or empty are left out."""
    rows = [
        element("tr", element("td", name, style=f"{_CELL};opacity:.7"), element("td", value, style=_CELL))
        for name, value in values.items()
        if value is not None and value != ""
    ]
    return element("table", element("tbody", *rows), style=_TABLE) if rows else Html("")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table. Numbers stand at the right.

    Parameters
    ----------
    columns
        The heads.
    rows
        Their values. None is a dash.
    """
    listed = list(rows)
    head = element("tr", *(element("th", own, style=f"{_CELL};opacity:.7") for own in columns))
    body = [element("tr", *(_cell(own) for own in row)) for row in listed[:MOST_ROWS]]
    if len(listed) > MOST_ROWS:
        more = element("td", f"and {len(listed) - MOST_ROWS} more", colspan=len(columns), style=f"{_CELL};opacity:.7")
        body.append(element("tr", more))
    return element("table", element("thead", head), element("tbody", *body), style=_TABLE)


def note(text: str) -> Html:
    """A remark in small letters."""
    return element("div", text, style="font-size:.9em;opacity:.75;margin:.2em 0")


def _escaped(value: object) -> str:
    """Text as markup. Control characters, which markup cannot have, become question marks."""
    return escape("".join(own if own.isprintable() or own == "\n" else "?" for own in str(value)))


def _cell(value: object) -> Html:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    shown = "-" if value is None else f"{value:,}" if isinstance(value, int) and number else value
    return element("td", shown, style=f"{_CELL};text-align:right" if number else _CELL)


_TABLE = "border-collapse:collapse;margin:.2em 0 .5em 0;font-size:.92em"
_CELL = "text-align:left;padding:.1em .8em .1em 0;border:none;background:none;vertical-align:top"
