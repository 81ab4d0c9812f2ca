"""Proofs of bounds as plain data: what a solver proved, in words, and the witnesses that `problems.checking` checks.

A proof says that no order of a problem costs less than its bound. It may rest on accesses that cannot all be views, on
the least costs of groups of accesses, on potentials (for runs), or on a search that only a re-run can check.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from problems.errors import ProblemError
from problems.evaluation import OBJECTIVES, Objective
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically

FORMAT = "upscale_opt.proof"
VERSION = 1


@dataclass(frozen=True)
class Conflict:
    """At most so many of some accesses can be views under one order.

    Parameters
    ----------
    accesses
        Names, each once, at least one.
    views
        From 0 to one less than their number (the default): then the accesses conflict as a whole.

    Raises
    ------
    ProblemError
        If names repeat or `views` is out of range.
    """

    accesses: tuple[str, ...]
    views: int

    def __init__(self, accesses: Iterable[str], views: int | None = None) -> None:
        object.__setattr__(self, "accesses", _distinct(accesses, "a conflict"))
        object.__setattr__(self, "views", len(self.accesses) - 1 if views is None else int(views))
        if not 0 <= self.views < len(self.accesses):
            raise ProblemError(
                f"a conflict of {len(self.accesses)} accesses allows {self.views} views; "
                "it must forbid something and allow no less than none"
            )

    def __str__(self) -> str:
        return f"at most {self.views} of {', '.join(self.accesses)}"


@dataclass(frozen=True)
class GroupCost:
    """No order makes a group of accesses cost less, whatever the other accesses cost.

    Parameters
    ----------
    accesses
        Names, each once, at least one.
    cost
        At least 0; for tables in ticks.
    multiplier
        With which the group counts, at least 0. Over the groups of a proof the multipliers of the groups that hold an
        access may add up to 1; what is left of each access counts with its cost alone.

    Raises
    ------
    ProblemError
        If names repeat or a number is negative.
    """

    accesses: tuple[str, ...]
    cost: int
    multiplier: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "accesses", _distinct(self.accesses, "a group"))
        object.__setattr__(self, "cost", int(self.cost))
        object.__setattr__(self, "multiplier", Fraction(self.multiplier))
        if self.cost < 0 or self.multiplier < 0:
            raise ProblemError(f"a group has cost {self.cost} and multiplier {self.multiplier}; neither is below 0")


@dataclass(frozen=True)
class Potentials:
    """Prices for leaving and entering the classes of a block that no succession of classes undercuts.

    Node 0 is the border of the block, node i its i-th class (classes in order of their first stored channel). Runs
    that begin at class j when it follows i are at least ``leave[i] + enter[j]``, so their sum bounds the block's runs.

    Parameters
    ----------
    block
        Name.
    leave, enter
        Whole numbers, one per node.

    Raises
    ------
    ProblemError
        If there are not equally many of both.
    """

    block: str
    leave: tuple[int, ...]
    enter: tuple[int, ...]

    def __post_init__(self) -> None:
        for side in ("leave", "enter"):
            object.__setattr__(self, side, tuple(int(price) for price in getattr(self, side)))
        if len(self.leave) != len(self.enter) or len(self.leave) < 2:
            raise ProblemError(
                f"potentials of block {self.block!r}: {len(self.leave)} to leave and {len(self.enter)} to enter; give "
                "one of each for the border and every class"
            )


@dataclass(frozen=True)
class Proof:
    """No order costs less than `bound`, and why.

    Parameters
    ----------
    objective
        What is minimised.
    bound
        At least 0; for tables in ticks.
    method
        Short name: ``trivial``, ``conflicts``, ``groups``, ``assignment``, ``search``, ...
    text
        One or a few sentences a person can check.
    conflicts, groups, potentials
        Witnesses. The bound is the best that one of these kinds gives, or what every access costs alone.
    search
        Figures (states, nodes, ...) of a search that proved what the witnesses do not; None if there was none.

    Raises
    ------
    ProblemError
        If a field makes no sense.

    Examples
    --------
    >>> proof = Proof(OBJECTIVES["copies"], 3, "conflicts", "One of a, b, c is copied.", (Conflict("abc"),))
    >>> print(proof)
    copies >= 3 (conflicts): One of a, b, c is copied.
    """

    objective: Objective
    bound: int
    method: str
    text: str
    conflicts: tuple[Conflict, ...] = ()
    groups: tuple[GroupCost, ...] = ()
    potentials: tuple[Potentials, ...] = ()
    search: Mapping[str, int | float] | None = field(default=None)

    def __post_init__(self) -> None:
        for kind in ("conflicts", "groups", "potentials"):
            object.__setattr__(self, kind, tuple(getattr(self, kind)))
        object.__setattr__(self, "bound", int(self.bound))
        if self.bound < 0:
            raise ProblemError(f"the bound of a proof is {self.bound}; no cost is below 0")
        if not self.method or not self.text:
            raise ProblemError("a proof needs a method and a text")
        blocks = [own.block for own in self.potentials]
        if len(set(blocks)) != len(blocks):
            raise ProblemError("a proof has two sets of potentials for one block; give one")
        if self.search is not None:
            object.__setattr__(self, "search", dict(self.search))
            for name, figure in self.search.items():
                if isinstance(figure, bool) or not isinstance(figure, (int, float)) or not math.isfinite(figure):
                    raise ProblemError(f"figure {name!r} of a search is {figure!r}; give a finite number")

    def __str__(self) -> str:
        return f"{self.objective.name} >= {self.bound} ({self.method}): {self.text}"


def write_proof(proof: Proof, path: str | Path) -> None:
    """Write a proof to a file, atomically.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    write_text_atomically(json.dumps(proof_to_dict(proof), indent=1) + "\n", path)


def read_proof(path: str | Path) -> Proof:
    """Read a proof from a file.

    Raises
    ------
    ProblemError
        If the file cannot be read, is newer than this program, or a field is wrong; the message names the field.
    """
    document = read_json(path, file_format=FORMAT, version=VERSION)
    try:
        return proof_from_dict(document)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def proof_to_dict(proof: Proof) -> dict[str, Any]:
    """The JSON object of a proof, with plain Python values only."""
    goal = proof.objective
    known = OBJECTIVES.get(goal.name) == goal
    return {
        "format": FORMAT,
        "version": VERSION,
        "objective": goal.name if known else {"name": goal.name, "alpha": goal.alpha, "gamma": goal.gamma},
        "bound": proof.bound,
        "method": proof.method,
        "text": proof.text,
        "conflicts": [{"accesses": list(own.accesses), "views": own.views} for own in proof.conflicts],
        "groups": [
            {"accesses": list(own.accesses), "cost": own.cost, "multiplier": str(own.multiplier)}
            for own in proof.groups
        ],
        "potentials": [
            {"block": own.block, "leave": list(own.leave), "enter": list(own.enter)} for own in proof.potentials
        ],
        "search": None if proof.search is None else dict(proof.search),
    }


def proof_from_dict(document: dict[str, Any]) -> Proof:
    """The proof of a JSON object; see `read_proof` for the errors."""
    where = "the proof"
    lists = ("conflicts", "groups", "potentials")
    fields = {"format", "version", "objective", "bound", "method", "text", "search", *lists}
    reject_unknown_fields(document, fields, where)
    raw = {kind: require_field(document, kind, list, where) for kind in lists}
    return Proof(
        _objective(require_field(document, "objective", (str, dict), where)),
        require_field(document, "bound", int, where),
        require_field(document, "method", str, where),
        require_field(document, "text", str, where),
        tuple(_conflict(entry, f"conflicts[{i}]") for i, entry in enumerate(raw["conflicts"])),
        tuple(_group(entry, f"groups[{i}]") for i, entry in enumerate(raw["groups"])),
        tuple(_potentials(entry, f"potentials[{i}]") for i, entry in enumerate(raw["potentials"])),
        require_field(document, "search", (dict, type(None)), where),
    )


def _objective(raw: str | dict[str, Any]) -> Objective:
    if isinstance(raw, str):
        if raw not in OBJECTIVES:
            raise ProblemError(f"the proof: field 'objective' is {raw!r}; it must be one of {', '.join(OBJECTIVES)}")
        return OBJECTIVES[raw]
    where = "the proof: objective"
    reject_unknown_fields(raw, {"name", "alpha", "gamma"}, where)
    prices = [require_field(raw, price, (int, type(None)), where) for price in ("alpha", "gamma")]
    return Objective(require_field(raw, "name", str, where), *prices)


def _conflict(raw: Any, where: str) -> Conflict:
    names = _names(raw, where)
    reject_unknown_fields(raw, {"accesses", "views"}, where)
    return _named(where, lambda: Conflict(names, require_field(raw, "views", int, where)))


def _group(raw: Any, where: str) -> GroupCost:
    names = _names(raw, where)
    reject_unknown_fields(raw, {"accesses", "cost", "multiplier"}, where)
    cost = require_field(raw, "cost", int, where)
    multiplier = require_field(raw, "multiplier", str, where)
    if not re.fullmatch(r"[0-9]{1,40}(/0*[1-9][0-9]{0,39})?", multiplier):
        raise ProblemError(f"{where}: field 'multiplier' is {multiplier!r}; write a fraction like 1/2")
    return _named(where, lambda: GroupCost(names, cost, Fraction(multiplier)))


def _potentials(raw: Any, where: str) -> Potentials:
    prices = [require_field(raw, side, list, where) for side in ("leave", "enter")]
    reject_unknown_fields(raw, {"block", "leave", "enter"}, where)
    for side, own in zip(("leave", "enter"), prices):
        if not all(type(price) is int and abs(price) < 2**52 for price in own):
            raise ProblemError(f"{where}: field {side!r} must list whole numbers below 2^52")
    return _named(where, lambda: Potentials(require_field(raw, "block", str, where), prices[0], prices[1]))


def _names(raw: Any, where: str) -> tuple[str, ...]:
    names = require_field(raw, "accesses", list, where)
    if not all(isinstance(name, str) for name in names):
        raise ProblemError(f"{where}: field 'accesses' must list names")
    return tuple(names)


def _named(where: str, make: Any) -> Any:
    """Make a witness; errors say where it stands."""
    try:
        return make()
    except ProblemError as error:
        raise error if str(error).startswith(where) else ProblemError(f"{where}: {error}") from error


def _distinct(names: Iterable[str], what: str) -> tuple[str, ...]:
    found = tuple(names)
    if not found or len(set(found)) != len(found):
        raise ProblemError(f"{what} names the accesses {list(found)}; name at least one, each once")
    return found
