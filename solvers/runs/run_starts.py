"""A first order with few runs and a first bound, as good as the time allows.

An assignment gives both, but takes a time that grows with the cube of the classes and cannot be interrupted: it is
begun only if it can end. Otherwise every class is joined to the nearest one left, and pays for the two classes that
are nearest to it.
"""

from __future__ import annotations

import numpy as np

from problems import Order, Problem
from solvers.common.incumbent import Incumbent
from solvers.common.proofs import claim
from solvers.common.rows import class_bits
from solvers.common.task import Task
from solvers.runs.assignment import assigned_runs
from solvers.runs.class_distances import ClassDistances
from solvers.runs.run_borders import RunBorders
from solvers.runs.run_potentials import potentials_claim

_SECONDS_A_TRIPLE = 3e-10  # seconds: of an assignment, per cube of its classes; 0.7e-10 to 2e-10 were measured
_MOST_ASSIGNED = 4000  # classes: of an assignment, whose matrix then takes 128 MB
_ASSIGNED_SHARE = 0.5  # share: of the time that an assignment may take; by hand
_PATH_SHARE = 0.3  # share: of the time for a path from nearest to nearest; by hand
_BOUND_SHARE = 0.3  # share: of the time for the bound from nearest classes; by hand


def start_runs(task: Task, incumbent: Incumbent) -> dict[str, int | float]:
    """Offer an order and raise the bound; returns figures for reports.

    Bounds hold for blocks in their places, and are claimed only where no units may change places.

    Examples
    --------
    >>> from problems import objective_named
    >>> from problems.generators import disjoint_masks
    >>> problem = disjoint_masks(8, 3)
    >>> task = Task(problem, objective_named("runs"), Order.identity(problem), 0.0, np.inf)
    >>> incumbent = Incumbent(task)
    >>> start_runs(task, incumbent)
    {'assignment_bound': 3, 'assignment_value': 3}
    """
    problem = task.problem
    if can_assign(problem, _ASSIGNED_SHARE * task.remaining):
        bound, order = assigned_runs(problem)
        if not problem.bundles:
            incumbent.raise_bound(bound, lambda bound: [potentials_claim(problem, bound)], method="assignment")
        incumbent.offer(order)
        return {"assignment_bound": bound, "assignment_value": incumbent.value}
    incumbent.offer(nearest_order(problem, task.within(_PATH_SHARE).deadline))
    if not problem.bundles:
        text = "even if every class lay between the two nearest to it"
        incumbent.raise_bound(
            nearest_bound(problem, task.within(_BOUND_SHARE).deadline),
            lambda bound: [claim(problem, "relaxation", bound, text)],
            method="nearest",
        )
    return {"nearest_bound": incumbent.bound, "nearest_value": incumbent.value}


def can_assign(problem: Problem, seconds: float) -> bool:
    """Whether the assignment of every unpinned block ends within some seconds, and takes no undue memory."""
    sizes = _free_sizes(problem)
    return sizes.max(initial=0) <= _MOST_ASSIGNED and _SECONDS_A_TRIPLE * float((sizes**3).sum()) <= seconds


def nearest_order(problem: Problem, deadline: float) -> Order:
    """Every unpinned block's classes, always the nearest one next, until the deadline; then as they come."""
    sequence: list[int] = []
    for b, block in enumerate(problem.blocks):
        own = problem.classes.of_block(b)
        if not block.pinned:
            own = own[ClassDistances(class_bits(problem, b, problem.readers_of(b))).nearest_path(deadline)]
        sequence.extend(own.tolist())
    return Order.of_classes(problem, sequence)


def nearest_bound(problem: Problem, deadline: float) -> int:
    """A bound on the number of runs: half of what every class differs from its two nearest neighbours, summed up.

    A row changes twice for every run, counted with zeros around every access. The neighbours of a class are other
    classes, or an end of its block; each change between two of them is counted half for one and half for the other.

    Parameters
    ----------
    problem
        The problem; blocks and units are taken to be in their places.
    deadline
        A `time.perf_counter` reading, from which on the bound is a weaker one.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> nearest_bound(random_masks(24, 24), np.inf)
    100
    """
    borders = RunBorders(problem)
    quarters = 2 * borders.constant
    for b, block in enumerate(problem.blocks):
        bits = class_bits(problem, b, problem.readers_of(b))
        if block.pinned:
            quarters += 2 * int((bits[1:] ^ bits[:-1]).sum())
            continue
        first, last = borders.first[b], borders.last[b]
        quarters += int(first.min() + last.min())
        quarters += int(ClassDistances(bits).two_nearest([first, last], deadline).sum())
    return -(-quarters // 4)


def _free_sizes(problem: Problem) -> np.ndarray:
    """Numbers of classes of the unpinned blocks; float."""
    sizes = np.bincount(problem.classes.block, minlength=len(problem.blocks))
    return sizes[[not block.pinned for block in problem.blocks]].astype(np.float64)
