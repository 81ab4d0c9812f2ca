"""The instance file: a `Problem` as JSON. It has a version and is validated on load; writing and reading are exact.

    {"format": "upscale_opt.instance", "version": 2, "name": "layer1",
     "blocks": [{"name": "layer1.0", "pinned": false, "removable": true, "channels": [[12, [0, 2]], [3, []]]}],
     "accesses": [{"name": "layer1.0.conv1", "blocks": [0], "channel_size": 1}]}

``channels`` lists the block's channels as pairs ``[count, readers]``: `count` consecutive channels that exactly these
readers keep. Readers number the (access, slot) pairs in file order. If a block has many readers, their set is a
hexadecimal number whose bit i stands for the block's i-th reader. So an instance whose channels are sorted by
signature has one entry per class.

| version | what it added |
|---|---|
| 2 | an access may have a cost table |
| 3 | a block may list ``required`` channels, which are always stored |
| 4 | ``bundles``: lists of units that may change places; a unit is a list of blocks |
| 5 | an access may have a ``weight``, 1 if it is not there; ``constraints``: objects with the fields ``block``, |
|   | ``channel`` and ``place`` (from 0, or from the end), or ``block``, ``first`` and ``later`` |

A file states the lowest version that has all its fields.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from problems.blocks import MAX_SIZE, Access, Block
from problems.bundles import Bundle
from problems.constraints import Constraint, FixedPlace, Precedence
from problems.conversions import of_kind
from problems.costs import CostTable, Curve
from problems.errors import ProblemError
from problems.files import (
    json_of,
    read_bytes,
    reject_unknown_fields,
    require_field,
    require_format,
    write_text_atomically,
)
from problems.problem import Problem

FORMAT = "upscale_opt.instance"
VERSION = 5
_MOST_LISTED = 8
"""If a block has more readers than this, its signatures are written as hexadecimal numbers."""


def write_instance(problem: Problem, path: str | Path) -> None:
    """Write a problem to a file, atomically.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    document = instance_to_dict(problem)
    head = {key: document[key] for key in ("format", "version", "name")}
    lines = [json.dumps(head)[:-1] + ","]
    keys = [key for key in ("blocks", "bundles", "constraints", "accesses") if key in document]
    for key in keys:
        rows = ",\n".join("  " + json.dumps(entry) for entry in document[key])
        lines.append(f' "{key}": [\n{rows}\n ]' + ("," if key != keys[-1] else "}"))
    write_text_atomically("\n".join(lines) + "\n", path)


def read_instance(path: str | Path) -> Problem:
    """Read a problem from a file.

    Raises
    ------
    ProblemError
        If the file cannot be read, is newer than this program, or a field is wrong. The message names the field.
    """
    return instance_in(read_bytes(path), path)


def instance_in(content: bytes, where: str | Path) -> Problem:
    """As `read_instance`, for the content of a file; `where` names the file in errors."""
    document = require_format(json_of(content, where), where, file_format=FORMAT, version=VERSION)
    try:
        return instance_from_dict(document)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def instance_to_dict(problem: Problem) -> dict[str, Any]:
    """The JSON object of a problem, with plain Python values only."""
    blocks = []
    for b, block in enumerate(of_kind(problem, Problem, "the problem").blocks):
        readers = problem.readers_of(b)
        bits = np.array([problem.reads[r] for r in readers], dtype=bool).reshape(len(readers), block.size)
        changes = np.flatnonzero((bits[:, 1:] != bits[:, :-1]).any(axis=0)) + 1
        starts = np.concatenate([[0], changes])
        counts = np.diff(np.concatenate([starts, [block.size]]))
        channels = [
            [int(count), _signature(readers, bits[:, start])] for start, count in zip(starts, counts, strict=True)
        ]
        entry = {"name": block.name, "pinned": block.pinned, "removable": block.removable, "channels": channels}
        blocks.append({**entry, "required": list(block.required)} if block.required else entry)
    accesses: list[dict[str, Any]] = []
    for access in problem.accesses:
        own: dict[str, Any] = {
            "name": access.name,
            "blocks": list(access.blocks),
            "channel_size": access.channel_size,
        }
        if access.weight != 1:
            own["weight"] = access.weight
        accesses.append(own if access.table is None else {**own, "table": _table_to_dict(access.table)})
    weighted = any(access.weight != 1 for access in problem.accesses)
    required = any(block.required for block in problem.blocks)
    bundles = [[list(unit) for unit in bundle.units] for bundle in problem.bundles]
    return {
        "format": FORMAT,
        "version": 5 if weighted or problem.constraints else 4 if bundles else 3 if required else 2,
        "name": problem.name,
        "blocks": blocks,
        **({"bundles": bundles} if bundles else {}),
        **({"constraints": [asdict(own) for own in problem.constraints]} if problem.constraints else {}),
        "accesses": accesses,
    }


def _signature(readers: list[int], kept: np.ndarray) -> list[int] | str:
    """The readers that keep a channel, as a list or as a hexadecimal number."""
    if len(readers) <= _MOST_LISTED:
        return [r for r, keeps in zip(readers, kept, strict=True) if keeps]
    return f"{sum(1 << i for i in np.flatnonzero(kept).tolist()):x}"


def _table_to_dict(table: CostTable) -> dict[str, Any]:
    document: dict[str, Any] = {"spans": list(table.read.points), "costs": list(table.read.costs), "copy": table.copy}
    if table.pieces is not None:
        document |= {"runs": list(table.pieces.points), "pieces": list(table.pieces.costs)}
    return document


def instance_from_dict(document: dict[str, Any]) -> Problem:
    """The problem of a JSON object; errors as in `read_instance`."""
    of_kind(document, dict, "the instance")
    known = {"format", "version", "name", "blocks", "bundles", "constraints", "accesses"}
    reject_unknown_fields(document, known, "the instance")
    name = require_field(document, "name", str, "the instance")
    raw_accesses = require_field(document, "accesses", list, "the instance")
    raw_blocks = require_field(document, "blocks", list, "the instance")

    access_blocks: list[tuple[int, ...]] = []
    for a, raw in enumerate(raw_accesses):
        where = f"accesses[{a}]"
        indices = require_field(raw, "blocks", list, where)
        reject_unknown_fields(raw, {"name", "blocks", "channel_size", "table", "weight"}, where)
        if not indices or not all(type(b) is int and 0 <= b < len(raw_blocks) for b in indices):
            raise ProblemError(
                f"{where}: field 'blocks' must list indices into the {len(raw_blocks)} blocks, from 0, at least one"
            )
        access_blocks.append(tuple(indices))
    readers_of: list[list[int]] = [[] for _ in raw_blocks]
    for r, b in enumerate(b for blocks in access_blocks for b in blocks):
        readers_of[b].append(r)

    blocks = []
    kept_by_reader: dict[int, np.ndarray] = {}
    for b, raw in enumerate(raw_blocks):
        block, reads = _block_from_dict(raw, readers_of[b], f"blocks[{b}]")
        blocks.append(block)
        kept_by_reader.update(reads)

    accesses = []
    reader = 0
    for a, raw in enumerate(raw_accesses):
        pieces = [kept_by_reader[reader + slot] for slot in range(len(access_blocks[a]))]
        reader += len(pieces)
        accesses.append(
            Access(
                require_field(raw, "name", str, f"accesses[{a}]"),
                access_blocks[a],
                np.concatenate(pieces) if pieces else np.zeros(0, dtype=bool),
                require_field(raw, "channel_size", int, f"accesses[{a}]"),
                _table_from_dict(raw["table"], f"accesses[{a}]: table") if "table" in raw else None,
                require_field(raw, "weight", int, f"accesses[{a}]") if "weight" in raw else 1,
            )
        )
    raw_bundles = require_field(document, "bundles", list, "the instance") if "bundles" in document else []
    bundles = [_bundle_from_list(raw, f"bundles[{i}]") for i, raw in enumerate(raw_bundles)]
    rules = require_field(document, "constraints", list, "the instance") if "constraints" in document else []
    constraints = [_constraint_from_dict(raw, f"constraints[{i}]") for i, raw in enumerate(rules)]
    return Problem(tuple(blocks), tuple(accesses), name, tuple(bundles), tuple(constraints))


def _constraint_from_dict(raw: Any, where: str) -> Constraint:
    """A fixed place, or a precedence."""
    names = ("block", "channel", "place") if isinstance(raw, dict) and "place" in raw else ("block", "first", "later")
    first, second, third = (require_field(raw, name, int, where) for name in names)
    reject_unknown_fields(raw, set(names), where)
    return FixedPlace(first, second, third) if "place" in raw else Precedence(first, second, third)


def _bundle_from_list(raw: Any, where: str) -> Bundle:
    """A list of units, which are lists of blocks."""
    units = raw if isinstance(raw, list) else [None]
    if not all(isinstance(unit, list) and all(type(b) is int for b in unit) for unit in units):
        raise ProblemError(f"{where} must be a list of units, each a list of blocks")
    try:
        return Bundle(tuple(map(tuple, units)))
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def _table_from_dict(raw: Any, where: str) -> CostTable:
    """The cost table of an access."""
    lists = [require_field(raw, field, list, where) for field in ("spans", "costs")]
    copy = require_field(raw, "copy", (int, type(None)), where)
    if ("runs" in raw) != ("pieces" in raw):
        raise ProblemError(f"{where}: the fields 'runs' and 'pieces' go together")
    if "runs" in raw:
        lists += [require_field(raw, field, list, where) for field in ("runs", "pieces")]
    reject_unknown_fields(raw, {"spans", "costs", "copy", "runs", "pieces"}, where)
    try:
        return CostTable(Curve(*lists[:2]), copy, Curve(*lists[2:]) if "runs" in raw else None)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def _block_from_dict(raw: Any, readers: list[int], where: str) -> tuple[Block, dict[int, np.ndarray]]:
    """A block, and per reader of it the channels kept."""
    runs = require_field(raw, "channels", list, where)
    reject_unknown_fields(raw, {"name", "pinned", "removable", "channels", "required"}, where)
    required = require_field(raw, "required", list, where) if "required" in raw else []
    if not all(type(channel) is int for channel in required):
        raise ProblemError(f"{where}: field 'required' must be a list of channel indices")
    counts, kept = [], []
    for i, run in enumerate(runs):
        field = f"{where}: field 'channels[{i}]'"
        if not (isinstance(run, list) and len(run) == 2 and type(run[0]) is int and isinstance(run[1], (list, str))):
            raise ProblemError(f"{field} must be [count, list of readers or their bits in hexadecimal]")
        if run[0] < 1:
            raise ProblemError(f"{field} counts {run[0]} channels; a run has at least one")
        if run[0] > MAX_SIZE:
            raise ProblemError(f"{field} counts {run[0]} channels; a block has at most {MAX_SIZE}")
        counts.append(run[0])
        kept.append(_kept_by(run[1], readers, field))
    size = sum(counts)
    block = Block(
        require_field(raw, "name", str, where),
        size,
        pinned=require_field(raw, "pinned", bool, where),
        removable=require_field(raw, "removable", bool, where),
        required=tuple(required),
    )
    bits = np.repeat(np.array(kept, dtype=bool).reshape(len(counts), len(readers)), counts, axis=0)
    return block, {r: bits[:, i] for i, r in enumerate(readers)}


def _kept_by(signature: list[Any] | str, readers: list[int], field: str) -> np.ndarray:
    """Per reader of a block, whether a signature names it; bool, shape (num_readers,)."""
    if isinstance(signature, str):
        if not re.fullmatch("[0-9a-f]+", signature) or int(signature, 16) >> len(readers):
            raise ProblemError(
                f"{field} has the signature {signature!r}; it must be {len(readers)} bits in hexadecimal"
            )
        packed = int(signature, 16).to_bytes(-(-len(readers) // 8), "little")
        return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=len(readers), bitorder="little").astype(bool)
    known = all(type(reader) is int for reader in signature) and set(signature) <= set(readers)
    if not known or len(set(signature)) != len(signature):
        raise ProblemError(f"{field} names readers {signature}; each must be one of {readers}, once")
    return (
        np.isin(readers, signature)
        if len(readers) > _MOST_LISTED
        else np.array([r in signature for r in readers], bool)
    )
