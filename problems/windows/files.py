"""The file of a window problem: JSON with a version, validated on load. Writing and reading are exact.

{"format": "upscale_opt.windows", "version": 1, "name": "layer1", "channels": 2,
 "accesses": [{"name": "conv1", "role": "writer", "pinned": false, "prices": 0.5}, ...],
 "full": [1], "moments": [[4.0, 1.0], ...]}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.windows.losses import ChannelLosses
from problems.windows.problem import StreamAccess, WindowProblem

FORMAT = "upscale_opt.windows"
VERSION = 1
MOST_CHANNELS = 2**24


def write_windows(problem: WindowProblem, path: str | Path) -> None:
    """Write a window problem.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    of_kind(problem, WindowProblem, "the problem")
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "name": problem.name,
        "channels": problem.num_channels,
    }
    accesses = [
        {"name": own.name, "role": str(own.role), "pinned": own.pinned, "prices": prices}
        for own, prices in zip(problem.accesses, problem.prices.tolist())
    ]
    full = np.flatnonzero(problem.full).tolist()
    parts = [json.dumps(fields)[:-1]]
    parts.append('"accesses": [\n  ' + ",\n  ".join(map(json.dumps, accesses)) + "\n ]")
    parts.append(f'"full": {json.dumps(full)}')
    parts.append('"moments": [\n  ' + ",\n  ".join(json.dumps(row) for row in problem.losses.moments.tolist()) + "\n ]")
    write_text_atomically(",\n ".join(parts) + "}\n", path)


def read_windows(path: str | Path) -> WindowProblem:
    """Read a window problem.

    Raises
    ------
    ProblemError
        If the file cannot be read, has another format, or a field is not as described. The message names the field.
    """
    document = read_json(path, file_format=FORMAT, version=VERSION)
    try:
        return _problem_of(document)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def _problem_of(document: dict[str, Any]) -> WindowProblem:
    where = "the window problem"
    reject_unknown_fields(document, {"format", "version", "name", "channels", "accesses", "full", "moments"}, where)
    channels = require_field(document, "channels", int, where)
    if not 1 <= channels <= MOST_CHANNELS:
        raise ProblemError(f"field 'channels' is {channels}; give a number from 1 to {MOST_CHANNELS}")
    accesses, prices = [], []
    for a, raw in enumerate(require_field(document, "accesses", list, where)):
        own = f"accesses[{a}]"
        prices.append(require_field(raw, "prices", (int, float, list), own))
        reject_unknown_fields(raw, {"name", "role", "pinned", "prices"}, own)
        role, pinned = require_field(raw, "role", str, own), require_field(raw, "pinned", bool, own)
        accesses.append(StreamAccess(require_field(raw, "name", str, own), role, pinned))
    full = require_field(document, "full", list, where)
    if not all(type(channel) is int and 0 <= channel < channels for channel in full) or len(set(full)) < len(full):
        raise ProblemError(f"field 'full' must list channels from 0 to {channels - 1}, each once")
    rows = require_field(document, "moments", list, where)
    if not all(isinstance(row, list) and len(row) == channels for row in rows):
        raise ProblemError(f"field 'moments' must hold lists of {channels} numbers, one per channel")
    moments = np.array(rows) if rows else np.zeros((0, channels))
    is_full = np.isin(np.arange(channels), full)
    name = require_field(document, "name", str, where)
    return WindowProblem(accesses, ChannelLosses(moments), prices, is_full, name)
