"""Cards of networks, masks, exports and measurements for notebooks.

The functions take the objects without their types: the modules of these classes import this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from problems.showing.html import Html, card, facts, note, table
from problems.showing.pictures import BEFORE, CHOSEN, EMPTY, QUIET, Bar, bars, legend
from problems.showing.reprs import html_of
from solvers.showing.cards import sparsities

_PINNED = "#b0705a"
_FIXED_BARS = {"unpruned": BEFORE, "dense": BEFORE, "floor": EMPTY}


def graph_card(graph: Any) -> str:
    """A trace: its blocks, the largest first, and what it could not use."""
    rows = [
        Bar(own.name, own.size, f"{own.size:,}", _PINNED if own.pinned else CHOSEN if own.removable else QUIET)
        for own in sorted(graph.blocks, key=lambda own: -own.size)
    ]
    held: dict[str, int] = {}
    for block, reasons in zip(graph.blocks, graph.reasons, strict=True):
        if reasons:
            held[reasons[0]] = held.get(reasons[0], 0) + block.size
    why = [note(f"Keep their places: {', '.join(f'{own:,} by {name}' for name, own in held.items())}.")] if held else []
    meanings = [("free", CHOSEN), ("may only move", QUIET), ("keeps its place", _PINNED)]
    skipped = [note(str(own)) for own in graph.skipped[:10]]
    return html_of(graph, note("Blocks and their channels:"), bars(rows), legend(meanings), *why, *skipped)


def masks_card(holder: Any) -> str:
    """A masked network: how many of its channels every consumer, and every producer, keeps."""
    return html_of(
        holder, *mask_bars(holder.masks, "inputs kept"), *mask_bars(holder.output_masks, "outputs kept"),
        *(note(own) for own in holder.messages[:10]),
    )  # fmt: skip


def pruning_card(found: Any) -> str:
    """Masks of another library: whole input and output channels that stay."""
    return html_of(found, *mask_bars(found.columns, "inputs kept"), *mask_bars(found.of_outputs(), "outputs kept"))


def mask_bars(masks: Mapping[str, np.ndarray], title: str) -> list[Html]:
    """A bar per mask: the channels that stay, in all of them. Empty without masks."""
    rows = [
        Bar(name.removesuffix(".weight"), int(mask.sum()), f"{int(mask.sum()):,} of {mask.size:,}", CHOSEN, mask.size)
        for name, mask in masks.items()
    ]
    return [note(f"{title.capitalize()}:"), bars(rows)] if rows else []


def plan_card(plan: Any) -> str:
    """A plan: its ways of reading, and the stored channels of each block."""
    modes = sorted({own.mode for own in plan.readings.values()})
    reads = [
        Bar(mode, plan.count(mode), f"{plan.count(mode):,} reads", QUIET if mode == "view" else CHOSEN)
        for mode in modes
    ]
    rows = [
        (name, own.mode, own.width, own.kernel or "plain", "yes" if own.late else "no")
        for name, own in plan.readings.items()
        if own.mode != "view"
    ]
    below = (
        [note("What is not read in place:"), table(("access", "way", "width", "kernel", "late"), rows)] if rows else []
    )
    return html_of(plan, facts({"model": plan.model or ""}), bars(reads), *below)


def exported_card(exported: Any) -> str:
    """An export: its parameters before and after, its ways of reading and writing."""
    before, after = (sum(p.numel() for p in own.parameters()) for own in (exported.graph.module, exported.module))
    sizes = [Bar("parameters before", before, f"{before:,}", BEFORE), Bar("after", after, f"{after:,}", CHOSEN)]
    verification = "not verified" if exported.verification is None else str(exported.verification)
    known = {"reads": str(exported.plan), "verification": verification, "model": exported.plan.model or ""}
    writes = [note(str(own)) for own in exported.writes[:10]]
    return card(
        f"Exported: {after:,} of {before:,} parameters",
        facts(known),
        bars(sizes),
        *lines(exported.training_notes),
        *writes,
    )


def latencies(profiles: Mapping[str, Any], chosen: str | None = None) -> Html:
    """Measured latencies as bars, with the interquartile range behind them."""
    rows = []
    for name, own in profiles.items():
        text = f"{1e3 * own.median:.3g} ms, IQR {1e3 * own.iqr:.2g}"
        rows.append(Bar(name, own.median, text, _FIXED_BARS.get(name, CHOSEN if name == chosen else QUIET)))
    return bars(rows)


def comparison_card(comparison: Any) -> str:
    """A comparison: each solver's totals, and the measured latencies of all variants."""
    rows, totals = [], []
    for name in comparison.solvers:
        results = [own[name] for own in comparison.solutions.values()]
        value, seconds = float(comparison.total(name)), sum(own.runtime for own in results)
        proven = sum(own.status.name == "OPTIMAL" for own in results)
        export = comparison.exports[name].verification
        rows.append((name, f"{value:,.6g}", f"{proven} of {len(results)}", f"{seconds:.2f}", _verified(export)))
        last = name == comparison.solvers[-1]
        totals.append(Bar(name, value, f"{value:,.6g}", CHOSEN if last else QUIET))
    heads = ("solver", comparison.objective, "segments proven optimal", "seconds", "export")
    drawn = latencies(comparison.latencies, comparison.solvers[-1]) if comparison.latencies else bars(totals)
    title = (
        "Measured latency:" if comparison.latencies else f"{comparison.objective.capitalize()}, summed over segments:"
    )
    answer = [note(str(comparison.answer))] if comparison.answer else []
    return card(comparison._words(), table(heads, rows), note(title), drawn, *answer)


def order_check_card(check: Any) -> str:
    """Orders, predicted and measured."""
    rows = [
        (name, f"{1e3 * p:.3f}", f"{1e3 * m:.3f}", f"{100 * (p / m - 1):+.1f} %")
        for name, p, m in zip(check.names, check.predicted, check.measured, strict=True)
    ]
    drawn = [
        Bar(name, own, f"{1e3 * own:.3g} ms", QUIET) for name, own in zip(check.names, check.measured, strict=True)
    ]
    drawn.append(Bar("floor", check.floor, f"{1e3 * check.floor:.3g} ms", EMPTY))
    return html_of(
        check, table(("order", "predicted ms", "measured ms", "error"), rows), bars(drawn), note(str(check.agreement))
    )


def speedup_card(found: Any) -> str:
    """A network that was made faster: latency before and after, what changed, widths."""
    times = [("before", found.dense_seconds, BEFORE), ("after", found.seconds, CHOSEN)]
    sizes = {block.name: block.size for block in found.exported.graph.blocks}
    widths = [
        Bar(name, own, f"{own:,} of {sizes[name]:,}", CHOSEN, sizes[name])
        for name, own in found.chosen.widths.items()
        if name in sizes
    ]
    return card(
        found._words(),
        bars([Bar(name, own, f"{1e3 * own:.3g} ms", colour) for name, own, colour in times]),
        table(("", "before", "after"), found.table()),
        note(f"Measured: {found.how}. Widths chosen by {found.method}; {found.chosen.bound_text}."),
        *([note("Blocks that are narrower:"), bars(widths)] if widths else []),
        *(note(own) for own in found.notes[:10]),
    )


def speedup_allocation_card(found: Any) -> str:
    """A sparsity per layer for a speedup."""
    times = [("before", found.base, BEFORE), ("predicted", found.predicted, CHOSEN), ("asked for", found.target, EMPTY)]
    return html_of(
        found,
        bars([Bar(name, own, f"{1e3 * own:.3g} ms", colour) for name, own, colour in times]),
        note("What stays of each layer:"),
        sparsities(found.profile),
        *lines(str(found).splitlines()[1:]),
    )


def lines(texts: Sequence[str]) -> list[Html]:
    """Remarks below each other; at most twenty."""
    return [note(own) for own in texts[:20]]


def _verified(verification: Any) -> str:
    if verification is None:
        return "not verified"
    return "verified" if verification.passed else "NOT verified"
