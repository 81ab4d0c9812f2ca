"""Improves the best-known solutions: only a better order or a better bound replaces the old one.

Every file is written in one step after each solve, so an interrupted command loses one solve only. Unsolved instances
come first, then instances without a proof, those with the largest gap first.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from problems import Problem, ProblemError, evaluate
from problems.collection import Collection
from problems.solutions import Solution
from solvers import Result, SolverError, solve
from upscale_opt import __version__

Known = TypeVar("Known", Solution, Solution | None)


@dataclass(frozen=True)
class Job:
    """One objective of one instance, and its urgency: the gap, or 2 if nothing is known."""

    name: str
    objective: str
    urgency: float


def update(
    collection: Collection,
    solvers: Sequence[str],
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    only: str = "*",
    objectives: Sequence[str] | None = None,
    missing: bool = False,
) -> Counter[str]:
    """Solve the instances without a proof, and keep better orders and bounds.

    Parameters
    ----------
    collection
        The library.
    solvers
        Names, tried in this order until one has a proof. Each starts from the best known order.
    time_limit
        Seconds per solve.
    seed
        Of the solvers.
    only
        Pattern of instance names, as in a shell.
    objectives
        Only these. Default: all that apply.
    missing
        Only instances without a solution.

    Returns
    -------
    Counter
        Numbers of all ``jobs``, and of those that are ``new``, ``better value``, ``better bound`` and ``proven``; and
        number of solves that a solver ``refused``. After Ctrl-C they count the finished jobs.

    Raises
    ------
    ProblemError
        If a file is wrong, or a solver contradicts itself or a known solution. The message names the instance.
    """
    counts: Counter[str] = Counter()
    todo = jobs(collection, only=only, objectives=objectives, missing=missing)
    try:
        with tqdm(todo, desc="solve", unit="job") as bar:
            for job in bar:
                bar.set_postfix_str(f"{job.name} {job.objective}", refresh=False)
                counts.update(_improve(collection, job, solvers, time_limit=time_limit, seed=seed))
    except KeyboardInterrupt:
        counts["interrupted"] = 1
    return counts


def jobs(
    collection: Collection, *, only: str = "*", objectives: Sequence[str] | None = None, missing: bool = False
) -> list[Job]:
    """The jobs without a proof, the most urgent first; parameters as in `update`."""
    found: list[Job] = []
    for name in fnmatch.filter(collection.names(), only):
        known = collection.solutions(name)
        for objective in collection.objectives(name):
            solution = known.get(objective)
            if (objectives is None or objective in objectives) and (
                solution is None or not (solution.proven or missing)
            ):
                found.append(
                    Job(name, objective, 2.0 if solution is None else 1.0 if solution.gap is None else solution.gap)
                )
    return sorted(found, key=lambda job: -job.urgency)


def _improve(collection: Collection, job: Job, solvers: Sequence[str], *, time_limit: float, seed: int) -> Counter[str]:
    """Run the solvers on one job and write improvements. Returns the counts of `update`."""
    problem = collection.load(job.name)
    everything = collection.solutions(job.name, problem)
    before, counts = everything.get(job.objective), Counter({"jobs": 1})
    try:
        known = _best_start(problem, job.objective, everything)
    except ProblemError as error:
        raise ProblemError(f"{job.name}, {job.objective}: {error}") from error
    for solver in solvers:
        if known is not None and known.proven:
            break
        known = improved(
            problem,
            job.objective,
            solver,
            known,
            where=f"{job.name}, {job.objective}",
            time_limit=time_limit,
            seed=seed,
            counts=counts,
        )
    if known is not None and known is not before:
        # Read again: another process may have improved the same file meanwhile.
        everything = collection.solutions(job.name, problem)
        current = everything.get(job.objective)
        known = known if current is None else current.joined(known)
        collection.write_solutions(job.name, {**everything, job.objective: known}, problem)
    if known is not None:
        counts["new"] += before is None
        counts["better value"] += before is not None and known.value < before.value
        counts["better bound"] += before is not None and known.bound != before.bound
        counts["proven"] += known.proven
    return counts


def improved(
    problem: Problem,
    objective: str,
    solver: str,
    known: Known,
    *,
    where: str,
    time_limit: float,
    seed: int,
    counts: Counter[str],
) -> Solution | Known:
    """The known solution, merged with what a solver finds from there. A refused problem is counted as ``refused``.

    Raises
    ------
    ProblemError
        If the solver contradicts itself or a known solution. The message starts with `where`.
    """
    hint = None if known is None else known.order
    try:
        result = solve(problem, solver=solver, objective=objective, time_limit=time_limit, seed=seed, hint=hint)
    except SolverError as error:
        if "please report" in str(error):
            raise ProblemError(f"{where}: {error}") from error
        counts["refused"] += 1
        return known
    found = _solution(result)
    try:
        return found if known is None else known.joined(found)
    except ProblemError as error:
        raise ProblemError(f"{where}, solver {solver}: {error}") from error


def _best_start(problem: Problem, objective: str, everything: Mapping[str, Solution]) -> Solution | None:
    """The known solution of the objective. If the order or bound of another objective is better, it is used."""
    known = everything.get(objective)
    for other in everything.values():
        value = evaluate(problem, other.order, objective).value
        if known is None or value < known.value:
            bounds = (None, None) if known is None else (known.bound, known.bound_solver)
            known = Solution(other.order, value, bounds[0], other.solver, bounds[1], other.version, other.date)
    traffic = everything.get("traffic")
    if objective != "span" or known is None or traffic is None or traffic.bound is None:
        return known
    # An order's traffic is at most its span: over-reads cost the same, and copies are possible too.
    return known.joined(dataclasses.replace(traffic, order=known.order, value=known.value))


def _solution(result: Result) -> Solution:
    """A solver's result as a solution with today's date."""
    proven_by = None if result.bound is None else result.solver
    today = datetime.date.today().isoformat()
    order = result.order
    return Solution(order, result.value, result.bound, result.solver, proven_by, __version__, today)
