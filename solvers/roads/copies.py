"""The road for copies: certificates that cost little, then a local search, and OR-Tools for what is still open."""

from __future__ import annotations

from typing import Any

import numpy as np

from problems import Order, Problem
from solvers.common.incumbent import Incumbent
from solvers.common.rows import class_bits, span_rows
from solvers.common.task import Solver, Task
from solvers.methods.local_search import LocalSearch
from solvers.roads.handover import hand_over
from solvers.spans.bounds.levels_of_problem import ends_of
from solvers.views.consecutive import consecutive_order
from solvers.views.view_bound import bound_by_conflicts

_CONFLICT_SHARE = 0.25
_CLIMB_SHARE = 0.3
_PATIENCE = 5
_LEAST_SECONDS = 0.3
"""About what it takes to load OR-Tools and to build a model."""


def solve_copies(task: Task, incumbent: Incumbent, cp_sat: Solver) -> dict[str, Any]:
    """Improve an incumbent of an objective that forbids over-reading; returns figures for reports.

    Parameters
    ----------
    task, incumbent
        What to minimise, and what is known.
    cp_sat
        The constraint program over views.
    """
    offer_all_views(task, incumbent)
    stats: dict[str, Any] = {}
    if not incumbent.closed and not task.expired:
        stats |= bound_by_conflicts(task.within(_CONFLICT_SHARE), incumbent)
    if not incumbent.closed and not task.expired:
        stats |= hand_over(LocalSearch(patience=_PATIENCE), task.within(_CLIMB_SHARE), incumbent)
    if not incumbent.closed and task.remaining > _LEAST_SECONDS:
        stats |= hand_over(cp_sat, task, incumbent)
    if not incumbent.closed and not task.expired:
        stats |= hand_over(LocalSearch(), task, incumbent)
    return stats


def offer_all_views(task: Task, incumbent: Incumbent) -> None:
    """Offer an order in which no access covers more than it must, if there is one."""
    if not task.expired and (views := all_views(task.problem)) is not None:
        incumbent.offer(views)


def all_views(problem: Problem) -> Order | None:
    """An order in which no access covers more than it must, if there is one: rows consecutive in every block.

    Examples
    --------
    >>> from problems.generators import planted_intervals, random_masks
    >>> all_views(planted_intervals(64, 9)) is None, all_views(random_masks(64, 9)) is None
    (False, True)
    """
    spans = span_rows(problem)
    sequence: list[np.ndarray] = []
    for b in range(len(problem.blocks)):
        own, rows = problem.classes.of_block(b), spans.of_block(b)
        if rows:
            left, right = ends_of(rows)
            found = consecutive_order(class_bits(problem, b, (row.reader for row in rows)), left, right)
            if found is None:
                return None
            own = own[found]
        sequence.append(own)
    return Order.of_classes(problem, np.concatenate(sequence).tolist())
