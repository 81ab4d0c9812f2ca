"""Heuristics on problems with bundles: units stay where they are, or where the hint has put them.

A heuristic orders channels. What it proves on the way holds for the places that the units have, and says nothing about
other arrangements; so the bound is the trivial one of the whole problem.
"""

from __future__ import annotations

import dataclasses

from problems import Order
from solvers.common.incumbent import Incumbent
from solvers.common.task import Finding, Solver, Task
from solvers.methods.greedy import greedy_order


def solved_in_places(solver: Solver, task: Task) -> Finding:
    """Ask a heuristic to order the channels of a problem with bundles, its units in given places.

    The order is no worse than greedy's, the identity, and the hint.

    Parameters
    ----------
    solver
        The heuristic; it is given a problem without bundles.
    task
        The problem with bundles.
    """
    incumbent = Incumbent(task)
    incumbent.offer(Order.identity(task.problem))
    if not task.expired:
        incumbent.offer(greedy_order(task.problem))
    if task.hint is not None:
        incumbent.offer(task.hint)
    if incumbent.closed:
        return incumbent.finding()
    arrangement = () if task.hint is None else task.hint.arrangement
    problem = task.problem.arranged(arrangement)
    found = solver.solve(
        dataclasses.replace(
            task,
            problem=problem,
            start=Order.identity(problem),
            hint=None if task.hint is None else Order(task.hint.channels),
            progress=None,
            want_proof=False,
        )
    )
    incumbent.offer(Order(found.order.channels, arrangement))
    return incumbent.finding(found.stats)
