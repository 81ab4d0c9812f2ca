"""Tables T(c_in, c_out): the time of every operator group over both of its widths, with a file format; no torch.

A table has times at a grid of widths. In between, it interpolates linearly along both axes. One file holds what was
measured under the same conditions, beside the cost tables of reads. Format: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from problems import ProblemError
from problems.files import reject_unknown_fields, require_field
from upscale_opt.errors import UpscaleError
from upscale_opt.latency.cost_tables import Conditions
from upscale_opt.latency.table_files import TableFile

FORMAT = "upscale_opt.group_tables"
VERSION = 1
_FILE = TableFile(FORMAT, VERSION, "groups", "groups", "group tables")
COUNTED = Conditions("any device", "any", "any", "multiply-accumulates", 0, "")
"""Stands in place of the conditions of a measurement if multiply-accumulates were counted."""
Point = tuple[int, int]
"""Total widths of both sides; 0 for a side that is not there."""


@dataclass(frozen=True, eq=False)
class GroupTable:
    """The times of a group.

    Attributes
    ----------
    first, second
        Widths at which it was timed, ascending, of what it takes and of what it makes; ``(0,)`` for a side that is not
        there.
    nanoseconds
        float64, shape (widths of the first side, of the second side): medians in a quiet round.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    nanoseconds: np.ndarray

    def at(self, first: Iterable[int], second: Iterable[int]) -> np.ndarray:
        """Times at all pairs of widths, in nanoseconds; float64 of shape (first widths, second widths).

        Raises
        ------
        UpscaleError
            If a width lies outside what was measured.
        """
        wanted = [np.asarray(list(own), dtype=np.float64) for own in (first, second)]
        for own, ticks in zip(wanted, (self.first, self.second), strict=True):
            if len(own) and (own.min() < ticks[0] or own.max() > ticks[-1]):
                raise UpscaleError(
                    f"times were measured at {ticks[0]} to {ticks[-1]} channels, not at {own.min():.0f} to "
                    f"{own.max():.0f}; calibrate again"
                )
        values, axes = self.nanoseconds, [np.asarray(self.first, float), np.asarray(self.second, float)]
        for axis in (0, 1):
            if len(axes[axis]) == 1:  # the interpolator wants two points
                axes[axis] = np.concatenate([axes[axis], axes[axis] + 1])
                values = np.repeat(values, 2, axis=axis)
        grid = np.stack(np.meshgrid(*wanted, indexing="ij"), axis=-1)
        found: np.ndarray = RegularGridInterpolator(axes, values)(grid)
        return found

    def covers(self, first: Iterable[int], second: Iterable[int]) -> bool:
        """Whether all widths lie inside what was measured."""
        pairs = zip((list(first), list(second)), (self.first, self.second), strict=True)
        return all(not own or (min(own) >= ticks[0] and max(own) <= ticks[-1]) for own, ticks in pairs)


@dataclass(frozen=True, eq=False)
class GroupTables:
    """All tables that were measured under the same conditions.

    Attributes
    ----------
    conditions
        Where they hold.
    entries
        Signature of a group (`upscale_opt.widths.group_specimens.GroupSpecimens.signature`) to its table.
    seconds
        Signature to the least time per measurement: how carefully it was timed.
    """

    conditions: Conditions
    entries: dict[str, GroupTable] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{len(self.entries)} operator groups measured on {self.conditions}"

    @property
    def counted(self) -> bool:
        """Whether they count multiply-accumulates (`upscale_opt.widths.macs`) and hold for every device."""
        return self.conditions == COUNTED

    def known(self, signature: str, first: Iterable[int], second: Iterable[int], seconds: float) -> GroupTable | None:
        """A table that covers these widths and was made at least as carefully, or None."""
        table = self.entries.get(signature)
        if table is None or self.seconds[signature] < seconds or not table.covers(first, second):
            return None
        return table

    def write(self, directory: str | Path) -> Path:
        """Write the file of these conditions into a directory, atomically; returns its path.

        What another process has written there meanwhile is taken in; of a group in both, this table stays.

        Raises
        ------
        UpscaleError
            If it cannot be written, or what is there cannot be read.
        """

        def rows() -> list[dict[str, Any]]:
            others = GroupTables.load(directory, self.conditions)
            for signature, table in others.entries.items():
                if self.entries.setdefault(signature, table) is table:
                    self.seconds[signature] = others.seconds[signature]
            return self._rows()

        return _FILE.write(directory, self.conditions, rows)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "group": signature,
                "seconds": self.seconds[signature],
                "first": list(table.first),
                "second": list(table.second),
                "nanoseconds": table.nanoseconds.tolist(),
            }
            for signature, table in self.entries.items()
        ]

    @classmethod
    def load(cls, directory: str | Path, conditions: Conditions) -> GroupTables:
        """The tables of these conditions in a directory; empty if there are none.

        Raises
        ------
        UpscaleError
            If there is a file but it cannot be read; the message names the field that is wrong.
        """
        found = _FILE.read(directory, conditions, _entry)
        return cls(conditions, {name: table for name, _, table in found}, {name: care for name, care, _ in found})


def _entry(raw: Any) -> tuple[str, float, GroupTable]:
    where = "a group of the group tables"
    if not isinstance(raw, dict):
        raise ProblemError(f"{where} must be an object")
    reject_unknown_fields(raw, ("group", "seconds", "first", "second", "nanoseconds"), where)
    name = require_field(raw, "group", str, where)
    seconds = float(require_field(raw, "seconds", (int, float), where))
    if not 0 <= seconds < float("inf"):
        raise ProblemError(f"{where}: field 'seconds' must be at least 0")
    sides = []
    for side in ("first", "second"):
        ticks = require_field(raw, side, list, where)
        rising = all(type(own) is int and own >= 0 for own in ticks) and all(np.diff(ticks) > 0)
        if not ticks or not rising:
            raise ProblemError(f"{where}: field {side!r} must list widths, ascending")
        sides.append(tuple(ticks))
    rows = require_field(raw, "nanoseconds", list, where)
    if not all(isinstance(row, list) and all(type(own) in (int, float) for own in row) for row in rows):
        raise ProblemError(f"{where}: field 'nanoseconds' must hold numbers")
    if [len(row) for row in rows] != [len(sides[1])] * len(sides[0]):
        raise ProblemError(f"{where}: field 'nanoseconds' must have a time above 0 for every pair of widths")
    times = np.array(rows, dtype=np.float64)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise ProblemError(f"{where}: field 'nanoseconds' must have a time above 0 for every pair of widths")
    return name, seconds, GroupTable(sides[0], sides[1], times)
