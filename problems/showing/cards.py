"""Cards of problems, orders and their values for notebooks.

The functions take the objects as they are, without their types: the modules of these classes import this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from problems.showing.html import Html, facts, note, table
from problems.showing.pictures import BEFORE, CHOSEN, QUIET, Bar, Strip, bars, legend, strips
from problems.showing.reprs import html_of

_VIEW, _OVER_READ, _KEPT, _PIECES, _COPY = range(5)
_PALETTE = (QUIET, "#e3960b", "#dcc08a", "#8a6bd0", "#d43a5a")
_MODES = {"view": _VIEW, "over-read": _KEPT, "pieces": _PIECES, "copy": _COPY}
_MEANING = {
    _VIEW: "kept, read in place",
    _KEPT: "kept, within an over-read",
    _OVER_READ: "not kept, but read",
    _PIECES: "kept, joined from pieces",
    _COPY: "kept, copied first",
}


def problem_card(problem: Any) -> str:
    """A problem: which of the stored channels each access keeps, in their original order."""
    rows = [
        Strip(
            access.name,
            own,
            f"keeps {access.num_kept:,}" + (f", counts {access.weight} times" if access.weight > 1 else ""),
        )
        for access, own in zip(problem.accesses, _kept(problem))
    ]
    blocks = ", ".join(f"{block.name} ({len(own):,})" for block, own in zip(problem.blocks[:6], problem.stored))
    more = f" and {len(problem.blocks) - 6} more" if len(problem.blocks) > 6 else ""
    rules = "; ".join(map(str, problem.constraints[:6])) + ("; ..." if len(problem.constraints) > 6 else "")
    return html_of(
        problem,
        note(f"Stored channels, side by side in their original order: {blocks}{more}."),
        *([note(f"An order must have {rules}.")] if rules else []),
        strips(rows, (CHOSEN,)),
        legend([("kept", CHOSEN)]),
    )


def evaluation_card(evaluation: Any) -> str:
    """A value: the range of stored channels that each access needs, and how it reads it."""
    return html_of(evaluation, *evaluation_parts(evaluation))


def evaluation_parts(evaluation: Any, problem: Any = None, order: Any = None) -> tuple[Html, ...]:
    """The picture of an order with its legend.

    Parameters
    ----------
    evaluation
        A `problems.Evaluation`.
    problem, order
        What was evaluated. If both are known, every stored channel is drawn, otherwise the range of each access.
    """
    whole = problem is not None and order is not None
    cells = _states(problem, order, evaluation) if whole else _ranges(evaluation)
    rows = [Strip(own.name, row, _words(own)) for own, row in zip(evaluation.accesses, cells)]
    there = [state for state in _MEANING if any((row == state).any() for row in cells)]
    rough = [] if whole else [note("Ranges in the input of each access. Within a range, shares are drawn, not places.")]
    return strips(rows, _PALETTE), *rough, legend([(_MEANING[state], _PALETTE[state]) for state in there])


def proof_card(proof: Any) -> str:
    """A proof: its claims in words."""
    rows = [(k, claim.words(proof.ticks)) for k, claim in enumerate(proof.claims, 1)]
    return html_of(proof, table(("", "claim"), rows))


def timing_table_card(timings: Any) -> str:
    """A timing table: the dense time of each layer."""
    known = [(own.name, own.dense_seconds) for own in timings.layers if own.dense_seconds is not None]
    return html_of(timings, bars([Bar(name, own, f"{1e3 * own:.3g} ms", BEFORE) for name, own in known]))


def width_problem_card(problem: Any) -> str:
    """A width problem: the widths that each block may have."""
    rows = [(block.name, block.full, block.widths[0], len(block.widths)) for block in problem.blocks]
    wanted = {"budget": f"{problem.budget:,} ns", "before": f"{problem.base:,} ns"}
    return html_of(problem, facts(wanted), table(("block", "channels", "least", "widths"), rows))


def _words(access: Any) -> str:
    if access.mode == "copy":
        return f"{access.kept:,} copied"
    if access.mode == "pieces":
        return f"{access.runs:,} pieces"
    return f"{access.span - access.kept:,} over-read" if access.mode == "over-read" else "view"


def _kept(problem: Any) -> np.ndarray:
    """0 where an access keeps a stored channel, -1 elsewhere; int, shape (accesses, stored channels)."""
    ends = np.cumsum([len(own) for own in problem.stored])
    cells = np.full((len(problem.accesses), int(ends[-1])), -1)
    for reader, reads in zip(problem.readers, problem.reads):
        stored = problem.stored[reader.block]
        place = ends[reader.block] - len(stored) + np.flatnonzero(reads[stored])
        cells[reader.access, place] = 0
    return cells


def _states(problem: Any, order: Any, evaluation: Any) -> np.ndarray:
    """The state of every stored channel for every access; int, shape (accesses, stored channels)."""
    problem = problem.arranged(order.arrangement) if order.arrangement else problem
    ends = np.cumsum([len(own) for own in order.channels])
    cells = np.full((len(problem.accesses), int(ends[-1])), -1)
    read = [0] * len(problem.accesses)  # positions of the input before this reader's
    for reader, reads in zip(problem.readers, problem.reads):
        own, block = evaluation.accesses[reader.access], order[reader.block]
        kept = reads[block]
        place = read[reader.access] + np.arange(len(block))
        within = (place >= own.start) & (place < own.start + own.span) & (own.mode == "over-read")
        found = np.where(kept, _MODES[own.mode], np.where(within, _OVER_READ, -1))
        row = cells[reader.access, ends[reader.block] - len(block) : ends[reader.block]]
        np.copyto(row, found, where=found >= 0)
        read[reader.access] += len(block)
    return cells


def _ranges(evaluation: Any) -> list[np.ndarray]:
    """The range of each access, without what is in it: kept channels are drawn at its beginning."""
    longest = max((own.start + own.span for own in evaluation.accesses), default=0)
    rows = []
    for own in evaluation.accesses:
        row = np.full(longest, -1)
        if own.mode == "over-read":
            row[own.start : own.start + own.span] = _OVER_READ
            row[own.start : own.start + own.kept] = _KEPT
        else:
            row[own.start : own.start + own.span] = _MODES[own.mode]
        rows.append(row)
    return rows
