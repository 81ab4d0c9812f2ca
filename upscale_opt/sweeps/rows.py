"""Rows of a sweep: what a store keeps of a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from upscale_opt.errors import SweepError

DONE, FAILED = "done", "failed"
STATUSES = (DONE, FAILED)
FORMAT = "upscale-opt sweep row"
VERSION = 1
PARTS = ("cell", "figures", "costs", "environment")


@dataclass(frozen=True)
class Row:
    """One computed cell.

    Attributes
    ----------
    address
        Digest of everything that decides the figures (`upscale_opt.sweeps.addresses`).
    status
        ``done`` or ``failed``.
    cell
        The cell, as plain values (`upscale_opt.sweeps.cells.Cell.to_dict`).
    attempt
        1, or higher after ``--retry-failed``.
    reason
        Why a cell failed, in one line. Empty if it is done.
    figures
        The results. Two runs give the same figures, except for those that are times (``*_ms``, ``ratio``).
    costs
        What the cell took: seconds, CPU seconds, and peak memory in bytes.
    environment
        Where it was computed: host, processor, versions.
    finished
        UTC date and time.
    """

    address: str
    status: str
    cell: Mapping[str, Any]
    attempt: int = 1
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""

    @property
    def done(self) -> bool:
        """Whether the cell has results."""
        return self.status == DONE

    def to_json(self) -> str:
        """The row as one line of JSON."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, sort_keys=True)

    def result(self) -> tuple[Any, ...]:
        """What must be equal in two runs: everything except costs, environment, date and attempt."""
        return self.address, self.status, self.reason, json.dumps(self.cell, sort_keys=True), dict(self.figures)


def row_of(text: str, where: str) -> Row:
    """The row of a line of JSON.

    Raises
    ------
    SweepError
        If it is none.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SweepError(f"{where} is no row of a sweep: it is no JSON; name a file that a sweep wrote") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise SweepError(f"{where} is no row of a sweep; name a file that a sweep wrote")
    if document.get("version") != VERSION:
        raise SweepError(f"{where} has version {document.get('version')}, not {VERSION}; use a newer upscale_opt")
    names = {own.name for own in fields(Row)}
    values = {name: value for name, value in document.items() if name in names}
    if not names <= values.keys() or values["status"] not in STATUSES:
        raise SweepError(f"{where} is no whole row of a sweep; name a file that a sweep wrote")
    return Row(**values)
