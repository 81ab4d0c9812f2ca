"""What a road is made of: steps, each of them one method with its share of the time and the reason why it is asked.

A road is a function from a task to steps. They are made one by one: what a later step depends on is looked at when its
turn comes. `walk` runs them; `solvers.explaining` only lists them. So no method runs that is not listed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from solvers.common.incumbent import Incumbent
from solvers.common.task import Solver, Task

Run = Callable[[Task, Incumbent], dict[str, Any]]
"""Improves an incumbent until the task's deadline; returns figures for reports."""


@dataclass(frozen=True, eq=False)
class Step:
    """One method.

    Attributes
    ----------
    method
        Its name: the solver's, where it is one.
    why
        Why it is asked, or why not: what was measured of the instance.
    run
        What it does.
    share
        Of the time that is left when its turn comes.
    least_seconds
        It is left out if no more than this is left.
    taken
        False: it is listed, but not run.
    """

    method: str
    why: str
    run: Run
    share: float = 1.0
    least_seconds: float = 0.0
    taken: bool = True


@dataclass(frozen=True, eq=False)
class Stage:
    """Steps that share a part of the time.

    Attributes
    ----------
    name, why
        What they are for, and what was measured of the instance.
    road
        The steps, for a task with the stage's deadline.
    share
        Of the time that is left when its turn comes.
    """

    name: str
    why: str
    road: Road
    share: float = 1.0


Road = Callable[[Task], Iterable[Step | Stage]]


def walk(road: Road, task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Run a road's steps until the incumbent is closed or the time is up; returns figures for reports.

    The figure `methods` names those that ran, in order.
    """
    stats: dict[str, Any] = {}
    for step in road(task):
        if incumbent.closed or task.expired:
            break
        own = task if step.share == 1.0 else task.within(step.share)
        if isinstance(step, Stage):
            stats = merged(stats, walk(step.road, own, incumbent))
        elif step.taken and own.remaining > step.least_seconds:
            stats = merged(stats, {"methods": (step.method,)})
            stats = merged(stats, step.run(own, incumbent))
    return stats


def merged(stats: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Figures of two runs, one after the other: later ones count, methods are listed one behind the other."""
    methods = (*stats.get("methods", ()), *more.get("methods", ()))
    return {**stats, **more, **({"methods": methods} if methods else {})}


def asking(solver: Solver) -> Run:
    """A step's run that hands the task over to a solver."""

    def run(task: Task, incumbent: Incumbent) -> dict[str, Any]:
        return hand_over(solver, task, incumbent)

    return run


def hand_over(solver: Solver, task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Let a solver improve an incumbent until the task's deadline; returns its figures for reports.

    It starts from the best order known.
    """
    found = solver.solve(dataclasses.replace(task, start=incumbent.order, hint=incumbent.order))
    incumbent.offer(found.order)
    if found.bound is not None:
        claims = found.claims
        incumbent.raise_bound(found.bound, lambda _: claims, method=solver.name)
    return found.stats
