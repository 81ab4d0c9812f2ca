"""Reading the file of best-known solutions: the form of every field is checked, but not whether it is true.

    {"format": "upscale_opt.solutions", "version": 1, "instance": "<content hash>", "solutions": {
     "copies": {"value": 12, "bound": 12, "proven": true, "solver": "cp-sat", "bound_solver": "cp-sat",
                "version": "0.1.0", "date": "2026-11-21", "order": [[4, [0, 3]]]}}}

`problems.solutions.read_solutions` refuses false values. `problems.checker.checking` gives a verdict on each statement.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from problems.blocks import MAX_SIZE
from problems.errors import ProblemError
from problems.files import json_of, read_bytes, reject_unknown_fields, require_field, require_format
from problems.objectives import OBJECTIVES, Objective
from problems.order import Order

FORMAT = "upscale_opt.solutions"
VERSION = 1
FIELDS = ("value", "bound", "proven", "solver", "bound_solver", "version", "date", "order")
_NONE = type(None)


@dataclass(frozen=True)
class StatedSolution:
    """The entry of one objective in a file.

    Attributes
    ----------
    objective
        The objective.
    order
        The order. It has not been checked against any problem.
    value, bound, proven, solver, bound_solver, version, date
        As in `problems.solutions.Solution`; `proven` is what the file states.
    """

    objective: Objective
    order: Order
    value: int
    bound: int | None
    proven: bool
    solver: str
    bound_solver: str | None
    version: str
    date: str


@dataclass(frozen=True)
class StatedSolutions:
    """The content of a file.

    Attributes
    ----------
    instance
        The content hash of the instance it belongs to.
    solutions
        The entries, by objective.
    """

    instance: str
    solutions: Mapping[str, StatedSolution]


def read_stated(path: str | Path) -> StatedSolutions:
    """Read a file of solutions.

    Raises
    ------
    ProblemError
        If the file cannot be read or is newer than this program, or a field is missing, unknown or of the wrong type.
        The message names the field.
    """
    return stated_in(read_bytes(path), path)


def stated_in(content: bytes, where: str | Path) -> StatedSolutions:
    """As `read_stated`, for the content of a file; `where` names the file in errors."""
    document = require_format(json_of(content, where), where, file_format=FORMAT, version=VERSION)
    try:
        reject_unknown_fields(document, {"format", "version", "instance", "solutions"}, "the file")
        instance = require_field(document, "instance", str, "the file")
        if not re.fullmatch("[0-9a-f]{64}", instance):
            raise ProblemError("field 'instance' must be a content hash: 64 digits in hexadecimal")
        raw = require_field(document, "solutions", dict, "the file")
        return StatedSolutions(instance, {goal: _stated(goal, own, f"solutions.{goal}") for goal, own in raw.items()})
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def require_date(date: str, where: str = "field 'date'") -> None:
    """Raise `ProblemError` unless a date is written as YYYY-MM-DD."""
    try:
        if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", date):
            raise ValueError("other form")
        datetime.date.fromisoformat(date)
    except (ValueError, TypeError) as error:
        raise ProblemError(f"{where} is {date!r}; write it as YYYY-MM-DD") from error


def runs_of(order: Order) -> list[list[Any]]:
    """An order as in files: per block, single channels and ranges ``[first, count]``."""
    blocks = []
    for channels in order.channels:
        starts = np.flatnonzero(np.diff(channels, prepend=-2) != 1)
        counts = np.diff(np.append(starts, len(channels)))
        pairs = zip(channels[starts].tolist(), counts.tolist(), strict=True)
        blocks.append([first if count == 1 else [first, count] for first, count in pairs])
    return blocks


def channels_of(runs: Any, where: str) -> np.ndarray:
    """The channels of a block from a list of single channels and of ranges ``[first, count]``; int64.

    Raises
    ------
    ProblemError
        If it is anything else, or lists more channels than a block can have.
    """
    listed: list[Any] = runs if isinstance(runs, list) else [None]
    pairs = [[entry, 1] if type(entry) is int else entry for entry in listed]
    if not all(isinstance(p, list) and len(p) == 2 and type(p[0]) is type(p[1]) is int for p in pairs):
        raise ProblemError(f"{where} must list channels and runs [first, count]")
    total = sum(count for _, count in pairs)
    if total > MAX_SIZE or any(not 0 <= first < MAX_SIZE or count < 1 for first, count in pairs):
        raise ProblemError(f"{where} lists {total} channels; it must list the stored ones, once each")
    own = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    offsets = np.cumsum(own[:, 1]) - own[:, 1]
    return np.arange(total) + np.repeat(own[:, 0] - offsets, own[:, 1])


def _stated(goal: str, raw: Any, where: str) -> StatedSolution:
    if goal not in OBJECTIVES:
        raise ProblemError(f"{where}: there is no objective {goal!r}; choose one of {', '.join(OBJECTIVES)}")
    blocks = require_field(raw, "order", list, where)
    reject_unknown_fields(raw, {*FIELDS, "arrangement"}, where)
    arrangement = require_field(raw, "arrangement", list, where) if "arrangement" in raw else []
    date = require_field(raw, "date", str, where)
    require_date(date, f"{where}: field 'date'")
    bound, bound_solver = (require_field(raw, name, (kind, _NONE), where) for name, kind in _BOUND)
    if (bound is None) != (bound_solver is None):
        raise ProblemError(f"{where}: the fields 'bound' and 'bound_solver' go together; give both, or null for both")
    return StatedSolution(
        OBJECTIVES[goal],
        Order(
            [channels_of(runs, f"{where}: field 'order[{b}]'") for b, runs in enumerate(blocks)],
            _arrangement(arrangement, where),
        ),
        require_field(raw, "value", int, where),
        bound,
        require_field(raw, "proven", bool, where),
        require_field(raw, "solver", str, where),
        bound_solver,
        require_field(raw, "version", str, where),
        date,
    )


_BOUND: tuple[tuple[str, type], ...] = (("bound", int), ("bound_solver", str))


def _arrangement(raw: list[Any], where: str) -> list[np.ndarray]:
    """Per bundle a list of units. `Order.require_valid` checks whether it fits a problem."""
    for units in raw:
        if not isinstance(units, list) or not all(type(unit) is int and 0 <= unit < MAX_SIZE for unit in units):
            raise ProblemError(f"{where}: field 'arrangement' must list, per bundle, the unit in each place")
    return [np.array(units, dtype=np.int64) for units in raw]
