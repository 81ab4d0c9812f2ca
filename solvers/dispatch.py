"""The entrance: `solve` hands a problem to a solver and its finding to the gate.

It also keeps the promise that an exact solver is never worse than greedy or than the hint.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from problems import Objective, Order, Problem, ProblemError, evaluate, objective_named
from problems.proofs import require_provable
from solvers.arranging import suited
from solvers.common.arguments import require_problem, require_settings
from solvers.common.bounds import trivial_bound
from solvers.common.errors import SolverError
from solvers.common.result import Progress, Result, SolveInterrupted
from solvers.common.task import Finding, Solver, Task
from solvers.gate import result_of
from solvers.methods.greedy import greedy_in_time
from solvers.registry import solver_named

GREEDY_SHARE = 0.5  # share: of the time that greedy's order may take; by hand


def solve(
    problem: Problem,
    *,
    solver: str | Solver = "auto",
    objective: str | Objective = "copies",
    time_limit: float = 10.0,
    seed: int = 0,
    hint: Order | None = None,
    progress: Callable[[Progress], None] | None = None,
    proof: bool = False,
) -> Result:
    """Look for the order of least cost.

    An exact solver starts from greedy's order, from the hint and from the order the problem came with: its result is
    never worse than any of them. Where nothing better was found it is exactly the best of the three, greedy's among
    equals. An optimal order is the nearest to the original one among those known. `greedy` and `identity` ignore the
    hint. Greedy is left out where it alone would take more than half of the time limit (and 0.3 seconds): that is, with
    many hundreds of accesses.

    Where units of bundles may change places, an exact solver is asked about one arrangement of them after another
    (`solvers.arranging`); heuristics leave them in place.

    Parameters
    ----------
    problem
        The problem.
    solver
        One of `solver_names`, or a configured solver such as ``CpSat(num_workers=2)``.
    objective
        Name or `problems.Objective`.
    time_limit
        Seconds for everything; may be infinite. `greedy` and `identity` take what they need.
    seed
        Of every random choice; a whole number from 0 up.
    hint
        An order to start from, for example of an earlier run.
    progress
        Called with a `Progress` on every improvement, perhaps from another thread. Exceptions stop the solve.
    proof
        Say why the bound holds, as `Result.proof`. Writing it may take a second beyond the time limit. Refused where
        units may change places: there is no form of proof for that.

    Returns
    -------
    Result
        The order, its value, bound and status.

    Raises
    ------
    SolverError
        If the solver is unknown, the time limit is not above 0, the seed is no whole number from 0 up, the hint is no
        valid order, the problem is too large for the solver, or the solver's answer did not pass the gate.
    SolveInterrupted
        On Ctrl-C: a KeyboardInterrupt that has the best so far as its `result`.
    problems.ProblemError
        If the objective is unknown, or a proof is asked for of a problem with bundles.

    Examples
    --------
    >>> from problems.generators import planted_intervals
    >>> result = solve(planted_intervals(64, 5))
    >>> result.value, result.bound, str(result.status)
    (0, 0, 'OPTIMAL')
    """
    started = time.perf_counter()
    require_problem(problem)
    require_settings(
        solver=solver, objective=objective, time_limit=time_limit, seed=seed, hint=hint, progress=progress, proof=proof
    )
    chosen = solver_named(solver)
    goal = objective_named(objective)
    goal.ticks_of(problem)  # refuses prices that are too high for the problem
    if proof:
        require_provable(problem)
    if hint is not None:
        try:
            hint.require_valid(problem)
        except ProblemError as error:
            raise SolverError(f"the hint is no order of this problem: {error}") from error
    watch = _Watch(progress)
    try:
        return _solve(problem, chosen, goal, started, started + time_limit, seed, hint, watch, proof)
    except KeyboardInterrupt as error:
        raise SolveInterrupted(watch.result(problem, chosen, goal, started)) from error


class _Watch:
    """Remembers the best order and the best bound that a solver has told of, and passes everything on."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress
        self._best: Progress | None = None
        self._bound: int | None = None
        self.start: Order | None = None

    def __call__(self, told: Progress) -> None:
        if told.order is not None and (self._best is None or told.value < self._best.value):
            self._best = told
        if told.bound is not None and (self._bound is None or told.bound > self._bound):
            self._bound = told.bound
        if self._progress is not None:
            self._progress(told)

    def result(self, problem: Problem, solver: Solver, objective: Objective, started: float) -> Result:
        """The best so far: the start before anything was found, and the order the problem came with before that."""
        start = Order.identity(problem) if self.start is None else self.start
        order = start if self._best is None or self._best.order is None else self._best.order
        bound = max(trivial_bound(problem, objective), self._bound or 0)
        return result_of(
            problem,
            objective,
            Finding(order, bound),
            solver=solver.name,
            runtime=time.perf_counter() - started,
            start=start if solver.exact else None,
        )


def _solve(
    problem: Problem,
    chosen: Solver,
    goal: Objective,
    started: float,
    deadline: float,
    seed: int,
    hint: Order | None,
    watch: _Watch,
    proof: bool,
) -> Result:
    """The solve itself, once everything is known to make sense."""
    task = Task(
        problem,
        goal,
        start=Order.identity(problem),
        started=started,
        deadline=deadline,
        seed=seed,
        hint=hint,
        progress=watch,
        want_proof=proof,
    )
    known = [task.start]
    if chosen.exact:
        known = _known_orders(task)
        task = dataclasses.replace(task, start=_best_start(problem, goal, known))
    watch.start = task.start
    finding = suited(chosen, problem).solve(task)
    return result_of(
        problem,
        goal,
        finding,
        solver=chosen.name,
        runtime=time.perf_counter() - started,
        start=task.start if chosen.exact else None,
        alternatives=known if chosen.exact else None,
        want_proof=proof,
    )


def _known_orders(task: Task) -> list[Order]:
    """Greedy's order, the hint, and the identity: of equally good ones the first is the start."""
    return [*greedy_in_time(task, GREEDY_SHARE), *([] if task.hint is None else [task.hint]), task.start]


def _best_start(problem: Problem, objective: Objective, known: list[Order]) -> Order:
    """The first order, or a strictly better one of the others."""
    return min(known, key=lambda order: evaluate(problem, order, objective).value)
