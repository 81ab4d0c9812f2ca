"""Short representations: one line that says what an object is, however large it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, TypeVar

import numpy as np

from problems.showing.html import card, facts

Kind = TypeVar("Kind", bound=type)
MOST = 1000
"""Characters of a representation."""
_FEW = 6
"""Entries of a collection that are listed."""


def shown(kind: Kind) -> Kind:
    """Class decorator, above ``@dataclass``: a short ``__repr__``, and a ``_repr_html_`` if the class has none.

    The representation is that of the dataclass, with arrays and long collections abbreviated. A class with a
    ``__str__`` of its own has the first line of that instead: ``<Problem layer1: 4 blocks, ...>``.

    Examples
    --------
    >>> @shown
    ... @dataclasses.dataclass(frozen=True)
    ... class Mask:
    ...     name: str
    ...     kept: np.ndarray
    >>> Mask("fc", np.arange(512) < 200)
    Mask(name='fc', kept=<512 bool, 200 True>)
    """
    has_words = "__str__" in vars(kind)
    kind.__repr__ = _in_words if has_words else _by_fields  # type: ignore[assignment]
    if not hasattr(kind, "_repr_html_"):
        kind._repr_html_ = _as_card  # type: ignore[attr-defined]
    return kind


def shown_as(card: Callable[[Any], str]) -> Callable[[Kind], Kind]:
    """As `shown`, with a function that makes the ``_repr_html_``."""

    def decorate(kind: Kind) -> Kind:
        kind._repr_html_ = lambda self: card(self)  # type: ignore[attr-defined]
        return shown(kind)

    return decorate


def clipped(text: str, most: int = MOST) -> str:
    """A text of at most so many characters, with dots in the place of what is left out."""
    return text if len(text) <= most else f"{text[: most - 4].rstrip()} ..."


def short(value: Any, most: int = 120) -> str:
    """The representation of any value, abbreviated.

    Examples
    --------
    >>> short(np.zeros((64, 3)))
    '<64x3 float64>'
    >>> short(tuple(range(100)))
    '<100 int>'
    >>> short({"a": 1})
    "{'a': 1}"
    """
    if isinstance(value, np.ndarray):
        if value.size <= _FEW:
            return " ".join(repr(value).split())
        kept = f", {int(value.sum())} True" if value.dtype == bool else ""
        return f"<{'x'.join(map(str, value.shape))} {value.dtype}{kept}>"
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= most else f"{value[: most - 4]!r}..."
    if isinstance(value, Mapping):
        return _mapping(value, most)
    if isinstance(value, (list, tuple, Set)) and not hasattr(value, "_fields"):
        return _collection(value, most)
    return clipped(repr(value), most)


def html_of(instance: Any, *parts: Any) -> str:
    """A card for notebooks: what an object is, in the words of its representation, and parts below."""
    return card(_words(instance, ": "), *parts)


def _in_words(self: Any) -> str:
    return f"<{_words(self, ' ')}>"


def _by_fields(self: Any) -> str:
    """As a dataclass, in short."""
    name, most = type(self).__qualname__.rpartition(".")[2], 120
    shown_fields = [own for own in dataclasses.fields(self) if own.repr]
    text = ", ".join(f"{own.name}={short(getattr(self, own.name), most)}" for own in shown_fields)
    return clipped(f"{name}({text})")


def _as_card(self: Any) -> str:
    if "__str__" in vars(type(self)):
        return html_of(self)
    values = {own.name: short(getattr(self, own.name), 300) for own in dataclasses.fields(self) if own.repr}
    return card(type(self).__name__, facts(values))


def _words(instance: Any, between: str) -> str:
    """The name of a class, and the first line of what an instance says. It does not repeat the name."""
    kind = type(instance).__name__
    text = clipped(str(instance).partition("\n")[0], MOST - 100)
    return f"{kind}{text[len(kind) :]}" if text.lower().startswith(f"{kind.lower()} ") else f"{kind}{between}{text}"


def _mapping(value: Mapping[Any, Any], most: int) -> str:
    if len(value) <= _FEW:
        text = ", ".join(f"{short(key, 40)}: {short(own, 40)}" for key, own in value.items())
        if len(text) <= most:
            return f"{{{text}}}"
    return f"<{len(value)} {_kind_of(value.values())} by {_kind_of(value)}>"


def _collection(value: Sequence[Any] | Set[Any], most: int) -> str:
    if len(value) <= _FEW:
        parts = [short(own, 60) for own in value]
        text = ", ".join(parts)
        if len(text) <= most:
            if isinstance(value, tuple):
                return f"({text},)" if len(parts) == 1 else f"({text})"
            return f"[{text}]" if isinstance(value, list) else f"{{{text}}}"
    return f"<{len(value)} {_kind_of(value)}>"


def _kind_of(values: Any) -> str:
    kinds = {type(own).__name__ for own in values}
    return kinds.pop() if len(kinds) == 1 else "objects"
