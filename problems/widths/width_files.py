"""The width problem as a JSON file. It has a version and is validated on load; writing and reading are exact.

docs/formats.md describes the fields. A file is written as a whole or not at all, and unknown fields are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.widths.problem import WidthProblem
from problems.widths.tables import TimedWork, TimeTable, WidthBlock

FORMAT = "upscale_opt.widths"
VERSION = 1
_NUMBERS = ("budget", "base", "fixed")
_LISTS = ("blocks", "works", "tables")


def write_width_problem(problem: WidthProblem, path: str | Path) -> None:
    """Write a width problem to a file, in one step.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    document = width_problem_to_dict(problem)
    lines = [json.dumps({key: own for key, own in document.items() if key not in _LISTS})[:-1] + ","]
    for key in _LISTS:
        rows = ",\n".join("  " + json.dumps(entry) for entry in document[key])
        lines.append(f' "{key}": [\n{rows}\n ]' + ("," if key != _LISTS[-1] else "}"))
    write_text_atomically("\n".join(lines) + "\n", path)


def read_width_problem(path: str | Path) -> WidthProblem:
    """Read a width problem from a file.

    Raises
    ------
    ProblemError
        If the file cannot be read, is newer than this program, or a field is wrong. The message names the field.
    """
    document = read_json(path, file_format=FORMAT, version=VERSION)
    try:
        return width_problem_from_dict(document)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def width_problem_to_dict(problem: WidthProblem) -> dict[str, Any]:
    """The JSON object of a width problem, with plain Python values only."""
    of_kind(problem, WidthProblem, "the problem")
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": problem.name,
        **{field: getattr(problem, field) for field in _NUMBERS},
        "blocks": [
            {"name": block.name, "widths": list(block.widths), "losses": list(block.losses)} for block in problem.blocks
        ],
        "works": [
            {"name": work.name, "inputs": list(work.inputs), "outputs": list(work.outputs), "table": work.table}
            for work in problem.works
        ],
        "tables": [
            {
                "input_widths": list(table.input_widths),
                "output_widths": list(table.output_widths),
                "nanoseconds": table.nanoseconds.tolist(),
            }
            for table in problem.tables
        ],
    }


def width_problem_from_dict(document: dict[str, Any]) -> WidthProblem:
    """The width problem of a JSON object; errors as in `read_width_problem`."""
    of_kind(document, dict, "the width problem")
    reject_unknown_fields(document, {"format", "version", "name", *_NUMBERS, *_LISTS}, "the width problem")
    name = require_field(document, "name", str, "the width problem")
    numbers = {field: require_field(document, field, int, "the width problem") for field in _NUMBERS}
    made: dict[str, tuple[Any, ...]] = {}
    kinds: dict[str, tuple[type, dict[str, type]]] = {
        "blocks": (WidthBlock, {"name": str, "widths": list, "losses": list}),
        "works": (TimedWork, {"name": str, "inputs": list, "outputs": list, "table": int}),
        "tables": (TimeTable, {"input_widths": list, "output_widths": list, "nanoseconds": list}),
    }
    for key, (kind, fields) in kinds.items():
        raw = require_field(document, key, list, "the width problem")
        made[key] = tuple(_part(kind, own, fields, f"{key}[{i}]") for i, own in enumerate(raw))
    return WidthProblem(made["blocks"], made["works"], made["tables"], **numbers, name=name)


def _part(kind: type, raw: Any, fields: dict[str, type], where: str) -> Any:
    """A block, a work or a table of its JSON object."""
    values = {field: require_field(raw, field, own, where) for field, own in fields.items()}
    reject_unknown_fields(raw, fields, where)
    try:
        return kind(**values)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error
