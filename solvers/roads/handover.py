"""How one solver hands a task over to another: with the best order known, and taking whatever that one finds."""

from __future__ import annotations

import dataclasses
from typing import Any

from solvers.common.incumbent import Incumbent
from solvers.common.task import Solver, Task


def hand_over(solver: Solver, task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Let a solver improve an incumbent until the task's deadline; returns its figures for reports."""
    found = solver.solve(dataclasses.replace(task, start=incumbent.order, hint=incumbent.order))
    incumbent.offer(found.order)
    if found.bound is not None:
        claims = found.claims
        incumbent.raise_bound(found.bound, lambda _: claims, method=solver.name)
    return found.stats
