"""The road for copies: cheap certificates first, then a local search, then OR-Tools if a gap is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from problems import Order, Problem
from solvers.common.incumbent import Incumbent
from solvers.common.rows import class_bits, span_rows
from solvers.common.task import Solver, Task
from solvers.methods.local_search import LocalSearch
from solvers.roads.steps import Step, asking
from solvers.spans.bounds.levels_of_problem import ends_of
from solvers.views.consecutive import consecutive_order
from solvers.views.view_bound import bound_by_conflicts

_CONFLICT_SHARE = 0.25  # share: of the time, for the covering problem; by hand
_CLIMB_SHARE = 0.3  # share: of the time, for the first local search; by hand
_PATIENCE = 5  # rounds: of the first local search without an improvement; by hand
_LEAST_SECONDS = 0.3  # seconds: to load OR-Tools and build a model; loading took 0.24 on 2026-11-28


def copies_road(task: Task, cp_sat: Solver) -> Iterator[Step]:
    """The steps for an objective that forbids over-reading.

    Parameters
    ----------
    task
        Problem, objective and deadline.
    cp_sat
        The constraint program over views.
    """
    yield views_step()
    yield conflicts_step(_CONFLICT_SHARE)
    first = LocalSearch(patience=_PATIENCE)
    yield Step(first.name, f"a short one: {_PATIENCE} fruitless rounds", asking(first), share=_CLIMB_SHARE)
    yield Step(
        cp_sat.name, "which accesses are views, as a constraint program", asking(cp_sat), least_seconds=_LEAST_SECONDS
    )
    yield Step(LocalSearch.name, "with the time that is left", asking(LocalSearch()))


def views_step() -> Step:
    """The test whether all accesses can be views at once."""
    return Step("consecutive-ones", "costs milliseconds: can every access be a view at once?", _offer_all_views)


def conflicts_step(share: float) -> Step:
    """The step for the bound from accesses that cannot all be views."""
    why = "accesses that cannot all be views: what is no view costs something"
    return Step("conflicts", why, bound_by_conflicts, share=share)


def _offer_all_views(task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Offer an order in which no access over-reads more than it must, if there is one."""
    if (views := all_views(task.problem)) is not None:
        incumbent.offer(views)
    return {}


def all_views(problem: Problem) -> Order | None:
    """An order in which no access over-reads more than it must, if there is one: rows consecutive in every block.

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
