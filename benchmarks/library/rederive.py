"""Proves the library's bounds again. This is needed after a bug fix in a solver, because old bounds may be wrong.

A solution states the version that made it. `rederive` takes the solutions of other versions and solves their instances
again. It keeps their orders (values are computed again), but does not use their bounds. A bound that is reached again
replaces the old one. A bound that is not reached stays, with its old version, and is counted. A later call can try it
with more time, or accept the weaker bound. Every file is written in one step after each job, so an interrupted command
continues where it stopped.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from benchmarks.library.update import improved
from problems import Problem
from problems.collection import Collection
from problems.solutions import Solution
from upscale_opt import __version__


def rederive(
    collection: Collection,
    solvers: Sequence[str],
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    only: str = "*",
    objectives: Sequence[str] | None = None,
    accept_weaker: bool = False,
) -> Counter[str]:
    """Prove again what other versions proved.

    Parameters
    ----------
    collection
        The library.
    solvers
        Names, tried in this order until one reaches the old bound.
    time_limit
        Seconds per solve.
    seed
        Of the solvers.
    only
        Pattern of instance names, as in a shell.
    objectives
        Only these. Default: all that apply.
    accept_weaker
        Write the best bound found even if it lies below the old one.

    Returns
    -------
    Counter
        Numbers of bounds that are ``derived again``, ``better``, ``weaker`` (written) and ``not reached`` (unchanged),
        and number of orders with a ``better value``. After Ctrl-C (``interrupted``) they count the finished jobs.

    Raises
    ------
    ProblemError
        If a file is wrong, or a solver contradicts itself or a known order. The message names the instance.
    """
    counts: Counter[str] = Counter()
    todo = [
        (name, objective)
        for name in fnmatch.filter(collection.names(), only)
        for objective, solution in collection.solutions(name).items()
        if solution.version != __version__ and (objectives is None or objective in objectives)
    ]
    try:
        with tqdm(todo, desc="derive", unit="bound") as bar:
            for name, objective in bar:
                bar.set_postfix_str(f"{name} {objective}", refresh=False)
                problem = collection.load(name)
                old = collection.solutions(name, problem)[objective]
                found = _solved(problem, name, objective, old, solvers, time_limit, seed, counts)
                counts["better value"] += found.value < old.value
                counts[_keep(collection, problem, name, objective, old, found, accept_weaker=accept_weaker)] += 1
    except KeyboardInterrupt:
        counts["interrupted"] = 1
    return +counts


def _solved(
    problem: Problem,
    name: str,
    objective: str,
    old: Solution,
    solvers: Sequence[str],
    time_limit: float,
    seed: int,
    counts: Counter[str],
) -> Solution:
    """The old order or a better one, with the bound that the solvers prove now."""
    found = dataclasses.replace(old, bound=None, bound_solver=None)
    for solver in solvers:
        if found.bound is not None and _reaches(found, old):
            break
        where = f"{name}, {objective}"
        found = improved(
            problem, objective, solver, found, where=where, time_limit=time_limit, seed=seed, counts=counts
        )
    return found


def _keep(
    collection: Collection,
    problem: Problem,
    name: str,
    objective: str,
    old: Solution,
    found: Solution,
    *,
    accept_weaker: bool,
) -> str:
    """Write the new bound if it is as good as the old one. Returns the outcome in the words of `rederive`."""
    # Read again: another process may have improved the same file meanwhile.
    everything = collection.solutions(name, problem)
    traffic = everything.get("traffic")
    if objective == "span" and traffic is not None and traffic.version == __version__:
        # An order's traffic is at most its span.
        found = found.joined(dataclasses.replace(traffic, order=found.order, value=found.value))
    reached = _reaches(found, old)
    if not (reached or accept_weaker):
        return "not reached"
    dated = dataclasses.replace(found, version=__version__, date=datetime.date.today().isoformat())
    collection.write_solutions(name, {**everything, objective: dated}, problem)
    if not reached:
        return "weaker"
    return "better" if (found.bound or 0) > (old.bound or 0) else "derived again"


def _reaches(found: Solution, old: Solution) -> bool:
    """Whether a bound is as good as the old one. An old bound above a known value was wrong."""
    return old.bound is None or (found.bound is not None and found.bound >= min(old.bound, found.value))
