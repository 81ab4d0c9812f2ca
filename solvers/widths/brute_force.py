"""The method `brute-force`: looks at every choice. It is the oracle, and shares nothing with the other methods."""

from __future__ import annotations

import math

import numpy as np

from solvers.common.errors import SolverError
from solvers.widths.incumbent import WidthIncumbent

MAX_CHOICES = 2**21  # choices: of a problem


def look_at_all(incumbent: WidthIncumbent) -> None:
    """Offer the choice of least loss within the budget. Ties: of least time.

    Raises
    ------
    SolverError
        If there are more than `MAX_CHOICES`.
    UnreachableSpeedupError
        If no choice keeps the budget.
    """
    problem = incumbent.problem
    sizes = tuple(len(block.widths) for block in problem.blocks)
    if math.prod(sizes) > MAX_CHOICES:
        raise SolverError(f"brute-force looks at {MAX_CHOICES} choices at most; use 'auto' for {problem.name}")
    places = np.indices(sizes).reshape(len(sizes), -1)
    widths = [np.array(block.widths)[own] for block, own in zip(problem.blocks, places)]
    nothing = np.zeros(places.shape[1], dtype=np.int64)
    loss = sum((np.array(block.losses)[own] for block, own in zip(problem.blocks, places)), nothing)
    time = nothing + problem.fixed
    for work in problem.works:
        table = problem.tables[work.table]
        rows = np.searchsorted(table.input_widths, sum((widths[b] for b in work.inputs), nothing))
        columns = np.searchsorted(table.output_widths, sum((widths[b] for b in work.outputs), nothing))
        time = time + table.nanoseconds[rows, columns]
    fitting = np.flatnonzero(time <= problem.budget)
    if not fitting.size:
        raise incumbent.unreachable(int(time.min()))
    best = fitting[np.lexsort((time[fitting], loss[fitting]))[0]]
    incumbent.offer(tuple(int(own) for own in places[:, best]))
    incumbent.raise_bound(int(loss[best]))
