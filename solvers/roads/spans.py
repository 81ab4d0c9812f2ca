"""The road for costs that depend on spans: bounds from levels and conflicts first, then exact paths if they can end.

Orders come from a beam and a local search, then from large neighbourhoods. If a block has few distinct classes, the
sets of placed classes solve it. If a block has many rows, levels bound it, and they get most of the time; where many of
these rows do not meet, obstructions do.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from solvers.common.block_rows import span_blocks
from solvers.common.incumbent import Incumbent
from solvers.common.proofs import claim
from solvers.common.rows import Row, span_rows
from solvers.common.task import Task
from solvers.methods.beam import Beam, pays_spans
from solvers.methods.local_search import LocalSearch
from solvers.methods.neighbourhoods import LargeNeighbourhoods
from solvers.roads.copies import conflicts_step, views_step
from solvers.roads.steps import Stage, Step, asking, hand_over
from solvers.spans.bounds.obstructions import bound_by_obstructions
from solvers.spans.branch_and_bound import SpanSearch
from solvers.spans.group_packing import bound_by_groups
from solvers.spans.linear_costs import LinearSpans

_FEW_ROWS = 12  # rows: of a block, up to which exact methods are used at once; by hand
_BEAM_ROWS = 14  # rows: of a block, beyond which orders come from a beam first; by hand
_PATH_ROWS = 15  # rows: of a block, up to which a path over all pairs of sets is considered; by hand
_FEW_CLASSES = 16  # classes: up to which placed sets are used; 16 took 0.04 s (2026-11-28)
_MOST_CLASSES = 20  # classes: up to which they are used if there is time: seconds and 1 GB
_SECONDS_FOR_MOST = 15.0  # seconds: that count as enough time; by hand
_FIRST_SHARE = 0.15  # share: of the time, for a good order, if levels bound well; by hand
_FIRST_SHARE_APART = 0.3  # share: of the time, for a good order, if rows do not meet and levels are weak; by hand
_BEAM_SHARE = 0.5  # share: of that, for the beam; the local search gets the other half; by hand
_LEVEL_SHARE = 0.95  # share: of the remaining time, for levels; by hand
_LEVEL_SHARE_APART = 0.5  # share: of the remaining time, for levels of groups of rows; by hand
_QUICK_SHARE = 0.1  # share: of the time, for a first bound from levels, before a path; by hand
_CONFLICT_SHARE = 0.1  # share: of the time, for the covering problem; by hand
_GROUP_SHARE = 0.1  # share: of the remaining time, for groups of accesses; by hand
_OBSTRUCTION_SHARE = 0.3  # share: of the remaining time, for obstructions; by hand
_OBSTRUCTION_SHARE_APART = 0.7  # share: the same, if many rows do not meet; by hand
_MANY_APART = 0.1  # share: of all pairs of rows that do not meet, from which they are many; by hand
_LAST_PATIENCE = 300  # rounds: without an improvement, of the local search before the last neighbourhoods; by hand
_SEARCH_SHARE = 0.75  # share: of the time, for exact search; the rest is for orders; by hand


def spans_road(task: Task) -> Iterator[Step | Stage]:
    """The steps for an objective whose costs depend on spans."""
    yield views_step()
    yield _exact_blocks(task)
    rows = _most_rows(span_rows(task.problem).rows)
    apart = _rows_apart(task)
    if rows > _FEW_ROWS:
        yield from _steps_for_many_rows(task, rows, apart)
    else:
        yield _search(_SEARCH_SHARE, f"{rows} rows in the largest block, at most {_FEW_ROWS}: exact search can end")
        yield conflicts_step(_CONFLICT_SHARE)
        yield _obstructions(task)
    yield Step(LargeNeighbourhoods.name, "better orders, with the time that is left", _neighbourhoods)


def _steps_for_many_rows(task: Task, rows: int, apart: bool) -> Iterator[Step | Stage]:
    """The steps if some block has many rows: a path if it can end, a good order, and a lower bound."""
    sizes = np.array([access.channel_size for access in task.problem.accesses], dtype=np.int64)
    exact = rows <= _PATH_ROWS or not LinearSpans(task.problem, deadline=task.deadline).unsolvable(sizes)
    many = f"{rows} rows in the largest block, more than {_FEW_ROWS}"
    ends = f"a path over pairs of sets {'can' if exact else 'cannot'} end in time (up to {_PATH_ROWS} rows it is tried)"
    yield _search(_QUICK_SHARE, f"{many}; {ends}; levels first", taken=exact, levels=True)
    beams = pays_spans(task.objective) and rows > _BEAM_ROWS

    def orders(_: Task) -> Iterator[Step]:
        why = f"asked beyond {_BEAM_ROWS} rows, where costs are in proportion to spans"
        yield Step(Beam.name, why, asking(Beam()), share=_BEAM_SHARE, taken=beams)
        yield Step(LocalSearch.name, "from the best order so far", asking(LocalSearch()))

    why = "two rows share no class: orders get more time, levels less" if apart else "all rows meet: levels get most"
    yield Stage("a good order", why, orders, share=_FIRST_SHARE_APART if apart else _FIRST_SHARE)
    yield _search(_SEARCH_SHARE, ends, taken=exact)
    why = "groups of some of the rows, each solved without the others, add up"
    yield Step("groups", why, bound_by_groups, share=_GROUP_SHARE)
    yield conflicts_step(_CONFLICT_SHARE)
    yield _obstructions(task)
    yield _search(_LEVEL_SHARE_APART if apart else _LEVEL_SHARE, f"{many}: levels bound them", levels=True)


def _exact_blocks(task: Task) -> Step:
    """Solve every block by itself, if costs are in proportion to spans and there are few distinct classes."""
    prices = np.array([access.channel_size for access in task.problem.accesses], dtype=np.int64)
    if not pays_spans(task.objective):
        return Step("exact-blocks", "costs are not in proportion to spans", _solve_blocks, taken=False)
    most = _MOST_CLASSES if task.remaining >= _SECONDS_FOR_MOST else _FEW_CLASSES
    spans = LinearSpans(task.problem, deadline=task.deadline)
    largest = max(spans.num_classes, default=0)
    why = f"{largest} distinct classes in the largest block; used up to {most}: sets of placed classes"
    return Step("exact-blocks", why, _solve_blocks, taken=largest <= most and not spans.unsolvable(prices))


def _solve_blocks(task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """The least sum of excesses, which is the optimum where costs are in proportion to spans."""
    problem = task.problem
    prices = np.array([access.channel_size for access in problem.accesses], dtype=np.int64)
    found = LinearSpans(problem, deadline=task.deadline).least(prices, incumbent.order)
    if found is not None:
        incumbent.offer(found.order)
        cost = found.cost * (task.objective.alpha or 0)
        text = "the least sum of spans, every block by itself"
        incumbent.raise_bound(cost, lambda bound: [claim(problem, "search", bound, text)], method="exact blocks")
    return {}


def _obstructions(task: Task) -> Step:
    """The step for the bound from over-read channels that no order avoids."""
    apart, pairs = _pairs_apart(task)
    many = apart > 0 and apart >= _MANY_APART * pairs
    why = f"{apart} of {pairs} pairs of rows share no class; left out if it cannot reach the bound that is known"
    share = _OBSTRUCTION_SHARE_APART if many else _OBSTRUCTION_SHARE
    return Step("obstructions", why, bound_by_obstructions, share=share)


def _search(share: float, why: str, *, taken: bool = True, levels: bool = False) -> Step:
    """Branch and bound over ranges of spans."""

    def run(task: Task, incumbent: Incumbent) -> dict[str, Any]:
        search = SpanSearch(task, incumbent, levels=levels)
        search.run()
        return {"nodes": search.num_nodes}

    return Step("levels" if levels else "span-search", why, run, share=share, taken=taken)


def _neighbourhoods(task: Task, incumbent: Incumbent) -> dict[str, Any]:
    solver = LargeNeighbourhoods(first=LocalSearch(patience=_LAST_PATIENCE))
    return hand_over(solver, dataclasses.replace(task, seed=task.seed + 1), incumbent)


def _rows_apart(task: Task) -> bool:
    """Whether two rows of some block share no class. Then levels bound only groups of rows."""
    return any(not block.rows.meet for block in span_blocks(task.problem, span_rows(task.problem)))


def _pairs_apart(task: Task) -> tuple[int, int]:
    """How many pairs of rows of a block share no class, and how many pairs there are."""
    blocks = [block.rows for block in span_blocks(task.problem, span_rows(task.problem))]
    apart = sum(int(np.count_nonzero(np.triu(~rows.share, 1))) for rows in blocks)
    return apart, sum(math.comb(rows.num_rows, 2) for rows in blocks)


def _most_rows(rows: Sequence[Row]) -> int:
    """The largest number of rows of one block."""
    return max(Counter(row.block for row in rows).values(), default=0)
