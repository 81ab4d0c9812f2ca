"""The road for costs that depend on spans: bounds from levels and conflicts first, exact paths where they can end.

Orders come from a beam and a local search, then from large neighbourhoods. Where few classes are told apart the sets of
placed classes close everything; where a block has many rows its levels bound it, and get most of the time.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from solvers.common.block_rows import span_blocks
from solvers.common.incumbent import Incumbent
from solvers.common.rows import Row, span_rows
from solvers.common.task import Task
from solvers.methods.beam import Beam, pays_spans
from solvers.methods.local_search import LocalSearch
from solvers.methods.neighbourhoods import LargeNeighbourhoods
from solvers.methods.placed_sets import PlacedSets
from solvers.programs.groups import bound_by_groups
from solvers.roads.copies import offer_all_views
from solvers.roads.handover import hand_over
from solvers.spans.branch_and_bound import SpanSearch
from solvers.spans.exact.placed_sets_with_copies import LinearRest
from solvers.spans.linear_costs import LinearSpans
from solvers.views.view_bound import bound_by_conflicts

_FEW_ROWS = 12
"""Rows of a block up to which exact methods are asked at once."""
_BEAM_ROWS = 14
"""Rows of a block beyond which orders come from a beam first."""
_PATH_ROWS = 15
"""Rows of a block up to which a path over all pairs of sets is thought of."""
_FEW_CLASSES = 16
_MOST_CLASSES = 20
_MOST_CLASSES_COPIED = 18
_SECONDS_FOR_MOST = 15.0
_COPIED_SHARE = 0.3
_FIRST_SHARE = 0.15
_FIRST_SHARE_APART = 0.3
_BEAM_SHARE = 0.5
_LEVEL_SHARE = 0.95
_LEVEL_SHARE_APART = 0.5
_QUICK_SHARE = 0.1
_CONFLICT_SHARE = 0.1
_GROUP_SHARE = 0.1
_GROUP_WORK = 10_000_000
_SEARCH_SHARE = 0.75


def solve_spans(task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Improve an incumbent of an objective whose costs depend on spans; returns figures for reports."""
    offer_all_views(task, incumbent)
    stats: dict[str, Any] = {}
    if incumbent.closed or task.expired:
        return stats
    if _few_classes(task):
        share = 1.0 if task.objective.gamma is None else _COPIED_SHARE
        stats |= hand_over(PlacedSets(max_classes=_MOST_CLASSES), task.within(share), incumbent)
    rows = _most_rows(span_rows(task.problem).rows)
    if rows > _FEW_ROWS:
        stats |= _solve_large(task, incumbent, rows)
    else:
        stats |= _search(task.within(_SEARCH_SHARE), incumbent)
        stats |= _weigh_conflicts(task, incumbent)
    if not incumbent.closed and not task.expired:
        solver = LargeNeighbourhoods(first=LocalSearch(patience=300))
        stats |= hand_over(solver, dataclasses.replace(task, seed=task.seed + 1), incumbent)
    return stats


def _solve_large(task: Task, incumbent: Incumbent, rows: int) -> dict[str, Any]:
    """Some block has many rows: a path if it can end, a good order, and what must be paid at least."""
    stats: dict[str, Any] = {}
    apart = _rows_apart(task)
    sizes = np.array([access.channel_size for access in task.problem.accesses], dtype=np.int64)
    exact = rows <= _PATH_ROWS or not LinearSpans(task.problem, deadline=task.deadline).unsolvable(sizes)
    if exact:
        stats |= _search(task.within(_QUICK_SHARE), incumbent, levels=True)
    first = task.within(_FIRST_SHARE_APART if apart else _FIRST_SHARE)
    if pays_spans(task.objective) and rows > _BEAM_ROWS and not incumbent.closed:
        stats |= hand_over(Beam(), first.within(_BEAM_SHARE), incumbent)
    if not incumbent.closed and not task.expired:
        stats |= hand_over(LocalSearch(), first, incumbent)
    if exact:
        stats |= _search(task.within(_SEARCH_SHARE), incumbent)
    stats |= _weigh_conflicts(task, incumbent)
    stats |= _search(task.within(_LEVEL_SHARE_APART if apart else _LEVEL_SHARE), incumbent, levels=True)
    return stats


def _weigh_conflicts(task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Bounds for rows of which few meet: accesses that cannot all be views, and exact costs of small groups."""
    stats: dict[str, Any] = {}
    if not incumbent.closed and not task.expired:
        stats |= bound_by_conflicts(task.within(_CONFLICT_SHARE), incumbent)
    if _rows_apart(task) and not task.objective.uses_tables and not incumbent.closed and not task.expired:
        deadline = task.within(_GROUP_SHARE).deadline
        stats["groups"] = len(bound_by_groups(task, incumbent, work=_GROUP_WORK, deadline=deadline))
    return stats


def _rows_apart(task: Task) -> bool:
    """Whether in some block two rows share no class, so that levels bound groups of rows only."""
    return any(not block.rows.meet for block in span_blocks(task.problem, span_rows(task.problem)))


def _search(task: Task, incumbent: Incumbent, *, levels: bool = False) -> dict[str, Any]:
    """Branch and bound over ranges of spans."""
    if incumbent.closed or task.expired:
        return {}
    search = SpanSearch(task, incumbent, levels=levels)
    search.run()
    return {"nodes": search.num_nodes}


def _few_classes(task: Task) -> bool:
    """Whether the sets of placed classes are few enough; fewer where they are tried for sets of copied accesses."""
    if task.objective.uses_tables:
        return False
    sizes = LinearRest(task.problem, task.objective.alpha).num_classes
    most = _FEW_CLASSES
    if task.remaining >= _SECONDS_FOR_MOST:
        most = _MOST_CLASSES if task.objective.gamma is None else _MOST_CLASSES_COPIED
    return max(sizes, default=0) <= most


def _most_rows(rows: Sequence[Row]) -> int:
    """The largest number of rows of one block."""
    return max(Counter(row.block for row in rows).values(), default=0)
