"""The entrance: `solve` hands a problem to a solver and its finding to the gate.

It also keeps the promise that an exact solver is never worse than greedy or than the hints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from problems import Objective, Order, Problem, ProblemError, evaluate, objective_named
from problems.proofs import require_provable
from solvers.common.arguments import require_problem, require_settings
from solvers.common.errors import SolverError
from solvers.common.result import Progress, Result
from solvers.common.stopping import Rule
from solvers.common.task import Solver
from solvers.registry import solver_named
from solvers.result_files import read_result
from solvers.solving import Solve


def solve(
    problem: Problem,
    *,
    solver: str | Solver = "auto",
    objective: str | Objective = "copies",
    time_limit: float = 10.0,
    seed: int = 0,
    hint: Order | Sequence[Order] | None = None,
    progress: Callable[[Progress], object] | bool | None = None,
    proof: bool = False,
    stop: Rule | None = None,
    lower_bound: int | None = None,
    resume: Result | str | Path | None = None,
    workers: int | None = None,
    log: bool | Callable[[str], object] = False,
) -> Result:
    """Look for the order of least cost.

    An exact solver starts from greedy's order, from the hints and from the order the problem came with: its result is
    never worse than any of them. Where nothing better was found it is exactly the best of them, greedy's among
    equals. An optimal order is the nearest to the original one among those known. `greedy` and `identity` ignore the
    hints. Greedy is left out where it alone would take more than half of the time limit (and 0.3 seconds): that is,
    with many hundreds of accesses.

    Where units of bundles may change places, an exact solver is asked about one arrangement of them after another
    (`solvers.arranging`); heuristics leave them in place. Where there are constraints, `cp-sat` places single channels,
    and so does `auto`; `brute-force` and `identity` keep them too, and the other solvers refuse the problem.

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
        An order to start from, or several.
    progress
        Called with a `Progress` at the start and on every improvement of the best order or the bound, perhaps from
        another thread. If it returns True, the solve stops, and the result is what was known then. If it raises an
        exception, that is raised here, with the result in its attribute ``result``. Without a function, value, bound
        and gap are shown on a terminal and in a notebook, after two seconds. True: elsewhere too, every ten seconds.
        False, and None with a log: nothing is shown (`problems.showing.progress`).
    proof
        Say why the bound holds, as `Result.proof`. Writing it may take a second beyond the time limit. Refused where
        units may change places: there is no form of proof for that.
    stop
        When to stop before the optimum is proven, beside the time limit: `GapLimit`, `TargetValue`, `NoImprovement`,
        `WorkLimit` and others, combined with ``|`` and ``&``, or a function of a `Standing`. `Result.stop_reason` says
        which it was. With a `WorkLimit` the result is the same on every machine: give an infinite time limit with it.
    lower_bound
        No order has a smaller value, as you know; in ticks for tables. It is taken on trust.
    resume
        An earlier result for this problem and objective, or a file of one (`write_result`). Its order is a hint, its
        bound a lower bound; its trajectory and its runtime go on. The searches themselves begin anew.
    workers
        Threads for CP-SAT, in `cp-sat` and where `auto` asks it. Other methods use one. With more than one, a result is
        reproducible under a `WorkLimit` only. Default: what the solver is configured with.
    log
        Print a log, in the manner of CP-SAT's; or a function that is called with every line of it.

    Returns
    -------
    Result
        The order, its value, bound and status.

    Raises
    ------
    SolverError
        If the solver is unknown, the time limit is not above 0, the seed is no whole number from 0 up, a hint is no
        valid order, the lower bound is above the value of an order, the result to resume is of another problem or
        objective, the problem is too large for the solver, or the solver's answer did not pass the gate.
    SolveInterrupted
        On Ctrl-C: a KeyboardInterrupt that has the best so far as its `result`.
    problems.ProblemError
        If the objective is unknown, a proof is asked for of a problem with bundles, or a file cannot be read.

    Examples
    --------
    >>> from problems.generators import planted_intervals
    >>> result = solve(planted_intervals(64, 5))
    >>> result.value, result.bound, str(result.status)
    (0, 0, 'OPTIMAL')

    Stop at the first order and bound that are near to each other, and go on from there:

    >>> from problems.generators import random_masks
    >>> from solvers import GapLimit
    >>> problem = random_masks(60, 13, seed=1)
    >>> first = solve(problem, objective="span", time_limit=1, stop=GapLimit(0.8))
    >>> str(first.stop_reason), first.gap <= 0.8
    ('gap limit', True)
    >>> second = solve(problem, objective="span", time_limit=0.3, resume=first)
    >>> second.value <= first.value, second.bound >= first.bound, second.trajectory[0] == first.trajectory[0]
    (True, True, True)
    """
    require_problem(problem)
    require_settings(solver=solver, objective=objective, time_limit=time_limit, seed=seed, hint=hint, proof=proof)
    require_settings(progress=progress)
    require_settings(stop=stop, lower_bound=lower_bound, resume=resume, workers=workers, log=log)
    chosen = _with_workers(solver_named(solver), workers)
    goal = objective_named(objective)
    goal.ticks_of(problem)  # refuses prices that are too high for the problem
    if problem.constraints and not getattr(chosen, "keeps_constraints", False):
        raise SolverError(
            f"{problem.name} has constraints, and the solver {chosen.name!r} does not keep them; choose 'auto', "
            "'cp-sat' or, if it is tiny, 'brute-force'"
        )
    if proof:
        require_provable(problem)
    hints = [hint] if isinstance(hint, Order) else list(hint or ())
    for own in hints:
        try:
            own.require_valid(problem)
        except ProblemError as error:
            raise SolverError(f"the hint is no order of this problem: {error}") from error
    earlier = None if resume is None else _resumed(problem, goal, resume)
    return Solve(
        problem,
        chosen,
        goal,
        seed=seed,
        hints=hints,
        proof=proof,
        lower_bound=lower_bound,
        earlier=earlier,
    ).run(time_limit, stop, progress, print if log is True else log or None)


def _with_workers(solver: Solver, workers: int | None) -> Solver:
    """The solver with so many threads, if it can use them."""
    return solver if workers is None or not hasattr(solver, "with_workers") else solver.with_workers(workers)


def _resumed(problem: Problem, objective: Objective, resume: Result | str | Path) -> Result:
    """The earlier result, once it is known to be one of this problem and objective."""
    earlier = resume if isinstance(resume, Result) else read_result(resume, problem)
    if earlier.evaluation.objective != objective.name:
        raise SolverError(
            f"the result to resume is for the objective {earlier.evaluation.objective!r}, not {objective.name!r}; "
            "give one for the same, or its order as a hint"
        )
    try:
        value = evaluate(problem, earlier.order, objective).value
    except ProblemError as error:
        raise SolverError(f"the result to resume is of another problem: {error}") from error
    if value != earlier.value:
        raise SolverError(
            f"the result to resume is of another problem: its order has {value} here, not {earlier.value}; "
            "give its order as a hint"
        )
    return earlier
