"""docs/coverage.md, made from the rows of the sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.coverage.measurement import Row
from benchmarks.coverage.networks import FAMILIES, names
from benchmarks.coverage.wild.tables import section
from benchmarks.results import markdown_table, provenance
from problems.files import write_text_atomically

PATH = Path(__file__).resolve().parents[2] / "docs" / "coverage.md"
TRACE_SECONDS = 5
FACTOR, EXTRA_MB = 2, 300
"""Limits for tracing and extraction: seconds, and memory as a multiple of the model's plus a constant."""

HEAD = """\
This page lists networks that can be reordered and pruned, and which of their channels cannot. Every network is traced,
masked at random, ordered and exported. The export is compared with the masked model in float64, with random weights,
normalisation statistics, affine parameters and biases. It passes if its relative error is at most 1e-9, its output
varies with the input, and an exchange of two kept columns changes the output.

| mode | who drops a share of channels |
|---|---|
| *input* | every convolution and linear layer that does not read the network's input: its own input channels |
| *constrained* | all consumers of a channel together: all keep it, or none does |
| *output* | every convolution whose outputs may be masked: its own output channels |
| *both* | *input* and *output* together |

In *output* and *both*, masks are drawn around a common score per channel. With independent masks at 0.9, nine in ten
kept channels would not be computed. Then the output would not depend on the input, and nothing could be verified.

On Linux the measuring processes use large pages (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`), because gigabytes of float64
are then allocated several times as fast.

| column | meaning |
|---|---|
| *verified* | rows (amount, mode, solver) that passed, of the measured ones |
| *error* | the largest relative error of these rows |
| *free* | channels that may move and may be removed |
| *not removable* | channels that may only move (LayerNorm and softmax read all of them) |
| *pinned by* | the operators that keep the other channels in place, with the number of channels |
| *trace s* | seconds to trace and extract, in a new process, with the imports of torch's lazy parts |
| *export s* | seconds of the slowest export |
| *model MB*, *trace MB* | memory of the built model; the most that tracing and extracting add to it |
| *peak MB* | the largest size of the whole process, verification in float64 included |"""


def save(rows: Sequence[Row]) -> str:
    """Write docs/coverage.md; returns it."""
    text = document(rows)
    PATH.parent.mkdir(exist_ok=True)
    write_text_atomically(text, PATH)
    return text


def document(rows: Sequence[Row]) -> str:
    """The Markdown of all families that have rows.

    Parameters
    ----------
    rows
        As `benchmarks.coverage.sweep.read_rows` returns them.
    """
    parts = ["# Coverage", "", provenance("python -m benchmarks.coverage --table"), "", HEAD]
    for family in FAMILIES:
        own = [row for row in rows if row["family"] == family]
        if own and family == "wild":
            parts += ["", f"## {family}", "", section(own)]
        elif own:
            parts += ["", f"## {family}", "", summary(family, own), "", markdown_table(_by_model(family, own, _line))]
            failed = [row for row in own if row["status"] != "verified"]
            if failed:
                parts += ["", f"### Failures in {family}", "", *_failures(failed)]
    return "\n".join([*parts, ""])


def summary(family: str, rows: Sequence[Row]) -> str:
    """A summary of a family in a few sentences."""
    kinds = [_listed(row[column] for row in rows) for column in ("amount", "solver", "objective")]
    limits, seeds = _listed(row["time_limit"] for row in rows), _listed(row["seed"] for row in rows)
    commits, versions = _listed(row["commit"] for row in rows), _listed(row["versions"] for row in rows)
    sentences = [
        f"Models verified at every amount ({kinds[0]}) with every solver ({kinds[1]}), of {len(names(family))}: "
        f"{', '.join(f'{mode} {number}' for mode, number in complete_models(rows).items())}. "
        f"Objective {kinds[2]}, {limits} s a segment, seed {seeds}."
    ]
    traced = [row for row in rows if row.get("trace_seconds")]
    errors = [row for row in rows if row["status"] == "verified"]
    if traced and errors:
        worst = max(errors, key=lambda row: float(row["error"]))
        slowest = max(traced, key=lambda row: float(row["trace_seconds"]))
        largest = max(traced, key=lambda row: float(row["trace_mb"]))
        over = sorted({row["model"] for row in traced if not within_limits(row)})
        sentences += [
            f"Largest error {worst['error']} ({worst['model']}). Slowest to trace and extract: {slowest['model']}, "
            f"{slowest['trace_seconds']} s on the wall, {slowest['trace_cpu_seconds']} s of one processor. "
            f"Largest growth of memory: {largest['model']}, {largest['trace_mb']} MB.",
            f"Beyond {TRACE_SECONDS} s or {FACTOR} times the model plus {EXTRA_MB} MB: "
            f"{', '.join(over) if over else 'none'}.",
        ]
    loads = [float(row["load"]) for row in rows if row["load"]]
    where = f" Load average meanwhile {min(loads):.1f} to {max(loads):.1f}." if loads else ""
    command = f"python -m benchmarks.coverage --family {family}"
    return " ".join(sentences) + f"\n\nRows of commit {commits}; {versions}.{where} Command: `{command}`."


def complete_models(rows: Sequence[Row]) -> dict[str, int]:
    """Per mode, the number of models that are verified at every amount with every solver."""
    wanted = {(row["amount"], row["solver"]) for row in rows}
    numbers = {}
    for mode in dict.fromkeys(row["mode"] for row in rows):
        found: dict[str, set[tuple[str, str]]] = {}
        for row in rows:
            if row["mode"] == mode and row["status"] == "verified":
                found.setdefault(row["model"], set()).add((row["amount"], row["solver"]))
        numbers[mode] = sum(own == wanted for own in found.values())
    return numbers


def within_limits(row: Row) -> bool:
    """Whether tracing and extraction kept their limits of time and memory."""
    allowed = FACTOR * float(row["model_mb"]) + EXTRA_MB
    return float(row["trace_seconds"]) < TRACE_SECONDS and float(row["trace_mb"]) <= allowed


def _by_model(family: str, rows: Sequence[Row], line: Callable[[str, list[Row]], Row]) -> list[Row]:
    order = [*names(family), *dict.fromkeys(row["model"] for row in rows)]
    return [line(name, own) for name in dict.fromkeys(order) if (own := [row for row in rows if row["model"] == name])]


def _line(model: str, rows: list[Row]) -> Row:
    first = next((row for row in rows if row.get("channels")), None)
    verified = [row for row in rows if row["status"] == "verified"]
    return {
        "model": model.removeprefix("timm:"),
        "input": first["input"] if first else "",
        "verified": f"{len(verified)}/{len(rows)}",
        "error": f"{max(float(row['error']) for row in verified):.1e}" if verified else "",
        "free": _share(first, "free"),
        "not removable": _share(first, "not_removable"),
        "pinned by": first["pinned_by"] if first else "",
        "trace s": _largest(rows, "trace_seconds", "{:.2f}"),
        "export s": _largest(rows, "export_seconds", "{:.2f}"),
        "model MB": _largest(rows, "model_mb", "{:.0f}"),
        "trace MB": _largest(rows, "trace_mb", "{:.0f}"),
        "peak MB": _largest(rows, "peak_mb", "{:.0f}"),
    }


def _share(row: Row | None, column: str) -> str:
    return "" if row is None else f"{int(row[column]) / max(1, int(row['channels'])):.1%}"


def _largest(rows: Sequence[Row], column: str, form: str) -> str:
    figures = [float(row[column]) for row in rows if row.get(column)]
    return form.format(max(figures)) if figures else ""


def _failures(rows: Sequence[Row]) -> list[str]:
    """One line per model and reason."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        what = f"{row['amount']} {row['mode']} {row['solver']}"
        kinds.setdefault((row["model"], row["reason"]), []).append(what)
    return [f"- {model} ({len(what)} rows: {'; '.join(what)}): {reason}" for (model, reason), what in kinds.items()]


def _listed(values: Any) -> str:
    return ", ".join(sorted(set(values)))
