"""Tables of the times of single operators over the stored width of a block, with a file format; no torch.

One file holds what was measured under the same conditions, beside the cost tables of reads. Format: docs/formats.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from problems import ProblemError
from problems.files import reject_unknown_fields, require_field
from upscale_opt.latency.cost_tables import Conditions, Detail, detail_of
from upscale_opt.latency.table_files import TableFile
from upscale_opt.planning.layer_shapes import Layer

FORMAT = "upscale_opt.width_tables"
VERSION = 2
"""Version 2 has the role `KEEP`. Files of version 1 are read."""
_FILE = TableFile(FORMAT, VERSION, "widths", "operators", "width tables")
PRODUCE, READ, WORK, KEEP = "produce", "read", "work", "keep"


@dataclass(frozen=True)
class WidthWork:
    """One operator whose time depends on the stored width of one block, or on the number of channels that it keeps.

    Attributes
    ----------
    role
        ``produce``: it computes the block. ``read``: it reads a range of the block. ``work``: it works on the block
        channel by channel. ``keep``: it reads all of a tensor that has just the channels that it keeps; its width is
        their number.
    layer
        Its shape. The length of the channel axis in `input_shape` does not matter, nor does the number of outputs of a
        producer. The kind of a ``work`` is the class name of a module, ``add`` or ``depthwise``.
    channels
        Channels that a producer or a reader reads; 0 for a ``work`` and a ``keep``.
    others
        Outputs of a producer that belong to other blocks.
    """

    role: str
    layer: Layer
    channels: int = 0
    others: int = 0

    def __str__(self) -> str:
        return f"{self.role} {self.layer}, {self.channels} channels"


@dataclass(frozen=True, eq=False)
class WidthTables:
    """All measurements of operators over widths under the same conditions.

    Attributes
    ----------
    conditions
        Where they hold.
    entries
        Operator to width to nanoseconds per call, one figure a round; all widths of an operator were timed in turn.
    details
        Operator to how carefully it was timed.
    """

    conditions: Conditions
    entries: dict[WidthWork, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    details: dict[WidthWork, Detail] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{len(self.entries)} operators measured over widths on {self.conditions}"

    def known(self, work: WidthWork, detail: Detail) -> dict[int, tuple[int, ...]]:
        """The timings of an operator, if they were made at least that carefully; none otherwise."""
        own = self.details.get(work)
        careful = own is not None and all(had >= wanted for had, wanted in zip(own, detail, strict=True))
        return self.entries.get(work, {}) if careful else {}

    def write(self, directory: str | Path) -> Path:
        """Write the file of these conditions into a directory, atomically; returns its path.

        What another process has written there meanwhile is taken in. Of an operator in both, the more careful
        measurement stays, then the one with more widths, then this one.

        Raises
        ------
        UpscaleError
            If it cannot be written, or what is there cannot be read.
        """

        def rows() -> list[dict[str, Any]]:
            others = WidthTables.load(directory, self.conditions)
            for work, own in others.entries.items():
                if self._fullness(work) < others._fullness(work):
                    self.entries[work], self.details[work] = own, others.details[work]
            return self._rows()

        return _FILE.write(directory, self.conditions, rows)

    def _fullness(self, work: WidthWork) -> tuple[Detail, int]:
        """Effort and number of widths of a measurement; nothing of one that is not there."""
        return self.details.get(work, Detail(0, 0.0, 0)), len(self.entries.get(work, {}))

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "role": work.role,
                "layer": work.layer.to_dict(),
                "channels": work.channels,
                "others": work.others,
                "effort": self.details.get(work, Detail(0, 0.0, 0))._asdict(),
                "timings": {str(width): list(figures) for width, figures in sorted(own.items())},
            }
            for work, own in self.entries.items()
        ]

    @classmethod
    def load(cls, directory: str | Path, conditions: Conditions) -> WidthTables:
        """The tables of these conditions in a directory; empty if there are none.

        Raises
        ------
        UpscaleError
            If there is a file but it cannot be read; the message names the field that is wrong.
        """
        found = _FILE.read(directory, conditions, _entry)
        entries = {work: timings for work, timings, _ in found}
        return cls(conditions, entries, {work: detail for work, _, detail in found})


def _entry(raw: Any) -> tuple[WidthWork, dict[int, tuple[int, ...]], Detail]:
    where = "an operator of the width tables"
    if not isinstance(raw, dict):
        raise ProblemError(f"{where} must be an object")
    reject_unknown_fields(raw, ("role", "layer", "channels", "others", "effort", "timings"), where)
    role = require_field(raw, "role", str, where)
    if role not in (PRODUCE, READ, WORK, KEEP):
        raise ProblemError(f"{where}: field 'role' is {role!r}; roles are {PRODUCE}, {READ}, {WORK} and {KEEP}")
    channels, others = (require_field(raw, name, int, where) for name in ("channels", "others"))
    if channels < (role in (PRODUCE, READ)) or others < 0:
        raise ProblemError(f"{where}: fields 'channels' and 'others' are {channels} and {others}; they count channels")
    layer = Layer.from_dict(require_field(raw, "layer", dict, where), channelwise=role == WORK)
    timings = require_field(raw, "timings", dict, where)
    found = {}
    for width, figures in timings.items():
        whole = isinstance(figures, list) and figures and all(type(own) is int and own >= 1 for own in figures)
        if not width.isdecimal() or int(width) < 1 or not whole:
            raise ProblemError(f"{where}: field 'timings' must give whole nanoseconds for every width")
        found[int(width)] = tuple(figures)
    if not found or len({len(own) for own in found.values()}) > 1:
        raise ProblemError(f"{where}: field 'timings' must have equally many figures for every width, at least one")
    return WidthWork(role, layer, channels, others), found, detail_of(require_field(raw, "effort", dict, where))
