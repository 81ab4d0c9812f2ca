"""Deriving the library's bounds again: after a mend in a solver, what it proved before is worth nothing.

A solution says which version made it. `rederive` takes those of other versions than this one, keeps their orders (their
values are computed again) and nothing of their bounds, and solves. A bound that is reached again replaces the old one.
One that is not reached stays as it was, with its old version, and is counted: a later run tries it with more time, or
takes the weaker bound. Every file is written in one step after each job, so an interrupted run goes on where it was.
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
from problems.solutions import Solution, write_solutions
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
        Names, tried in this order until one reaches the bound there was.
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
        How many bounds are ``derived again``, ``better``, ``weaker`` (written) and ``not reached`` (left as they were),
        and how many orders are ``better value``; of the jobs done if Ctrl-C ended the run (``interrupted``).

    Raises
    ------
    ProblemError
        If a file is wrong, or a solver contradicts itself or an order that is known; the message names the instance.
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
    """The order there was, or a better one, with the bound that the solvers prove now."""
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
    """Write what was derived, if it is as good as the old bound; says what came of it in the words of `rederive`."""
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
    write_solutions({**everything, objective: dated}, problem, collection.solutions_path(name))
    if not reached:
        return "weaker"
    return "better" if (found.bound or 0) > (old.bound or 0) else "derived again"


def _reaches(found: Solution, old: Solution) -> bool:
    """Whether a bound is as good as the old one; an old one above a value found since was wrong."""
    return old.bound is None or (found.bound is not None and found.bound >= min(old.bound, found.value))
