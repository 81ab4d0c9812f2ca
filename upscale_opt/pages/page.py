"""One page of HTML that needs nothing else: no network, no fonts; light and dark, on a phone and on paper."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from problems import ProblemError
from problems.files import write_text_atomically
from upscale_opt.errors import UpscaleError
from upscale_opt.pages.html import Html, Shown, block, element, joined
from upscale_opt.pages.looks import SCRIPT, STYLE
from upscale_opt.pages.tables import Table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes
    ----------
    title
        The heading.
    parts
        What it shows: texts, tables, bars, markup.
    """

    title: str
    parts: tuple[Shown, ...]


@dataclass(frozen=True)
class Figure:
    """One figure that sums up a page, in large letters.

    Attributes
    ----------
    value
        The figure, with its unit.
    meaning
        What it says, in a few words.
    good
        True or False colours it. None: it is neither.
    """

    value: str
    meaning: str
    good: bool | None = None

    def html(self) -> Html:
        """Its markup."""
        state = {True: " good", False: " bad", None: ""}[self.good]
        return element("div", element("b", self.value), element("span", self.meaning), class_=f"figure{state}")


@dataclass(frozen=True)
class Page:
    """A page: what was found on its first screen, then the rest in sections.

    Attributes
    ----------
    title
        What it is about.
    answer
        What was found, in one or two sentences.
    figures
        A few figures that sum it up.
    top
        What is shown beside each other below: bars, mostly.
    sections
        The rest.
    words
        Words that are used so far, and what they mean in this page.
    notes
        What a reader must know before anything else, such as random weights.
    style, script
        Looks and behaviour of parts that only this page has.

    Examples
    --------
    >>> from upscale_opt.pages.bars import Bar, Bars
    >>> bars = Bars("latency", (Bar("a", 2), Bar("b", 1)), "ms")
    >>> page = Page("two networks", "The second one is faster.", top=(bars,))
    >>> page.html().startswith("<!doctype html>")
    True
    """

    title: str
    answer: str = ""
    figures: tuple[Figure, ...] = ()
    top: tuple[Shown, ...] = ()
    sections: tuple[Section, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    style: str = ""
    script: str = ""

    def html(self) -> Html:
        """The page."""
        head = [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><link rel="icon" href="data:,">'),
            element("title", self.title),
            element("style", Html(STYLE + self.style)),
        ]
        top = [element("h1", self.title)]
        top += [element("p", self.answer, class_="answer")] if self.answer else []
        top += [element("div", *(own.html() for own in self.figures), class_="figures")] if self.figures else []
        top += [element("div", *map(block, self.top), class_="top")] if self.top else []
        meanings = [element("span", element("b", word), f": {meaning}") for word, meaning in self.words.items()]
        top += [element("p", *meanings, class_="words")] if meanings else []
        top += [element("p", own, class_="note") for own in self.notes]
        rest = [element("section", element("h2", own.title), *map(block, own.parts)) for own in self.sections]
        code = [*([SCRIPT] if self._sortable else []), *([self.script] if self.script else [])]
        script = [element("script", Html(own)) for own in code]
        body = element("body", element("header", *top), element("main", *rest), *script)
        return Html(f'<!doctype html>\n<html lang="en"><head>{joined(head)}</head>{body}</html>\n')

    @property
    def _sortable(self) -> bool:
        parts = [*self.top, *(part for own in self.sections for part in own.parts)]
        return any(isinstance(own, Table) and own.sortable for own in parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, in one step.

        Raises
        ------
        UpscaleError
            If the file cannot be written.
        """
        try:
            write_text_atomically(self.html(), Path(path))
        except ProblemError as error:
            raise UpscaleError(str(error)) from error
