"""The proof file: a `Proof` as JSON, with a version, validated on load.

    {"format": "upscale_opt.proof", "version": 1, "instance": "layer1", "fingerprint": "9f2c...", "solver": "cp-sat",
     "objective": "copies", "ticks": 1, "bound": 64, "claims": [
      {"kind": "conflict", "bound": 64, "accesses": ["a", "b", "c"], "views": 2}]}

A claim needs only ``kind`` and ``bound``. docs/formats.md says what the fields mean.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.objectives import OBJECTIVES, Objective
from problems.obstructions import Obstruction
from problems.proofs import Claim, Potentials, Proof

FORMAT = "upscale_opt.proof"
VERSION = 1
_NONE = type(None)


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
        If the file cannot be read, is newer than this program, or a field is wrong. The message names the field.
    """
    document = read_json(path, file_format=FORMAT, version=VERSION)
    try:
        return proof_from_dict(document)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def proof_to_dict(proof: Proof) -> dict[str, Any]:
    """The JSON object of a proof, with plain Python values only."""
    goal = of_kind(proof, Proof, "the proof").objective
    return {
        "format": FORMAT,
        "version": VERSION,
        "instance": proof.instance,
        "fingerprint": proof.fingerprint,
        "solver": proof.solver,
        "objective": objective_to_json(goal),
        "ticks": proof.ticks,
        "bound": proof.bound,
        "claims": [_claim_to_dict(claim) for claim in proof.claims],
    }


def proof_from_dict(document: dict[str, Any]) -> Proof:
    """The proof of a JSON object; errors as in `read_proof`."""
    where = "the proof"
    texts, numbers = ("instance", "fingerprint", "solver"), ("ticks", "bound")
    reject_unknown_fields(document, {"format", "version", "objective", "claims", *texts, *numbers}, where)
    fields = {name: require_field(document, name, str, where) for name in texts}
    fields |= {name: require_field(document, name, int, where) for name in numbers}
    claims = require_field(document, "claims", list, where)
    return Proof(
        objective=objective_from_json(require_field(document, "objective", (str, dict), where), where),
        claims=tuple(_claim_from_dict(raw, f"claims[{i}]") for i, raw in enumerate(claims)),
        **fields,
    )


def _claim_to_dict(claim: Claim) -> dict[str, Any]:
    """The JSON object of a claim. Fields that have their default value are left out."""
    potentials = [{"block": own.block, "leave": list(own.leave), "enter": list(own.enter)} for own in claim.potentials]
    entry = {
        "text": claim.text or None,
        "accesses": list(claim.accesses) or None,
        "views": claim.views,
        "share": None if claim.share == 1 else str(claim.share),
        "potentials": potentials or None,
        "figures": dict(claim.figures) or None,
        "obstructions": [_obstruction_to_dict(own) for own in claim.obstructions] or None,
    }
    stated = {name: value for name, value in entry.items() if value is not None}
    return {"kind": claim.kind.value, "bound": claim.bound, **stated}


def _claim_from_dict(raw: Any, where: str) -> Claim:
    kind, bound = require_field(raw, "kind", str, where), require_field(raw, "bound", int, where)
    optional = {"text": str, "accesses": list, "views": int, "share": str, "potentials": list, "figures": dict}
    optional["obstructions"] = list
    reject_unknown_fields(raw, {"kind", "bound", *optional}, where)
    given = {name: require_field(raw, name, what, where) for name, what in optional.items() if name in raw}
    if not all(isinstance(name, str) for name in given.get("accesses", [])):
        raise ProblemError(f"{where}: field 'accesses' must list names")
    if "share" in given:
        given["share"] = _fraction(given["share"], f"{where}: field 'share'")
    potentials = given.pop("potentials", [])
    given["potentials"] = tuple(_potentials(own, f"{where}: potentials[{i}]") for i, own in enumerate(potentials))
    obstructions = given.pop("obstructions", [])
    given["obstructions"] = tuple(
        _obstruction(own, f"{where}: obstructions[{i}]") for i, own in enumerate(obstructions)
    )
    try:
        return Claim(kind, bound, **given)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def _potentials(raw: Any, where: str) -> Potentials:
    block = require_field(raw, "block", str, where)
    prices = [require_field(raw, side, list, where) for side in ("leave", "enter")]
    reject_unknown_fields(raw, {"block", "leave", "enter"}, where)
    if not all(type(price) is int and abs(price) < 2**52 for side in prices for price in side):
        raise ProblemError(f"{where}: fields 'leave' and 'enter' must list whole numbers below 2^52")
    return Potentials(block, *prices)


def _obstruction_to_dict(own: Obstruction) -> dict[str, Any]:
    chains = [list(chain) for chain in own.chains]
    return {"block": own.block, "channels": list(own.channels), "chains": chains, "weight": str(own.weight)}


def _obstruction(raw: Any, where: str) -> Obstruction:
    fields = {"block": str, "channels": list, "chains": list, "weight": str}
    given = {name: require_field(raw, name, what, where) for name, what in fields.items()}
    reject_unknown_fields(raw, set(fields), where)
    if not all(isinstance(chain, list) for chain in given["chains"]):
        raise ProblemError(f"{where}: field 'chains' must list lists of names")
    given["weight"] = _fraction(given["weight"], f"{where}: field 'weight'")
    try:
        return Obstruction(**given)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def _fraction(given: str, what: str) -> Fraction:
    if not re.fullmatch(r"[0-9]{1,40}(/0*[1-9][0-9]{0,39})?", given):
        raise ProblemError(f"{what} is {given!r}; write a fraction like 1/2")
    return Fraction(given)


def objective_to_json(objective: Objective) -> str | dict[str, Any]:
    """An objective as files have it: its name, or name and prices if it is one of a user's own."""
    if OBJECTIVES.get(objective.name) == objective:
        return objective.name
    return {"name": objective.name, "alpha": objective.alpha, "gamma": objective.gamma}


def objective_from_json(raw: str | dict[str, Any], where: str) -> Objective:
    """The objective of a file; `where` names the object that has it in errors."""
    if isinstance(raw, str):
        if raw not in OBJECTIVES:
            raise ProblemError(f"{where}: field 'objective' is {raw!r}; it must be one of {', '.join(OBJECTIVES)}")
        return OBJECTIVES[raw]
    where = f"{where}: objective"
    reject_unknown_fields(raw, {"name", "alpha", "gamma"}, where)
    prices = [require_field(raw, price, (int, _NONE), where) for price in ("alpha", "gamma")]
    return Objective(require_field(raw, "name", str, where), *prices)
