"""Cards of results for notebooks. The functions take objects without their types, as in `problems.showing.cards`."""

from __future__ import annotations

from typing import Any

import numpy as np

from problems import in_units
from problems.showing.cards import evaluation_parts
from problems.showing.html import Html, card, facts
from problems.showing.pictures import CHOSEN, Bar, Strip, bars, strips
from problems.showing.reprs import html_of


def result_card(result: Any) -> str:
    """A result: value, bound and time, and the picture of the order."""
    evaluation = result.evaluation
    ticks, unit = evaluation.ticks, " ns" if evaluation.objective == "latency" else ""
    known = {
        "objective": evaluation.objective,
        "value": f"{in_units(result.value, ticks)}{unit}",
        "bound": "none" if result.bound is None else f"{in_units(result.bound, ticks)}{unit}, gap {result.gap:.1%}",
        "status": str(result.status),
        "ended by": str(result.stop_reason),
        "reads": f"{evaluation.views} views, {evaluation.over_reads} over-reads, "
        + (f"{evaluation.pieces} in pieces, " if evaluation.pieces else "")
        + f"{evaluation.copies} copies of {evaluation.copied_channels:,} channels",
        "seconds": f"{result.runtime:.2f}",
        "proof": "" if result.proof is None else f"{len(result.proof.claims)} claims",
    }
    picture = evaluation_parts(evaluation, result.problem, result.order)
    return card(f"Result of {result.solver}: {result.order}", facts(known), *picture)


def allocation_card(allocation: Any) -> str:
    """An allocation: the sparsity of each layer."""
    return html_of(allocation, sparsities(allocation.profile))


def sparsities(profile: Any) -> Html:
    """A bar per layer: the share of its channels that stays."""
    return bars([Bar(name, 1 - own, f"{100 * own:.3g} % removed", CHOSEN, 1.0) for name, own in profile.items()])


def width_card(result: Any) -> str:
    """Widths: a bar per block, in all its channels."""
    full = {block.name: block.full for block in result.problem.blocks}
    drawn = [Bar(name, own, f"{own:,} of {full[name]:,}", CHOSEN, full[name]) for name, own in result.widths.items()]
    return html_of(result, bars(drawn))


def window_card(result: Any) -> str:
    """Windows: a strip per access, in all stored channels."""
    rows = []
    for access, start, stop in zip(result.problem.accesses, result.windows.starts, result.windows.stops, strict=True):
        row = np.full(len(result.order), -1)
        row[start:stop] = 0
        rows.append(Strip(access.name, row, f"{start} to {stop}"))
    return html_of(result, strips(rows, (CHOSEN,)))
