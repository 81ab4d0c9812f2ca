"""Heuristics on problems with bundles: units stay in their places, or in those of the hint.

A heuristic orders channels only. A bound that it proves holds for these places of the units, not for other
arrangements. So the reported bound is the trivial bound of the whole problem.
"""

from __future__ import annotations

import dataclasses

from problems import Order
from solvers.common.incumbent import Incumbent
from solvers.common.task import Finding, Solver, Task
from solvers.methods.greedy import greedy_order


def solved_in_places(solver: Solver, task: Task) -> Finding:
    """Let a heuristic order the channels of a problem with bundles whose units have given places.

    The order is never worse than greedy's, the identity and the hint.

    Parameters
    ----------
    solver
        The heuristic. It gets a problem without bundles.
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
    progress = incumbent.offer_from(lambda order: Order(order.channels, arrangement))
    own = task.of_other(problem, Order.identity(problem), progress=progress)
    hint = None if task.hint is None else Order(task.hint.channels)
    found = solver.solve(dataclasses.replace(own, hint=hint))
    incumbent.offer(Order(found.order.channels, arrangement))
    return incumbent.finding(found.stats)
