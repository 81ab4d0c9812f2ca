"""The road for tables under which spans do not say everything: pieces that may be joined, or curves with steps.

There a class may have to be split, and runs count. Few arrangements are tried one by one; a constraint program that
places single channels and counts runs takes a share of what the search over spans leaves open.
"""

from __future__ import annotations

from typing import Any

from problems import Problem
from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.methods.brute_force import ARRANGEMENTS_PER_SECOND, BruteForce, num_arrangements
from solvers.methods.cp_sat_direct import CpSatDirect
from solvers.roads.handover import hand_over
from solvers.roads.spans import solve_spans

_MOST_ARRANGEMENTS = 2_000_000
_SPAN_SHARE = 0.5
_LEAST_SECONDS = 0.3
_MOST_CHANNELS = 64


def spans_say_all(problem: Problem) -> bool:
    """Whether every access has a table whose cost is a concave function of its span.

    Examples
    --------
    >>> from problems.generators import random_masks, with_tables
    >>> problem = random_masks(16, 3)
    >>> [spans_say_all(with_tables(problem, concave=concave)) for concave in (True, False)]
    [True, False]
    """
    tables = (access.table for access in problem.accesses)
    return all(table is not None and table.pieces is None and table.read.is_concave for table in tables)


def solve_pieces(task: Task, incumbent: Incumbent, settings: SearchSettings) -> dict[str, Any]:
    """Improve an incumbent whose costs are no concave functions of spans; returns figures for reports.

    Parameters
    ----------
    task, incumbent
        What to minimise, and what is known.
    settings
        Of the constraint program.
    """
    total = num_arrangements(task.problem)
    if total <= min(_MOST_ARRANGEMENTS, ARRANGEMENTS_PER_SECOND * task.remaining * 0.5):
        stats = hand_over(BruteForce(), task, incumbent)
        if incumbent.closed:
            return stats
    movable = sum(
        len(own) for own, block in zip(task.problem.stored, task.problem.blocks, strict=True) if not block.pinned
    )
    few = movable <= _MOST_CHANNELS
    stats = solve_spans(task.within(_SPAN_SHARE) if few else task, incumbent)
    if few and not incumbent.closed and task.remaining > _LEAST_SECONDS:
        solver = CpSatDirect(settings.num_workers, settings.max_deterministic_time, settings.group_work, settings.log)
        stats |= hand_over(solver, task, incumbent)
    return stats
