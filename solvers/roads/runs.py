"""The road for runs: the sets of placed classes where few are told apart, tours and circuits for what is still open."""

from __future__ import annotations

import math
from typing import Any

from problems import Problem
from solvers.common.incumbent import Incumbent
from solvers.common.task import Solver, Task
from solvers.methods.placed_sets import PlacedSets
from solvers.roads.handover import hand_over

_FEW_CLASSES = 10
"""Classes of a block up to which its sets of placed classes are cheaper than a tour: milliseconds."""
_MOST_ENDS = 200_000
"""Combinations of the blocks' first and last classes that are looked through: tens of milliseconds."""


def solve_runs(task: Task, incumbent: Incumbent, cp_sat: Solver) -> dict[str, Any]:
    """Improve an incumbent of the objective `runs`; returns figures for reports.

    Parameters
    ----------
    task, incumbent
        What to minimise, and what is known.
    cp_sat
        The search over tours and circuits, whose bounds come with proofs that can be checked.
    """
    stats: dict[str, Any] = {}
    if not task.want_proof and few_classes(task.problem):
        solver = PlacedSets(max_classes_runs=_FEW_CLASSES, max_combinations=_MOST_ENDS)
        stats |= hand_over(solver, task, incumbent)
    if not incumbent.closed and not task.expired:
        stats |= hand_over(cp_sat, task, incumbent)
    return stats


def few_classes(problem: Problem) -> bool:
    """Whether the blocks that may be reordered have few classes, and few combinations of first and last ones.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> few_classes(random_masks(64, 3)), few_classes(random_masks(64, 6))
    (True, False)
    """
    numbers = [len(problem.classes.of_block(b)) for b, block in enumerate(problem.blocks) if not block.pinned]
    ends = math.prod(max(1, number * (number - 1)) for number in numbers)
    return max(numbers, default=0) <= _FEW_CLASSES and ends <= _MOST_ENDS
