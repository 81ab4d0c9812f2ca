"""Text and markup, kept apart by type: `Html` is ready to be shown, everything else is text and is escaped."""

from __future__ import annotations

from html import escape
from typing import Protocol

_VOID = frozenset({"input", "meta", "link", "img", "br"})
"""Elements that have no content and no end."""


class Html(str):
    """Markup that is part of a page as it stands."""

    __slots__ = ()


class Part(Protocol):
    """Something that a page can show, such as a table."""

    def html(self) -> Html:
        """Its markup."""
        ...


Shown = str | Part
"""What can stand on a page: markup, a part, or text, which becomes a paragraph."""


def inline(content: str) -> Html:
    """Markup as it is; text, escaped.

    Examples
    --------
    >>> inline("a < b"), inline(Html("<b>a</b>"))
    ('a &lt; b', '<b>a</b>')
    """
    return content if isinstance(content, Html) else Html(escape(str(content), quote=True))


def element(name: str, *content: str, **attributes: str | None) -> Html:
    """One element. A trailing underscore of an attribute's name is left out, others become hyphens; None leaves it out.

    Examples
    --------
    >>> element("p", "a < b", class_="note", data_value="1")
    '<p class="note" data-value="1">a &lt; b</p>'
    >>> element("input", type="search")
    '<input type="search">'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value, quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in _VOID else f"</{name}>"
    return Html(f"<{name}{written}>{''.join(map(inline, content))}{end}")


def block(content: Shown) -> Html:
    """A part of a page as markup. Text becomes a paragraph."""
    if isinstance(content, Html):
        return content
    return element("p", content) if isinstance(content, str) else content.html()


def joined(parts: list[Html]) -> Html:
    """Markup after markup."""
    return Html("".join(parts))
