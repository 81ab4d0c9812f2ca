"""Runs by all that is known about them, one after the other: a start, tours, then circuits or local search.

OR-Tools is imported only where circuits come up.
"""

from __future__ import annotations

import math

from problems import Order, Problem
from solvers.common.block_rows import class_sequence, order_of
from solvers.common.incumbent import Incumbent
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.runs.run_climb import RunClimb
from solvers.runs.run_starts import start_runs
from solvers.runs.run_tours import solve_run_tours

MAX_ARCS = 40_000  # arcs: beyond so many there is no circuit model, a local search goes on instead; by hand

_PROGRAMS_A_SECOND = 100
"""programs: linear ones of a deterministic second, so that limits of it hold for tours; by hand"""
_PATIENCE = 100  # rounds: of the last climb that may be in vain; by hand
_SECONDS_AN_ARC = 2e-5  # seconds: about what building a circuit model takes for an arc (estimate)
_IMPORT_SECONDS = 0.5  # seconds: for loading OR-Tools; 0.24 were measured on 2026-11-28


def solve_runs(task: Task, config: SearchSettings, incumbent: Incumbent) -> dict[str, int | float]:
    """Minimise runs; improves the incumbent, returns figures for reports."""
    incumbent.offer(class_order(task.problem, task.start))
    stats = start_runs(task, incumbent)
    if incumbent.closed or task.expired:
        return stats
    limit = config.max_deterministic_time
    tours = solve_run_tours(
        task, incumbent, most_programs=None if limit is None else math.ceil(_PROGRAMS_A_SECOND * limit)
    )
    if tours is not None:
        stats |= {"programs": tours.programs, "nodes": tours.nodes}
    if incumbent.closed:
        return stats
    arcs = num_arcs(task.problem)
    if arcs > MAX_ARCS or task.remaining < _IMPORT_SECONDS + _SECONDS_AN_ARC * arcs:
        stats["steps"] = RunClimb(task, incumbent).run(_PATIENCE)
        return stats
    from solvers.programs.direct_model import search_places

    return stats | search_places(task, config, incumbent, counts_pieces=True)


def num_arcs(problem: Problem) -> int:
    """How many pairs of classes may follow each other, the ends of their blocks among them."""
    numbers = [len(problem.classes.of_block(b)) for b, block in enumerate(problem.blocks) if not block.pinned]
    return sum(number * (number + 1) for number in numbers)


def class_order(problem: Problem, order: Order) -> Order:
    """An order made of whole classes, near to the given one."""
    free = [b for b, block in enumerate(problem.blocks) if not block.pinned]
    return order_of(problem, {b: problem.classes.of_block(b)[class_sequence(problem, order, b)] for b in free})
