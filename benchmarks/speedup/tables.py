"""The page of results: a summary in plain words that is computed from the rows, and a table per network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.results import Row, markdown_table, provenance_of
from benchmarks.speedup.cells import JOINT, METHODS, TIME, TORCH_PRUNING, WINDOWS
from benchmarks.speedup.judging import FAILED, OK, PROCESSES, SHORT, TUNING
from benchmarks.speedup.methods import BATCH_NORM, WITH_LEAST_SQUARES
from benchmarks.speedup.networks import IMAGENET_NETWORKS
from benchmarks.speedup.torch_pruning import REQUIREMENT
from benchmarks.speedup.verdicts import (
    ALIKE,
    BETTER,
    NORMALISED,
    REPAIRED,
    TUNED,
    WORSE,
    Comparison,
    comparisons,
    counts,
    mean_ratio,
    predictions,
    scoreboard,
)

GROUP = ("budget", "backend", "batch", "target", "method")
LEVELLED = 0.5
"""Fine-tuning levels a difference if it leaves at most so much of the share of comparisons that are not alike."""
CANNOT = (
    "What this cannot show: with ImageNet weights, fidelity to the dense network on crops of a few photos is measured, "
    "not ImageNet accuracy. Networks on MNIST are small, and much of their time at batch size 1 is that of starting "
    "operators. Times are of one CPU."
)


def page(rows: Sequence[Row], pictures: Mapping[str, str]) -> str:
    """The Markdown page.

    Parameters
    ----------
    rows
        All rows, at least one.
    pictures
        Network to the file name of its picture.
    """
    parts = ["# From a target speedup to a network", summary(rows), CANNOT, how(), provenance_of(rows)]
    board = scoreboard(rows, list(METHODS))
    if board:
        parts += [
            f"## Every method against {JOINT}, at equal measured time or equal MACs",
            markdown_table(board),
            f"*{BETTER}*, *{ALIKE}*, *{WORSE}*: places (network, budget, target, backend, batch) where the method's KL "
            "to the dense network on held-out images is lower or higher by 2 % and two standard errors of the paired "
            "differences, over the seeds, or over the groups of held-out images (photos) if there is one seed. Places "
            f"where one of both missed the target are left out. The last column: geometric mean; below 1 is better.",
        ]
    parts += ["## Predicted and measured speedups", _predicted(rows)]
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        parts.append(f"## {network}")
        if network in pictures:
            parts.append(f"![Distance to the dense {network} against measured speedup]({pictures[network]})")
        table = _table(own)
        parts.append(markdown_table(table) if table else "No network was made.")
    others = [row for row in rows if row["status"] != OK]
    if others:
        reasons = dict.fromkeys(_reason(row) for row in others)
        parts += ["## Refused and failed", "\n".join(f"- {own}" for own in reasons)]
    return "\n\n".join(parts) + "\n"


def how() -> str:
    """How to read the page."""
    methods = "; ".join(f"*{name}*: {words}" for name, words in METHODS.items())
    return (
        f"Methods: {methods} (`{REQUIREMENT}`). Every method moves its own setting until the target is reached: a "
        "budget, a share, an amount or a ratio. Repair: "
        f"{WITH_LEAST_SQUARES} for all but Torch-Pruning, which gets {BATCH_NORM} only; *KL, statistics only* is with "
        "that repair for every method. SPDY has least squares instead of AdaPrune. Scores of masks are `fisher`; "
        "choices and repairs see no labels. *measured*: speedup of the saved file "
        f"beside that of the dense network, median of {PROCESSES} fresh processes [lowest, highest]. *reached*: "
        f"networks at {100 * SHORT:.0f} % of the target or more. KL and agreement: held-out photos, or 1,000 test "
        "images of MNIST. *own photos*: KL on other crops of the photos that the method saw. *tuned*: after "
        f"{TUNING.epochs} epochs with the dense network as the teacher. Figures are means over the seeds."
    )


def summary(rows: Sequence[Row]) -> str:
    """Plain sentences: where windows win, where not, and whether fine-tuning levels it."""
    sentences = []
    for method in (name for name in METHODS if name != JOINT):
        found = comparisons(rows, JOINT, method, REPAIRED)
        if method != WINDOWS and found:
            sentences.append(f"{_clause('Joint widths', METHODS[method], found)}.")
    same_repair = comparisons(rows, JOINT, TORCH_PRUNING, NORMALISED)
    if same_repair:
        clause = _clause("Joint widths", "Torch-Pruning", same_repair, NORMALISED)
        sentences.append(f"With the same repair for both: {clause[0].lower()}{clause[1:]}.")
    windows = {stage: comparisons(rows, WINDOWS, JOINT, stage) for stage in (REPAIRED, TUNED)}
    if not windows[REPAIRED]:
        sentences.append("Windows were not measured.")
    else:
        sentences.append(f"{_clause('Windows', 'joint widths', windows[REPAIRED])}; {_places(windows[REPAIRED])}.")
    if windows[TUNED]:
        trained = {own.place for own in windows[TUNED]}
        before = [own for own in windows[REPAIRED] if own.place in trained]
        sentences.append(
            f"After fine-tuning, windows are better in {_of(windows[TUNED], BETTER)}, worse in "
            f"{counts(windows[TUNED])[WORSE]}; before, the same places had {_of(before, BETTER)} and "
            f"{counts(before)[WORSE]}. {_levelled(before, windows[TUNED])}"
        )
    every = [own for name in METHODS if name != JOINT for own in comparisons(rows, JOINT, name, TUNED)]
    if every:
        known = {(own.place, own.second) for own in every}
        before = [own for name in METHODS if name != JOINT for own in comparisons(rows, JOINT, name, REPAIRED)]
        before = [own for own in before if (own.place, own.second) in known]
        sentences.append(f"All methods against joint widths: {_levelled(before, every)}")
    return "\n\n".join(sentences)


def _clause(first: str, second: str, found: Sequence[Comparison], stage: str = REPAIRED) -> str:
    number = counts(found)
    return (
        f"{first} against {second}, {stage}: closer to the dense network in {number[BETTER]} of {len(found)} "
        f"places, farther in {number[WORSE]}, alike in {number[ALIKE]} (KL {mean_ratio(found):.2f} times as large)"
    )


def _of(found: Sequence[Comparison], verdict: str) -> str:
    return f"{counts(found)[verdict]} of {len(found)}"


def _places(found: Sequence[Comparison]) -> str:
    """Networks where windows win and lose."""
    parts = []
    for verdict, words in ((BETTER, "they win on"), (WORSE, "they lose on"), (ALIKE, "they cannot be told apart on")):
        numbers: dict[str, int] = defaultdict(int)
        for own in found:
            numbers[own.place[0]] += own.verdict == verdict
        named = ", ".join(f"{name} ({number})" for name, number in numbers.items() if number)
        if named:
            parts.append(f"{words} {named}")
    return ", ".join(parts)


def _levelled(before: Sequence[Comparison], after: Sequence[Comparison]) -> str:
    """Whether fine-tuning levels differences."""
    one, other = (sum(own.verdict != ALIKE for own in found) / max(1, len(found)) for found in (before, after))
    shares = f"{100 * one:.0f} % of the places can be told apart before fine-tuning, and {100 * other:.0f} % after it"
    if not one:
        return f"{shares}: there was nothing to level."
    return f"{shares}: fine-tuning {'levels' if other <= LEVELLED * one else 'does not level'} it."


def _predicted(rows: Sequence[Row]) -> str:
    timed = [row for row in rows if row["budget"] == TIME]
    lines = []
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in timed:
        groups[row["method"], row["backend"], str(row["batch"])].append(row)
    for key, own in [(("all", "all", "all"), timed), *groups.items()]:
        found = predictions(own)
        if found is not None:
            lines.append(
                dict(zip(("method", "backend", "batch"), key, strict=True))
                | {"cells": found.number, "mean error": f"{100 * found.error:.1f} %"}
                | {"Spearman": "" if np.isnan(found.spearman) else f"{found.spearman:.2f}"}
            )
    return markdown_table(lines) if lines else "No speedup was predicted."


def _table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """A row per budget, backend, batch, target and method: means over the seeds."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == OK:
            groups[tuple(str(row[name]) for name in GROUP)].append(row)
    trained = rows[0]["network"] not in IMAGENET_NETWORKS
    order = list(METHODS)
    lines = []
    for key, own in sorted(groups.items(), key=lambda item: (*item[0][:-1], order.index(item[0][-1]))):
        line = {
            **dict(zip(GROUP, key, strict=True)),
            "reached": f"{sum(row['reached'] for row in own)}/{len(own)}",
            "predicted": _mean(own, "predicted", 2),
            "measured": f"{_mean(own, 'measured', 2)} [{_mean(own, 'measured_low', 2)}, "
            f"{_mean(own, 'measured_high', 2)}]",
            "MACs": _mean(own, "macs_ratio", 2),
            "KL before": _mean(own, "kl_before", 3),
            "KL, statistics only": _mean(own, "batch_norm_kl", 3),
            "KL": _mean(own, "kl", 3),
            "agreement": _mean(own, "agreement", 3),
        }
        if trained:
            line |= {
                "accuracy": f"{_mean(own, 'accuracy', 3)} of {_mean(own, 'dense_accuracy', 3)}",
                "tuned KL": _mean(own, "tuned_kl", 3),
                "tuned accuracy": _mean(own, "tuned_accuracy", 3),
            }
        else:
            line["KL, own photos"] = _mean(own, "alike_kl", 3)
        line |= {"loss": _mean(own, "loss", 4), "bound": _mean(own, "bound", 4), "gap": _mean(own, "gap", 4)}
        lines.append({**line, "seconds": _mean(own, "seconds", 0)})
    return lines


def _mean(rows: Sequence[Row], name: str, digits: int) -> str:
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    return f"{np.mean(values):.{digits}f}" if values else ""


def _reason(row: Row) -> str:
    kind = "failed" if row["status"] == FAILED else "refused"
    where = f"{row['network']}, {row['budget']} {row['target']}x, {row['backend']}, batch {row['batch']}"
    return f"{row['method']} ({where}) {kind}: {row['reason']}"
