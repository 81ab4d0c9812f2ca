"""One run of CP-SAT, interruptible and honest: used by every model of the `cp-sat` solver.

The search runs in its own thread so that Ctrl-C reaches Python. Values and bounds are read only where CP-SAT says
OPTIMAL or FEASIBLE; after UNKNOWN they are noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Protocol

from ortools.sat.python import cp_model

from solvers.common.clock import current, time_now
from solvers.common.errors import SolverError
from solvers.common.settings import SearchSettings

_WAIT_SECONDS = 0.05  # seconds: until Ctrl-C is noticed while CP-SAT runs
Values = Callable[[Any], int]


class Named(Protocol):
    """A problem of any kind."""

    @property
    def name(self) -> str:
        """Name for messages."""


class Limits(Protocol):
    """What a search needs to know of the solve: a `Task`, or what another kind of problem has in its place."""

    @property
    def problem(self) -> Named:
        """The problem."""

    @property
    def seed(self) -> int:
        """Of every random choice."""

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""


class OutOfTimeError(Exception):
    """The deadline passed while a model was built; there is nothing to search."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run of CP-SAT says.

    Attributes
    ----------
    optimal
        The model's optimum was found and proven.
    values
        Reads a variable's value in the best solution; None if there is no solution.
    objective
        Objective of that solution, as the model computes it; None if there is none.
    bound
        Proven bound on the model's objective; None if there is none.
    deterministic_time
        Deterministic seconds used.
    num_branches
        Branches of the search tree.
    """

    optimal: bool
    values: Values | None
    objective: int | None
    bound: int | None
    deterministic_time: float
    num_branches: int = 0


def run_search(
    model: cp_model.CpModel,
    task: Limits,
    config: SearchSettings,
    *,
    on_solution: Callable[[Values], None] | None = None,
    on_bound: Callable[[int], None] | None = None,
    deterministic_time: float | None = None,
) -> Outcome:
    """Minimise a model until the task's deadline.

    Parameters
    ----------
    model
        The model.
    task
        Gives deadline and seed.
    config
        Gives the number of workers and whether to log.
    on_solution
        Called in the search's thread with a reader of values for every improving solution; its exceptions stop the
        search and are raised here.
    on_bound
        Called likewise with every better bound on the model's objective.
    deterministic_time
        Limit in deterministic seconds; None for none.

    Raises
    ------
    SolverError
        If CP-SAT calls the model infeasible or invalid: that is an error in this program.
    """
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = config.num_workers
    solver.parameters.random_seed = task.seed % 2**31
    solver.parameters.log_search_progress = config.log
    solver.parameters.catch_sigint_signal = False
    clock, remaining = current(), task.remaining
    if clock.counts_work:
        solver.parameters.interleave_search = config.num_workers > 1  # else the threads race
        deterministic_time = min(remaining, math.inf if deterministic_time is None else deterministic_time)
    elif math.isfinite(remaining):
        solver.parameters.max_time_in_seconds = remaining
    if deterministic_time is not None and math.isfinite(deterministic_time):
        solver.parameters.max_deterministic_time = max(0.0, deterministic_time)
    callback = SolutionCallback(on_solution)
    if on_bound is not None:
        solver.best_bound_callback = _guarded(on_bound, callback, solver)
    status = solve_in_thread(solver, model, callback)
    time_now(solver.deterministic_time)
    if callback.error is not None:
        raise callback.error
    if status == cp_model.UNKNOWN:
        return Outcome(False, None, None, None, solver.deterministic_time)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise SolverError(
            f"CP-SAT answers {solver.status_name(status)} for {task.problem.name} "
            f"({model.validate() or 'valid model'}); please report this with the instance"
        )
    optimal, objective = status == cp_model.OPTIMAL, round(solver.objective_value)
    return Outcome(
        optimal,
        solver.value,
        objective,
        objective if optimal else _safe_bound(solver.best_objective_bound),
        solver.deterministic_time,
        solver.num_branches,
    )


def _guarded(
    on_bound: Callable[[int], None], callback: SolutionCallback, solver: cp_model.CpSolver
) -> Callable[[float], None]:
    """Passes bounds on; keeps the first error with those of solutions, and stops the search."""

    def hear(bound: float) -> None:
        if callback.error is not None or not math.isfinite(bound):
            return
        try:
            on_bound(_safe_bound(bound))
        except BaseException as error:
            callback.error = error
            solver.stop_search()

    return hear


def _safe_bound(bound: float) -> int:
    """Round a bound on an integer objective up, but not past a rounding error."""
    return math.ceil(bound - 1e-6 - 1e-9 * abs(bound))


def solve_in_thread(
    solver: cp_model.CpSolver, model: cp_model.CpModel, callback: SolutionCallback | None = None
) -> Any:
    """Solve while the main thread waits in short steps, so that KeyboardInterrupt gets through.

    It waits for an event because an interrupted `Thread.join` may take a running thread for a stopped one.
    """
    status: list[Any] = []
    errors: list[BaseException] = []
    done = Event()

    def work() -> None:
        try:
            status.append(solver.solve(model, callback))
        except BaseException as error:  # handed over to the waiting thread below
            errors.append(error)
        finally:
            done.set()

    Thread(target=work, name="cp-sat", daemon=True).start()
    try:
        while not done.wait(_WAIT_SECONDS):
            time_now(0.0)
    except BaseException:
        solver.stop_search()
        while not done.wait(_WAIT_SECONDS):
            solver.stop_search()
        raise
    if errors:
        raise errors[0]
    return status[0]


class SolutionCallback(cp_model.CpSolverSolutionCallback):
    """Passes solutions on; keeps the first error and stops the search, because C++ cannot carry it."""

    def __init__(self, on_solution: Callable[[Values], None] | None) -> None:
        super().__init__()
        self._on_solution = on_solution
        self.error: BaseException | None = None

    def on_solution_callback(self) -> None:
        """Called by CP-SAT."""
        if self._on_solution is None or self.error is not None:
            return
        try:
            self._on_solution(self.value)
        except BaseException as error:
            self.error = error
            self.stop_search()
