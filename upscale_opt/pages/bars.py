"""Horizontal bars from zero on one scale, with their noise, for pages. They are markup, so they fit any width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from upscale_opt.pages.html import Html, element

BEFORE, SIMPLE, CHOSEN, LIMIT = "before", "simple", "chosen", "limit"
"""Roles of bars: what there was, what simple methods make, what was chosen, and what nothing can go below."""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes
    ----------
    name
        What it is.
    value
        Its length.
    role
        `BEFORE`, `SIMPLE`, `CHOSEN` or `LIMIT`, which chooses its colour.
    low, high
        Where its noise begins and ends. None if no noise is known.
    note
        A few words behind the value.
    mark
        A second value to compare with, drawn as a diamond, such as a prediction. None for none.
    """

    name: str
    value: float
    role: str = SIMPLE
    low: float | None = None
    high: float | None = None
    note: str = ""
    mark: float | None = None


@dataclass(frozen=True)
class Bars:
    """Bars with a title.

    Attributes
    ----------
    title
        What is compared.
    bars
        The bars, from above.
    unit
        The unit of their values.
    digits
        Decimals of their values.
    how
        How the values were found, such as ``measured`` or ``predicted, not measured``.
    full
        The value at the end of the scale. None: the largest one.
    """

    title: str
    bars: tuple[Bar, ...]
    unit: str = ""
    digits: int = 0
    how: str = ""
    full: float | None = None

    @property
    def longest(self) -> float:
        """The value at the end of the scale: `full`, or the largest one that is drawn; 1 if all are zero."""
        if self.full is not None:
            return self.full
        return max((max(own.value, own.high or 0, own.mark or 0) for own in self.bars), default=0) or 1

    def html(self) -> Html:
        """Its markup."""
        most = self.longest
        title = element("h3", self.title)
        how = [element("p", self.how, class_="how")] if self.how else []
        rows = [self._row(own, most) for own in self.bars]
        return element("figure", element("figcaption", title, *how), *rows, class_="bars")

    def _row(self, bar: Bar, most: float) -> Html:
        drawn = [element("span", class_=f"bar {bar.role}", style=f"width:{_share(bar.value, most)}")]
        if bar.low is not None and bar.high is not None:
            left, width = _share(bar.low, most), _share(bar.high - bar.low, most)
            drawn.append(element("span", class_="noise", style=f"left:{left};width:{width}"))
        if bar.mark is not None:
            drawn.append(element("span", class_="mark", style=f"left:{_share(bar.mark, most)}"))
        value = f"{bar.value:,.{self.digits}f}{f' {self.unit}' if self.unit else ''}"
        note = [element("span", bar.note, class_="muted")] if bar.note else []
        return element(
            "div",
            element("span", bar.name, class_="name"),
            element("span", *drawn, class_="track"),
            element("span", value, " " if note else "", *note, class_="value"),
            class_="row",
        )


def _share(value: float, most: float) -> str:
    return f"{100 * max(0.0, value) / most:.2f}%"


def of_seconds(title: str, bars: Iterable[Bar], *, how: str) -> Bars:
    """Bars of durations in seconds, in the unit that suits the longest one.

    Examples
    --------
    >>> found = of_seconds("latency", [Bar("unpruned", 0.25), Bar("exact", 0.125)], how="measured")
    >>> found.unit, found.digits, found.bars[1].value
    ('ms', 1, 125.0)
    """
    rows = list(bars)
    longest = max((own.value for own in rows), default=0.0)
    unit, factor = ("ms", 1e3) if longest >= 1e-3 else ("µs", 1e6)

    def scaled(value: float | None) -> float | None:
        return None if value is None else factor * value

    found = [
        replace(own, value=factor * own.value, low=scaled(own.low), high=scaled(own.high), mark=scaled(own.mark))
        for own in rows
    ]
    return Bars(title, tuple(found), unit, 1 if longest * factor >= 100 else 2, how)
