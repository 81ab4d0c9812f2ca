"""Best-known solutions: per objective an order with its value, its bound and who found them, and their file.

    {"format": "upscale_opt.solutions", "version": 1, "instance": "<content hash>", "solutions": {
     "copies": {"value": 12, "bound": 12, "proven": true, "solver": "cp-sat", "bound_solver": "cp-sat",
                "version": "0.1.0", "date": "2026-11-21", "order": [[4, [0, 3]]]}}}

Per block, ``order`` lists single channels and runs ``[first, count]`` of consecutive ones; ``arrangement``, where units
of bundles have changed places, lists per bundle the unit in each place. Nothing in a file is taken on trust but bounds:
reading and writing check the order and compute its value again.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from problems.errors import ProblemError
from problems.evaluation import OBJECTIVES, evaluate
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.order import Order
from problems.problem import MAX_SIZE, Problem
from problems.signatures import content_hash

FORMAT = "upscale_opt.solutions"
VERSION = 1
_FIELDS = ("value", "bound", "proven", "solver", "bound_solver", "version", "date", "order")


@dataclass(frozen=True)
class Solution:
    """The best that is known for one objective of one instance.

    Parameters
    ----------
    order
        The order.
    value
        Its value; for `latency` in ticks (`Problem.ticks` make a nanosecond).
    bound
        No order has a smaller value than this; None if nothing is known.
    solver, bound_solver
        Who found the order, and who proved the bound; the latter is None without one.
    version
        Of upscale_opt, at the last improvement.
    date
        Of the last improvement, as YYYY-MM-DD.

    Raises
    ------
    ProblemError
        If the bound lies above the value, or a field is of the wrong kind; the message names it.
    """

    order: Order
    value: int
    bound: int | None
    solver: str
    bound_solver: str | None
    version: str
    date: str

    def __post_init__(self) -> None:
        if self.bound is not None and self.bound > self.value:
            raise ProblemError(f"field 'bound' is {self.bound}, above the value {self.value}; one of them is wrong")
        if (self.bound is None) != (self.bound_solver is None):
            raise ProblemError("the fields 'bound' and 'bound_solver' go together; give both, or null for both")
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise ProblemError(f"field 'date' is {self.date!r}; write it as YYYY-MM-DD") from error

    @property
    def proven(self) -> bool:
        """Whether the bound meets the value: no order is better."""
        return self.bound == self.value

    @property
    def gap(self) -> float | None:
        """``(value - bound) / max(1, value)``; None without a bound."""
        return None if self.bound is None else (self.value - self.bound) / max(1, self.value)

    def joined(self, other: Solution) -> Solution:
        """The better order of the two with the better bound of the two: `self` itself if `other` improves neither.

        Raises
        ------
        ProblemError
            If the bound of one lies above the value of the other: one of them is wrong.
        """
        order = other if other.value < self.value else self
        tighter = other.bound is not None and (self.bound is None or other.bound > self.bound)
        if order is self and not tighter:
            return self
        bound = other if tighter else self
        return Solution(
            order.order, order.value, bound.bound, order.solver, bound.bound_solver, other.version, other.date
        )

    def __str__(self) -> str:
        known = "proven optimal" if self.proven else "no bound" if self.bound is None else f"bound {self.bound}"
        return f"{self.value} ({known}) by {self.solver}, {self.date}"

    def require_valid(self, problem: Problem, objective: str) -> None:
        """Raise `ProblemError` unless the order is one of the problem and has the value for the objective."""
        if objective not in OBJECTIVES:
            raise ProblemError(f"there is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}")
        value = evaluate(problem, self.order, objective).value
        if value != self.value:
            raise ProblemError(f"field 'value' is {self.value}, but the order has {value}; solve the instance again")


def read_solutions(path: str | Path, problem: Problem) -> dict[str, Solution]:
    """The solutions in a file, by objective, checked against the problem.

    Raises
    ------
    ProblemError
        If the file cannot be read, belongs to another instance, or a field is wrong; the message names the field.
    """
    document = read_json(path, file_format=FORMAT, version=VERSION)
    try:
        reject_unknown_fields(document, {"format", "version", "instance", "solutions"}, "the file")
        if require_field(document, "instance", str, "the file") != content_hash(problem):
            raise ProblemError("field 'instance' is the hash of another instance; solve this one anew")
        found = {}
        for objective, raw in require_field(document, "solutions", dict, "the file").items():
            found[objective] = _solution_from_dict(raw, problem, f"solutions.{objective}")
            try:
                found[objective].require_valid(problem, objective)
            except ProblemError as error:
                raise ProblemError(f"solutions.{objective}: {error}") from error
        return found
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def write_solutions(solutions: Mapping[str, Solution], problem: Problem, path: str | Path) -> None:
    """Write solutions by objective, atomically, after checking every one of them against the problem.

    Orders are written with the channels of each class ascending, which changes no value.

    Raises
    ------
    ProblemError
        If an order is not valid, its value is not the one given, or the path cannot be written.
    """
    lines = []
    for objective in sorted(solutions, key=[*OBJECTIVES].index):
        solution = solutions[objective]
        solution.require_valid(problem, objective)
        values = {field: getattr(solution, field) for field in _FIELDS[:-1]}
        values["order"] = _order_to_runs(_tidy(problem, solution.order))
        if solution.order.arrangement:
            values["arrangement"] = [units.tolist() for units in solution.order.arrangement]
        lines.append(f'  "{objective}": ' + json.dumps(values, separators=(",", ":")))
    head = json.dumps({"format": FORMAT, "version": VERSION, "instance": content_hash(problem)})
    write_text_atomically(head[:-1] + ',\n "solutions": {\n' + ",\n".join(lines) + "\n }}\n", path)


def _solution_from_dict(raw: Any, problem: Problem, where: str) -> Solution:
    blocks = require_field(raw, "order", list, where)
    reject_unknown_fields(raw, {*_FIELDS, "arrangement"}, where)
    arrangement = require_field(raw, "arrangement", list, where) if "arrangement" in raw else []
    optional_text = (str, type(None))
    try:
        solution = Solution(
            Order(_order_from_runs(blocks, problem).channels, arrangement_from(arrangement, where)),
            require_field(raw, "value", int, where),
            require_field(raw, "bound", (int, type(None)), where),
            require_field(raw, "solver", str, where),
            require_field(raw, "bound_solver", optional_text, where),
            require_field(raw, "version", str, where),
            require_field(raw, "date", str, where),
        )
    except ProblemError as error:
        raise error if str(error).startswith(where) else ProblemError(f"{where}: {error}") from error
    if require_field(raw, "proven", bool, where) != solution.proven:
        raise ProblemError(
            f"{where}: field 'proven' is {str(not solution.proven).lower()}, but the value is {solution.value} "
            f"and the bound {solution.bound}"
        )
    return solution


def arrangement_from(raw: list[Any], where: str) -> list[np.ndarray]:
    """An arrangement as it is in files, per bundle a list of units.

    Raises
    ------
    ProblemError
        If it is anything else. Whether it fits a problem is for `Order.require_valid`.
    """
    for units in raw:
        if not isinstance(units, list) or not all(type(unit) is int and 0 <= unit < MAX_SIZE for unit in units):
            raise ProblemError(f"{where}: field 'arrangement' must list, per bundle, the unit in each place")
    return [np.array(units, dtype=np.int64) for units in raw]


def _order_to_runs(order: Order) -> list[list[Any]]:
    """Per block, single channels and runs ``[first, count]``."""
    blocks = []
    for channels in order.channels:
        starts = np.flatnonzero(np.diff(channels, prepend=-2) != 1)
        counts = np.diff(np.append(starts, len(channels)))
        pairs = zip(channels[starts].tolist(), counts.tolist(), strict=True)
        blocks.append([first if count == 1 else [first, count] for first, count in pairs])
    return blocks


def _order_from_runs(blocks: list[Any], problem: Problem) -> Order:
    if len(blocks) != len(problem.blocks):
        raise ProblemError(f"field 'order' has {len(blocks)} blocks, but the instance has {len(problem.blocks)}")
    channels = []
    for b, (entries, stored) in enumerate(zip(blocks, problem.stored, strict=True)):
        field = f"field 'order[{b}]'"
        listed: list[Any] = entries if isinstance(entries, list) else [None]
        pairs = [[entry, 1] if type(entry) is int else entry for entry in listed]
        if not all(isinstance(p, list) and len(p) == 2 and type(p[0]) is type(p[1]) is int for p in pairs):
            raise ProblemError(f"{field} must list channels and runs [first, count]")
        total = sum(count for _, count in pairs)
        if total != len(stored) or any(not 0 <= first < MAX_SIZE or count < 1 for first, count in pairs):
            raise ProblemError(f"{field} lists {total} channels; it must list the {len(stored)} stored ones, once each")
        runs = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        offsets = np.cumsum(runs[:, 1]) - runs[:, 1]
        channels.append(np.arange(len(stored)) + np.repeat(runs[:, 0] - offsets, runs[:, 1]))
    return Order(channels)


def _tidy(problem: Problem, order: Order) -> Order:
    """The same order of classes, the channels of each class ascending."""
    labels = [np.zeros(block.size, dtype=np.int64) for block in problem.blocks]
    for s, members in enumerate(problem.classes.members):
        labels[problem.classes.block[s]][members] = s
    tidied = []
    for channels, label in zip(order.channels, labels, strict=True):
        own = label[channels]
        result = np.empty_like(channels)
        result[np.argsort(own, kind="stable")] = channels[np.lexsort((channels, own))]
        tidied.append(result)
    return Order(tidied, order.arrangement)
