"""From formulations to an order and a bound: builds constraint programs and solves them, sharing the time left.

A program knows nothing of deadlines, incumbents and scales; this does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from ortools.sat.python import cp_model

from problems import Claim, Order, Problem
from solvers.common.clock import time_now
from solvers.common.incumbent import Incumbent
from solvers.common.proofs import claim
from solvers.common.search import OutOfTimeError, Values, run_search
from solvers.common.settings import SearchSettings
from solvers.common.task import Task
from solvers.programs.formulation import Formulation


def search_formulations(
    task: Task,
    config: SearchSettings,
    incumbent: Incumbent,
    programs: Sequence[Formulation],
    build: Callable[[Formulation, Task, Order], OrderProgram],
    *,
    method: str,
) -> dict[str, int | float]:
    """Build and solve programs one after another, sharing the time evenly; improves the incumbent.

    Parameters
    ----------
    task, config, incumbent
        The solve.
    programs
        What `formulations` said.
    build
        Makes a program of a formulation, the task with its own deadline, and the order to hint at.
    method
        What is searched, in words, for proofs.

    Returns
    -------
    dict
        Figures for reports; `minorant` is 1 if the bound is one on concave costs below the true ones.
    """
    deterministic = 0.0
    for i, form in enumerate(programs):
        left = len(programs) - i
        if incumbent.closed or task.expired:
            break
        own = dataclasses.replace(task, deadline=time_now() + task.remaining / left)
        if i == 0:
            incumbent.offer(form.tidied(incumbent.order))
        try:
            program = build(form, own, incumbent.order)
        except OutOfTimeError:
            continue
        if incumbent.closed or own.expired:
            continue

        def on_solution(values: Values, program: OrderProgram = program) -> None:
            incumbent.offer(program.order(values))

        def on_bound(bound: int, form: Formulation = form) -> None:
            incumbent.tell_bound(form.bound(bound))

        limit = config.max_deterministic_time
        limit = None if limit is None else (limit - deterministic) / left
        outcome = run_search(
            program.model,
            own,
            config,
            on_solution=on_solution,
            on_bound=on_bound if form.bounds else None,
            deterministic_time=limit,
        )
        deterministic += outcome.deterministic_time
        if outcome.bound is not None and outcome.values is not None:
            incumbent.offer(program.order(outcome.values))
            if form.bounds:
                reason = partial(_searched, task.problem, method, outcome.num_branches)
                incumbent.raise_bound(form.bound(outcome.bound), reason, method="CP-SAT")
    return {
        "units": len(programs[0].units),
        "minorant": int(len(programs) > 1),
        "deterministic_time": deterministic,
    }


def _searched(problem: Problem, method: str, branches: int, bound: int) -> list[Claim]:
    """What a program's bound rests on."""
    return [claim(problem, "search", bound, method, branches=branches)]


class OrderProgram(Protocol):
    """A constraint program of a formulation."""

    model: cp_model.CpModel

    def order(self, values: Values) -> Order:
        """The order of a solution."""
