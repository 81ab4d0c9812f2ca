"""Reads CSV files of ``benchmarks/results`` as rows of a sweep, so that reports show them, too.

A column that names something of a cell becomes part of it, whatever the file. Numbers in other columns are figures,
and texts go to the environment. A file with accuracies and latencies in one line gives a row for each.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from upscale_opt.errors import SweepError
from upscale_opt.sweeps.cells import ACCURACY, LATENCY, ORDERS, Cell, Condition, Masking, Model
from upscale_opt.sweeps.rows import DONE, FAILED, Row

_MODEL = ("model", "network", "instance")
_METHOD = ("solver", "variant", "order")
_TOP1 = {"dense": "dense_top1", "pruned": "pruned_top1", "reestimated": "reestimated_top1", "tuned": "tuned_top1"}
_NAMES = {
    "median_ms": "latency_ms",
    "measured_ms": "latency_ms",
    "copied_channels": "copied_channels",
    "of": "channels",
    "error": "relative_error",
    "to_unpruned": "ratio_to_unpruned",
    "to_floor": "ratio_to_floor",
}
_SHARES = {"greedy": "greedy", "exact": "auto"}
"""Columns of latencies as shares of ``dense_ms``, and the solvers that they are of."""
_WHERE = ("machine", "versions", "commit", "latency_commit", "date", "load", "command", "family")
_OF_CELL = (*_MODEL, *_METHOD, "amount", "mode", "method", "objective", "seed", "device", "dtype", "batch", "format")
_USED = {*_OF_CELL, *_WHERE, "backend", "threads", "time_limit", "status", "reason"}
_GOOD = ("ok", "verified", "OPTIMAL", "FEASIBLE", "")


def rows_of(path: Path) -> list[Row]:
    """The rows of a CSV file.

    Raises
    ------
    SweepError
        If the file cannot be read, or has no column that names a network or an instance.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SweepError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; name a CSV file") from error
    if not lines or not set(_MODEL) & lines[0].keys():
        raise SweepError(f"{path} has no column {', '.join(_MODEL[:-1])} or {_MODEL[-1]}; name a file of results")
    return [row for line in lines for row in _of_line(path.stem, line)]


def _of_line(source: str, line: Mapping[str, Any]) -> Iterator[Row]:
    line = {name: value for name, value in line.items() if name is not None and isinstance(value, str)}
    found = {_NAMES.get(name, name): _number(value) for name, value in line.items() if name not in _USED and value}
    figures = {name: value for name, value in found.items() if not isinstance(value, str)}
    text = {name: value for name, value in found.items() if isinstance(value, str)}
    where = {name: line[name] for name in _WHERE if line.get(name)} | text | {"source": source}
    for percentage, share in _TOP1.items():
        if share not in figures and percentage in figures:
            figures[share] = round(figures.pop(percentage) / 100, 6)
    reason = line.get("reason", "")
    good = line.get("status", "") in _GOOD
    cell = _cell(line, figures)
    address = _address(source, line)
    dense = figures.get("dense_ms")
    shares = {} if dense is None else {name: figures.pop(name) for name in _SHARES if name in figures}
    yield Row(
        address,
        DONE if good else FAILED,
        cell.to_dict(),
        reason="" if good else reason or line.get("status", ""),
        figures=figures,
        environment=where,
        finished=line.get("date", ""),
    )
    for name, ratio in shares.items():
        own = replace(cell, kind=LATENCY, method=_SHARES[name], objective="copies")
        milliseconds = {"latency_ms": ratio * (dense or 0), "unpruned_ms": dense, "ratio_to_unpruned": ratio}
        yield Row(_address(f"{source} {name}", line), DONE, own.to_dict(), figures=milliseconds, environment=where)


def _cell(line: Mapping[str, str], figures: Mapping[str, Any]) -> Cell:
    model = next(line[name] for name in _MODEL if line.get(name))
    method = next((line[name] for name in _METHOD if line.get(name)), None)
    kind = ACCURACY if set(_TOP1.values()) & figures.keys() else LATENCY if "latency_ms" in figures else ORDERS
    masking = Masking(mode=line.get("mode") or "input")
    if kind == ACCURACY and line.get("method"):
        masking = replace(masking, importance=line["method"])
    batch = line.get("batch", "")
    condition = Condition(
        device=line.get("device") or "cpu",
        dtype=line.get("dtype") or "float32",
        batch=int(batch) if batch.isdecimal() else None,
        memory_format="channels_last" if line.get("format") == "channels_last" else "contiguous",
        backend=line.get("backend") or None,
        threads=int(line["threads"]) if line.get("threads", "").isdecimal() else None,
    )
    seed = line.get("seed", "")
    return Cell(
        kind,
        Model(model),
        line.get("amount", ""),
        masking,
        int(seed) if seed.isdecimal() else 0,
        objective=line.get("objective") or None,
        method=None if kind == ACCURACY else method or line.get("method") or None,
        condition=condition,
    )


def _address(source: str, line: Mapping[str, str]) -> str:
    text = json.dumps(["import", source, line], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _number(text: str) -> int | float | str:
    """A finite number, or the text."""
    try:
        value = float(text)
    except ValueError:
        return text
    return (int(value) if value.is_integer() and "." not in text else value) if math.isfinite(value) else text
