"""The steps of a road. A step is one method, its share of the time, and the reason why it is used.

A road is a function from a task to steps. The steps are made one by one, so a later step can depend on the result of
an earlier one. `walk` runs the steps; `solvers.explaining` only lists them. So every method that runs is also listed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from solvers.common.clock import current, working_on
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
        Its name; the solver's name if it is a solver.
    why
        The reason why it is used or not: figures of the instance.
    run
        The function that runs it.
    share
        Share of the time that is left when the step starts.
    least_seconds
        The step is skipped if no more than this is left.
    taken
        False: the step is listed, but not run.
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
        The purpose of the steps, and figures of the instance.
    road
        The steps, for a task with the stage's deadline.
    share
        Share of the time that is left when the stage starts.
    """

    name: str
    why: str
    road: Road
    share: float = 1.0


Road = Callable[[Task], Iterable[Step | Stage]]


def walk(road: Road, task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Run a road's steps until the incumbent is proven optimal or the time is up. Returns figures for reports.

    The figure `methods` names the methods that ran, in order.
    """
    stats: dict[str, Any] = {}
    for step in road(task):
        if incumbent.closed or task.expired:
            break
        own = task if step.share == 1.0 else task.within(step.share)
        if isinstance(step, Stage):
            stats = merged(stats, walk(step.road, own, incumbent))
        elif step.taken and own.remaining > step.least_seconds:
            note({"methods": (step.method,)})
            with working_on(step.method):
                found = step.run(own, incumbent)
            note(found)
            stats = merged(merged(stats, {"methods": (step.method,)}), found)
    return stats


def note(figures: dict[str, Any]) -> None:
    """Keep figures of the solve that runs, in case it is stopped."""
    clock = current()
    clock.figures = merged(clock.figures, figures)


def merged(stats: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Figures of two steps, one after the other. Later figures replace earlier ones; lists of methods are joined."""
    methods = (*stats.get("methods", ()), *more.get("methods", ()))
    return {**stats, **more, **({"methods": methods} if methods else {})}


def asking(solver: Solver) -> Run:
    """The `run` function of a step that calls a solver."""

    def run(task: Task, incumbent: Incumbent) -> dict[str, Any]:
        return hand_over(solver, task, incumbent)

    return run


def hand_over(solver: Solver, task: Task, incumbent: Incumbent) -> dict[str, Any]:
    """Let a solver improve an incumbent until the task's deadline. Returns its figures for reports.

    The solver starts from the best known order.
    """
    found = solver.solve(dataclasses.replace(task, start=incumbent.order, hint=incumbent.order))
    incumbent.offer(found.order)
    if found.bound is not None:
        claims = found.claims
        incumbent.raise_bound(found.bound, lambda _: claims, method=solver.name)
    return found.stats
