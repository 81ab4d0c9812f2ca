"""Timing tables: the time of every layer at every sparsity, and the text files that hold them.

The format is that of SPDY (Frantar and Alistarh, ICML 2022):

1. a line ``base``, and a line with the seconds of the whole dense model;
2. a line ``prunable``, and a line with the seconds of the listed layers, dense;
3. per layer a line with its name, and one line ``<seconds> <sparsity>`` per level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from problems.allocation.sparsity_levels import DECIMALS
from problems.conversions import objects, of_kind, real, reals
from problems.errors import ProblemError
from problems.files import read_bytes, write_text_atomically
from problems.showing.cards import timing_table_card
from problems.showing.reprs import shown, shown_as

Line = tuple[int, list[str]]
"""The number of a line, and its words."""


@shown
@dataclass(frozen=True)
class LayerTimes:
    """The time of one layer at each of its sparsities. A sparser level may be slower: nothing is smoothed.

    Parameters
    ----------
    name
        Name of the layer; not empty, without spaces.
    sparsities
        Shares of channels or weights removed, strictly ascending, in [0, 1), at least one.
    seconds
        Per level, finite and not negative.

    Raises
    ------
    ProblemError
        If a number is not as described.

    Examples
    --------
    >>> print(LayerTimes("conv1", (0.0, 0.5), (0.02, 0.03)))
    conv1: 2 levels, 0.02 s dense, 0.02 s at least
    """

    name: str
    sparsities: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        require_name(self.name)
        object.__setattr__(self, "sparsities", reals(self.sparsities, f"layer {self.name!r}: sparsities"))
        object.__setattr__(self, "seconds", reals(self.seconds, f"layer {self.name!r}: times"))
        require_levels(self.name, self.sparsities, self.seconds)

    @property
    def dense_seconds(self) -> float | None:
        """Seconds at sparsity 0; None if there is no such level."""
        return self.seconds[0] if self.sparsities[0] == 0 else None

    def __str__(self) -> str:
        dense = "no dense level" if self.dense_seconds is None else f"{self.dense_seconds:.6g} s dense"
        return f"{self.name}: {len(self.sparsities)} levels, {dense}, {min(self.seconds):.6g} s at least"


@shown_as(timing_table_card)
@dataclass(frozen=True)
class TimingTable:
    """The measured times of a model: of the dense model, and of its layers at every sparsity.

    Parameters
    ----------
    layers
        At least one; names are unique, and every layer has the level 0 (dense).
    base
        Seconds of the whole dense model.
    prunable
        Seconds of the dense layers, as the file states them. Nothing is computed from this number: a budget counts only
        the layers that are optimised (`problems.allocation.speedup_targets.allocation_problem`). None: the sum over
        the layers.

    Raises
    ------
    ProblemError
        If a field is not as described.
    """

    layers: tuple[LayerTimes, ...]
    base: float
    prunable: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", objects(self.layers, LayerTimes, "the layers of a timing table"))
        if not self.layers:
            raise ProblemError("a timing table has no layers; list at least one")
        seen: set[str] = set()
        for layer in self.layers:
            if layer.name in seen:
                raise ProblemError(f"layer {layer.name!r} is listed twice; names must be unique")
            seen.add(layer.name)
            if layer.dense_seconds is None:
                raise ProblemError(f"layer {layer.name!r} has no level of sparsity 0; measure it dense, too")
        if self.prunable is None:
            object.__setattr__(self, "prunable", self.dense_seconds(seen))
        for name, seconds in (("base", self.base), ("prunable", self.prunable)):
            if not (math.isfinite(real(seconds, name)) and real(seconds, name) > 0):
                raise ProblemError(f"{name} is {seconds}; give the seconds measured, more than 0")

    def dense_seconds(self, names: Iterable[str]) -> float:
        """Seconds that some of the layers take together when they are dense."""
        wanted = set(names)
        return math.fsum(layer.dense_seconds or 0.0 for layer in self.layers if layer.name in wanted)

    def __str__(self) -> str:
        return f"timing table: {len(self.layers)} layers, {self.base:.6g} s dense"


def read_timing_table(path: str | Path) -> TimingTable:
    """Read a timing table. Levels may come in any order; they are sorted by sparsity. Empty lines are ignored.

    Raises
    ------
    ProblemError
        If the file cannot be read or has another form. The message names the line.
    """
    lines = numbered_words(path)
    base, prunable = (_header(path, lines, name) for name in ("base", "prunable"))
    layers: list[LayerTimes] = []
    heading: Line | None = None
    levels: list[tuple[float, float]] = []
    for number, words in lines:
        if len(words) == 1:
            if heading is not None:
                layers.append(_layer(path, heading, levels))
            heading, levels = (number, words), []
            continue
        pair = [_number(word) for word in words]
        seconds, sparsity = pair if len(pair) == 2 else (None, None)
        if seconds is None or sparsity is None:
            raise ProblemError(
                f"{path}, line {number}: {' '.join(words)!r} is neither the name of a layer (without spaces) nor "
                "'<seconds> <sparsity>'; correct it"
            )
        if heading is None:
            raise ProblemError(f"{path}, line {number}: a level before the first layer; name the layer above it")
        if not seconds >= 0 or not 0 <= sparsity < 1:
            raise ProblemError(
                f"{path}, line {number}: {seconds} seconds at sparsity {sparsity}; give seconds from 0 up, and a "
                "sparsity in [0, 1)"
            )
        levels.append((sparsity, seconds))
    if heading is None:
        raise ProblemError(f"{path} lists no layers; add a name and its lines '<seconds> <sparsity>'")
    layers.append(_layer(path, heading, levels))
    try:
        return TimingTable(tuple(layers), base, prunable)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def write_timing_table(table: TimingTable, path: str | Path) -> None:
    """Write a timing table; reading it gives the same one. Sparsities have 4 decimals, or more if needed.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    of_kind(table, TimingTable, "the timing table")
    lines = ["base", repr(float(table.base)), "prunable", repr(float(table.prunable or 0.0))]
    for layer in table.layers:
        lines.append(layer.name)
        lines.extend(f"{t!r} {sparsity_label(s)}" for s, t in zip(layer.sparsities, layer.seconds))
    write_text_atomically("\n".join(lines) + "\n", path)


def require_name(name: str) -> None:
    """Raise `ProblemError` unless a layer's name can be written to a file and read again."""
    if not isinstance(name, str) or len(name.split()) != 1 or name.strip() != name:
        raise ProblemError(f"a layer is named {name!r}; give it a name without spaces")


def require_levels(name: str, sparsities: tuple[float, ...], seconds: tuple[float, ...]) -> None:
    """Raise `ProblemError` unless the levels of a layer ascend in [0, 1) and have one time each, at least one."""
    if len(sparsities) != len(seconds) or not sparsities:
        raise ProblemError(
            f"layer {name!r} has {len(sparsities)} sparsities and {len(seconds)} times; give one each, at least 1"
        )
    if any(not b > a for a, b in pairwise(sparsities)) or not (sparsities[0] >= 0 and sparsities[-1] < 1):
        raise ProblemError(f"layer {name!r}: sparsities must ascend strictly and lie in [0, 1); sort them")
    if not all(math.isfinite(t) and t >= 0 for t in seconds):
        raise ProblemError(f"layer {name!r}: times are seconds, finite and not negative; measure them again")


def sparsity_label(sparsity: float) -> str:
    """A sparsity with 4 decimals, or with more if rounding to 4 would change it.

    Examples
    --------
    >>> sparsity_label(0.5), sparsity_label(0.123456)
    ('0.5000', '0.123456')
    """
    label = f"{sparsity:.{DECIMALS}f}"
    return label if float(label) == sparsity else repr(float(sparsity))


def numbered_words(path: str | Path) -> Iterator[Line]:
    """The lines of a text file that are not empty, with their numbers from 1.

    Raises
    ------
    ProblemError
        If the file cannot be read or is not a text file.
    """
    content = read_bytes(path)
    try:
        text = content.decode("utf-8")
    except ValueError as error:
        raise ProblemError(f"{path} is no text file in UTF-8; give another") from error
    return ((number, line.split()) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _header(path: str | Path, lines: Iterator[Line], name: str) -> float:
    number, words = next(lines, (None, []))
    if words != [name]:
        where = f"{path} ends" if number is None else f"{path}, line {number}: {' '.join(words)!r} stands"
        raise ProblemError(f"{where} where a line {name!r} should be; begin with 'base' and 'prunable'")
    number, words = next(lines, (number, []))
    seconds = _number(words[0]) if len(words) == 1 else None
    if seconds is None or seconds <= 0:
        raise ProblemError(f"{path}, line {number}: {name!r} needs its seconds below it, one number above 0")
    return seconds


def _layer(path: str | Path, heading: Line, levels: list[tuple[float, float]]) -> LayerTimes:
    """The layer of a heading. A damaged level line (one number) looks like a heading; it is detected here."""
    number, (name,) = heading
    hint = f" (or is line {number} a level that lacks its sparsity?)" if _number(name) is not None else ""
    if not levels:
        raise ProblemError(f"{path}, line {number}: layer {name!r} has no levels; add '<seconds> <sparsity>'{hint}")
    levels = sorted(levels)
    for (first, _), (second, _) in pairwise(levels):
        if first == second:
            raise ProblemError(f"{path}, line {number}: layer {name!r} has sparsity {first} twice; keep one of them")
    if levels[0][0] != 0:
        raise ProblemError(f"{path}, line {number}: layer {name!r} has no level of sparsity 0.0000; add it{hint}")
    return LayerTimes(name, tuple(s for s, _ in levels), tuple(t for _, t in levels))


def _number(word: str) -> float | None:
    """A finite number, or None."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
