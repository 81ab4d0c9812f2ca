"""Problems without weights: the same costs with equal accesses, larger channels or larger tables in their place.

Solvers and proofs know no weights. They get the problem that `without_weights` makes for their objective. Its orders,
their values and all bounds are those of the problem with weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from problems.errors import ProblemError
from problems.objectives import Objective, objective_named
from problems.problem import Access, Problem

MAX_REPEATED = 10_000
"""Most accesses that are made of accesses with weights for the objective `runs`."""


def without_weights(problem: Problem, objective: str | Objective) -> Problem:
    """A problem without weights in which every order has the same value; the problem itself if it has none.

    - *Prices*: the channel size is multiplied by the weight.
    - *Tables*: the times are multiplied by the weight.
    - *Runs*: the access is repeated. The copies of ``a`` are named ``a#2``, ``a#3``, ...

    Parameters
    ----------
    problem
        The problem.
    objective
        The objective for which values are the same.

    Raises
    ------
    ProblemError
        If there is no such objective, or repeated accesses are more than `MAX_REPEATED`.

    Examples
    --------
    >>> problem = Problem.from_matrix([[1, 0, 1], [0, 1, 1]], weights=[1, 2])
    >>> [access.name for access in without_weights(problem, "runs").accesses]
    ['row1', 'row2', 'row2#2']
    >>> [access.channel_size for access in without_weights(problem, "span").accesses]
    [1, 2]
    """
    goal = objective_named(objective)
    if all(access.weight == 1 for access in problem.accesses):
        return problem
    if goal.counts_runs:
        accesses = tuple(_repeated(problem))
    elif goal.uses_tables:
        accesses = tuple(replace(own, table=own.weighted_table, weight=1) for own in problem.accesses)
    else:
        accesses = tuple(replace(own, channel_size=own.price, weight=1) for own in problem.accesses)
    return replace(problem, accesses=accesses)


def _repeated(problem: Problem) -> Iterator[Access]:
    """Every access as often as its weight says, under names of their own."""
    total = sum(access.weight for access in problem.accesses)
    if total > MAX_REPEATED:
        raise ProblemError(
            f"{problem.name}: the weights add up to {total}; to count runs, accesses are repeated, {MAX_REPEATED} at "
            "most: divide the weights"
        )
    taken = {access.name for access in problem.accesses}
    for access in problem.accesses:
        own, number = replace(access, weight=1), 1
        yield own
        for _ in range(access.weight - 1):
            number = next(k for k in range(number + 1, number + 2 + len(taken)) if f"{access.name}#{k}" not in taken)
            yield replace(own, name=f"{access.name}#{number}")
