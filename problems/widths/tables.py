"""The parts of a width problem: blocks with their candidate widths, tables of times, and works that read the tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems.conversions import items, text, whole_number, whole_numbers
from problems.errors import ProblemError
from problems.showing.reprs import shown

MAX_TOTAL = 2**52
"""Most units of loss, and most nanoseconds, of a whole problem: sums of such numbers are exact everywhere."""


@shown
@dataclass(frozen=True)
class WidthBlock:
    """A block of tied channels, of which one width is chosen.

    Parameters
    ----------
    name
        Name of the block, not empty.
    widths
        Candidate widths in channels: strictly ascending, at least 1. A block that cannot be pruned has one.
    losses
        Whole units of loss per width, at least 0. They may have any shape: they need not fall, and need not be convex.

    Raises
    ------
    ProblemError
        If a number is not as described.

    Examples
    --------
    >>> print(WidthBlock("layer1", (8, 16), (40, 0)))
    layer1: 2 widths from 8 to 16
    """

    name: str
    widths: tuple[int, ...]
    losses: tuple[int, ...]

    def __post_init__(self) -> None:
        if not text(self.name, "the name of a block"):
            raise ProblemError("a block has an empty name; name it")
        object.__setattr__(self, "widths", _ascending(self.widths, f"block {self.name!r}: widths", least=1))
        losses = whole_numbers(items(self.losses, f"block {self.name!r}: losses"), f"block {self.name!r}: losses")
        object.__setattr__(self, "losses", tuple(losses.tolist()))
        if len(self.losses) != len(self.widths):
            raise ProblemError(
                f"block {self.name!r} has {len(self.widths)} widths and {len(self.losses)} losses; give one loss each"
            )
        if not all(0 <= loss <= MAX_TOTAL for loss in self.losses):
            raise ProblemError(f"block {self.name!r}: losses are whole units from 0 to {MAX_TOTAL}; rescale them")

    @property
    def full(self) -> int:
        """The largest width."""
        return self.widths[-1]

    def __str__(self) -> str:
        return f"{self.name}: {len(self.widths)} widths from {self.widths[0]} to {self.full}"


@shown
@dataclass(frozen=True, eq=False)
class TimeTable:
    """Measured times by the widths of what is read and of what is written.

    Parameters
    ----------
    input_widths, output_widths
        The ticks: strictly ascending, at least 0. A table of one dimension has the one tick ``(0,)`` on the other side.
    nanoseconds
        Whole nanoseconds, int64, shape (inputs, outputs), at least 0. Any shape: steps, noise, dips.

    Raises
    ------
    ProblemError
        If a number is not as described.
    """

    input_widths: tuple[int, ...]
    output_widths: tuple[int, ...]
    nanoseconds: np.ndarray

    def __post_init__(self) -> None:
        for side in ("input_widths", "output_widths"):
            object.__setattr__(self, side, _ascending(getattr(self, side), side.replace("_", " "), least=0))
        times = whole_numbers(self.nanoseconds, "the times of a table")
        shape = (len(self.input_widths), len(self.output_widths))
        if times.shape != shape:
            raise ProblemError(f"a table has shape {times.shape}; give one time per pair of widths, shape {shape}")
        if times.min() < 0 or times.max() > MAX_TOTAL:
            raise ProblemError(f"a table holds times outside 0 to {MAX_TOTAL} ns; measure it again")
        times.setflags(write=False)
        object.__setattr__(self, "nanoseconds", times)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimeTable) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return self.input_widths, self.output_widths, self.nanoseconds.tobytes()


@shown
@dataclass(frozen=True)
class TimedWork:
    """One piece of the network's work, whose time depends on what it reads and what it writes.

    Parameters
    ----------
    name
        Name for messages, not empty.
    inputs, outputs
        Indices of blocks. Their widths add up, as in a concatenation. A block may occur twice. Empty: the total is 0.
    table
        Index of a table. Works of the same shape share tables.

    Raises
    ------
    ProblemError
        If a field is not as described.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: int

    def __post_init__(self) -> None:
        if not text(self.name, "the name of a work"):
            raise ProblemError("a work has an empty name; name it")
        for side in ("inputs", "outputs"):
            blocks = items(getattr(self, side), f"work {self.name!r}: {side}")
            numbers = tuple(whole_number(b, f"work {self.name!r}: {side}", least=0) for b in blocks)
            object.__setattr__(self, side, numbers)
        object.__setattr__(self, "table", whole_number(self.table, f"work {self.name!r}: table", least=0))


def _ascending(given: tuple[int, ...], what: str, *, least: int) -> tuple[int, ...]:
    """Whole numbers, strictly ascending, at least one."""
    numbers = whole_numbers(items(given, what), what, "widths")
    if not numbers.size or numbers[0] < least or numbers[-1] > MAX_TOTAL or (np.diff(numbers) <= 0).any():
        raise ProblemError(f"{what} must ascend strictly from at least {least}, and be at least one; sort them")
    return tuple(numbers.tolist())
