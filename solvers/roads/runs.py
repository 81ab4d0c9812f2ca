"""The road for runs: the sets of placed classes where few are told apart, tours and circuits for what is still open."""

from __future__ import annotations

import math
from collections.abc import Iterator

from problems import Problem
from solvers.common.task import Solver, Task
from solvers.methods.placed_sets import PlacedSets
from solvers.roads.steps import Step, asking

_FEW_CLASSES = 10  # classes: of a block up to which placed sets are cheaper than a tour; 10 took 6 ms (2026-11-28)
_MOST_ENDS = 200_000
"""combinations: of the blocks' first and last classes that are looked through: tens of milliseconds"""


def runs_road(task: Task, cp_sat: Solver) -> Iterator[Step]:
    """The steps for the objective `runs`.

    Parameters
    ----------
    task
        What to minimise.
    cp_sat
        The search over tours and circuits, whose bounds come with proofs that can be checked.
    """
    solver = PlacedSets(max_classes_runs=_FEW_CLASSES, max_combinations=_MOST_ENDS)
    why = f"{_most_classes(task.problem)} classes in the largest block; asked up to {_FEW_CLASSES}"
    why += f", with at most {_MOST_ENDS} combinations of first and last classes"
    why += ", and not where a proof is wanted" if task.want_proof else ""
    yield Step(solver.name, why, asking(solver), taken=not task.want_proof and few_classes(task.problem))
    yield Step(cp_sat.name, "tours through the classes, by branch and cut; then circuits", asking(cp_sat))


def few_classes(problem: Problem) -> bool:
    """Whether the blocks that may be reordered have few classes, and few combinations of first and last ones.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> few_classes(random_masks(64, 3)), few_classes(random_masks(64, 6))
    (True, False)
    """
    ends = math.prod(max(1, number * (number - 1)) for number in _numbers(problem))
    return _most_classes(problem) <= _FEW_CLASSES and ends <= _MOST_ENDS


def _most_classes(problem: Problem) -> int:
    return max(_numbers(problem), default=0)


def _numbers(problem: Problem) -> list[int]:
    """Classes of every block that may be reordered."""
    return [len(problem.classes.of_block(b)) for b, block in enumerate(problem.blocks) if not block.pinned]
