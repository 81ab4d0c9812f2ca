"""The page of results: what is compared, the summary, and mean and spread of every cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.cells import DENSE, GAP_SETTINGS, GROWING, LEARNING, SCOPES, TUNING
from benchmarks.accuracy.equal_latency import LEAST, STAGES, Difference, counted, differences
from benchmarks.accuracy.latencies import EXPORTS
from benchmarks.results import markdown_table, provenance
from upscale_opt.arguments.modes import INPUT

Row = dict[str, Any]
GROUP = ("network", "method", "mode", "amount")
_MEANS = {
    "pruned": ("pruned", 1),
    "re-estimated": ("reestimated", 1),
    "tuned": ("tuned", 1),
    **{f"latency, {name}": (name, 2) for name in EXPORTS},
    **{f"copies, {name}": (f"{name}_copies", 0) for name in EXPORTS},
}
"""Per title, column and digits."""
CANNOT = (
    "What this cannot show: digits are 1,797 images of 8 x 8, and one image of the 500 is 0.2 points. It ranks no "
    "method for ImageNet or CIFAR, and much of the latency of networks this small is that of starting operators. What "
    "carries over is the way to ask: the same budget of time, measured on exports that compute what the masked network "
    "computes."
)


def page(rows: Sequence[Row], command: str, picture: str) -> str:
    """The Markdown page."""
    found = differences(rows)
    refused = [row for row in rows if row["status"] != "ok"]
    parts = [
        _how(),
        provenance(command),
        "## At equal latency, does unconstrained pruning with the exact export beat constrained pruning?",
        answer(found),
        CANNOT,
        markdown_table(counted(found)) if found else "No latencies were measured.",
        _by_amount(found),
        "*better*, *alike*, *worse*: importances and amounts whose mean difference over the seeds is beyond "
        f"{LEAST} points and two standard errors, or not; *lowest*, *highest*: of the mean differences, in points.",
        f"![Accuracy against latency]({picture})",
        "## Dense networks",
        markdown_table(_dense(rows)),
        "## Every cell: mean ± standard deviation over the seeds",
        markdown_table(means) if (means := _means(rows)) else "None.",
    ]
    if refused:
        reasons = sorted({(row["method"], row["network"], row["mode"], row["reason"]) for row in refused})
        parts += ["## Refused", "\n".join(f"- {' '.join(own[:3])}: {own[3]}" for own in reasons)]
    return "\n\n".join(filter(None, parts)) + "\n"


def answer(found: Sequence[Difference]) -> str:
    """A plain sentence per stage, on masks of inputs and exact exports."""
    sentences = []
    for stage, words in STAGES.items():
        own = [one for one in found if one.stage == stage and one.mode == INPUT and one.export == "exact"]
        if not own:
            continue
        networks = list(dict.fromkeys(one.network for one in own))
        counts = {verdict: sum(one.verdict == verdict for one in own) for verdict in ("better", "alike", "worse")}
        medians = ", ".join(f"{name} {_median(own, name):+.1f}" for name in networks)
        sentences.append(
            f"{words[0].upper()}{words[1:]}, unconstrained pruning of inputs with the exact export is better than "
            f"constrained pruning as fast in {counts['better']} of {len(own)} comparisons, worse in {counts['worse']}, "
            f"and cannot be told from it in {counts['alike']} (median difference in points: {medians})."
        )
    return " ".join(sentences)


def _by_amount(found: Sequence[Difference]) -> str:
    """Where unconstrained pruning is better and where not: masks of inputs, exact exports."""
    own = [one for one in found if one.mode == INPUT and one.export == "exact"]
    if not own:
        return ""
    words = "Masks of inputs with the exact export, by amount, all importances together:"
    return f"{words}\n\n{markdown_table(counted(own, ('network', 'stage', 'amount')))}"


def _median(found: Sequence[Difference], network: str) -> float:
    return float(np.median([one.mean for one in found if one.network == network]))


def _how() -> str:
    scopes = ", ".join(f"{name} {scope}" for name, scope in SCOPES.items())
    grown = GAP_SETTINGS.partitions * GAP_SETTINGS.rounds * GROWING.epochs
    return (
        "Accuracies in per cent of 500 digits, of exports that were verified against the masked network. *pruned*: as "
        "they are; *re-estimated*: with BatchNorm statistics of the pruned network; *tuned*: fine-tuned. Thresholds "
        f"are per layer ({scopes}). Equal epochs for all: {DENSE.epochs} of the dense network and {TUNING.epochs} of "
        f"fine-tuning; BiP {LEARNING.epochs} after the dense ones, of which half cost double; GaP {grown} from scratch "
        f"and {TUNING.epochs} of fine-tuning. Latencies are shares of the dense network's, measured in turn on one "
        "thread: *greedy*, UPSCALE's order with views and copies; *exact*, an order of fewest copies. The CSV says at "
        "which commits a row was trained and measured."
    )


def _dense(rows: Sequence[Row]) -> list[Row]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        found[row["network"]][row["seed"]] = float(row["dense"])
    return [{"network": name, "accuracy": _spread(list(own.values()), 1)} for name, own in found.items()]


def _means(rows: Sequence[Row]) -> list[Row]:
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok":
            groups[tuple(str(row[name]) for name in GROUP)].append(row)
    return [
        dict(zip(GROUP, key, strict=True))
        | {"seeds": len(group), "kept": _spread([int(row["kept"]) / int(row["of"]) for row in group], 2)}
        | {title: _column(group, name, digits) for title, (name, digits) in _MEANS.items()}
        for key, group in groups.items()
    ]


def _column(group: Sequence[Row], name: str, digits: int) -> str:
    return _spread([float(row[name]) for row in group if row.get(name)], digits)


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"
