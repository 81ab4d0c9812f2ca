"""How solvers say why their bounds hold: one line each to make a `problems.Proof`, and where the reasons are kept.

A solver that proves something by search attaches ``search_proof(task.objective, bound, "what was searched", states=n)``
to its finding; witnesses that `problems.checking` can check are better. Reasons are asked only if somebody wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from problems import Conflict, GroupCost, Objective, Potentials, Problem, Proof, in_units

Reason = Callable[[int], Proof]
"""Makes the proof of a bound."""

_MOST_NAMED = 6
"""Witnesses that a text spells out."""


def search_proof(objective: Objective, bound: int, text: str, **figures: int | float) -> Proof:
    """A proof that only a re-run can check.

    Parameters
    ----------
    objective, bound
        What was proven.
    text
        What was searched, as a sentence without a full stop.
    figures
        The size of the search: states, nodes, deterministic time, ...

    Examples
    --------
    >>> from problems import OBJECTIVES
    >>> print(search_proof(OBJECTIVES["span"], 7, "every pair of chains was priced", states=900))
    span >= 7 (search): every pair of chains was priced (states: 900); only a re-run can check this.
    """
    sizes = ", ".join(f"{name.replace('_', ' ')}: {figure:.6g}" for name, figure in figures.items())
    text = f"{text} ({sizes})" if sizes else text
    return Proof(objective, bound, "search", f"{text}; only a re-run can check this.", search=figures)


def trivial_proof(problem: Problem, objective: Objective, bound: int) -> Proof:
    """The bound that needs no witness: what every access costs if it has the order for itself."""
    amount = in_units(bound, problem.ticks if objective.uses_tables else 1)
    each = "of the accesses costs" if len(problem.accesses) > 1 else "access costs"
    text = f"Even if each {each} the least it can alone, the {objective.name} is {amount}."
    return Proof(objective, bound, "trivial", text.replace("each access costs", "the access costs"))


def conflicts_proof(objective: Objective, bound: int, conflicts: Sequence[Conflict], *, always: int = 0) -> Proof:
    """Limits on how many of some accesses can be views: the cheapest ones to give up, and what is always paid."""
    listed = "; ".join(map(str, conflicts[:_MOST_NAMED]))
    more = f"; and {len(conflicts) - _MOST_NAMED} more such limits" if len(conflicts) > _MOST_NAMED else ""
    paid = f" besides {always} that every order costs" if always else ""
    text = (
        f"No order makes more accesses views than {listed}{more}. The cheapest accesses to give up as views, so that "
        f"this holds, cost {bound - always}{paid}."
    )
    return Proof(objective, bound, "conflicts", text, conflicts=tuple(conflicts))


def groups_proof(problem: Problem, objective: Objective, bound: int, groups: Sequence[GroupCost]) -> Proof:
    """Exact optima of groups of accesses, weighted so that no access counts more than once."""
    ticks = problem.ticks if objective.uses_tables else 1
    costs = [
        f"{group.multiplier} x {in_units(group.cost, ticks)} for {', '.join(group.accesses)}"
        for group in groups[:_MOST_NAMED]
    ]
    more = f"; and {len(groups) - _MOST_NAMED} more groups" if len(groups) > _MOST_NAMED else ""
    text = (
        f"Groups of accesses cost at least, whatever the others do: {'; '.join(costs)}{more}. No access counts "
        f"more than once; with the rest of each at what it costs alone this is {in_units(bound, ticks)}, rounded up."
    )
    return Proof(objective, bound, "groups", text, groups=tuple(groups))


def whole_group_proof(problem: Problem, objective: Objective, bound: int, text: str, **figures: int | float) -> Proof:
    """An exact method's proof, stated as the least cost of all accesses together: checkable where they are few."""
    named = search_proof(objective, bound, text, **figures)
    everyone = GroupCost(tuple(access.name for access in problem.accesses), bound)
    return Proof(objective, bound, "placed sets", named.text, groups=(everyone,), search=named.search)


def potentials_proof(problem: Problem, objective: Objective, bound: int, prices: Sequence[Potentials]) -> Proof:
    """The dual of the assignment of a successor to every class, block by block."""
    sums = ", ".join(f"{sum(own.leave) + sum(own.enter)} in {own.block}" for own in prices[:_MOST_NAMED])
    more = f", and {len(prices) - _MOST_NAMED} more blocks" if len(prices) > _MOST_NAMED else ""
    text = (
        f"If every class chose its successor freely, runs would begin {bound} times: prices for leaving and entering "
        f"the classes, which no succession undercuts, add up to {sums or '0'}{more}"
    )
    pinned = any(block.pinned for block in problem.blocks)
    text += ", the rest being the runs of pinned blocks." if pinned else "."
    return Proof(objective, bound, "assignment", text, potentials=tuple(prices))


def exact_multipliers(
    problem: Problem, members: Sequence[tuple[int, ...]], costs: Sequence[int], alone: np.ndarray, weight: np.ndarray
) -> tuple[int, list[GroupCost]]:
    """Turn a linear program's multipliers into fractions that are exactly feasible.

    Parameters
    ----------
    problem
        Names the accesses.
    members, costs
        Groups of accesses and their least costs.
    alone
        int, shape (num_accesses,): least cost of each access on its own.
    weight
        float, shape (num_groups,): about feasible, not negative.

    Returns
    -------
    tuple
        The bound, and the groups with a multiplier above 0.
    """
    best: tuple[int, list[GroupCost]] = (int(alone.sum()), [])
    for largest in (60, 5000, 10**6, 10**9):
        fractions = [Fraction(float(y)).limit_denominator(largest) for y in weight]
        load = [sum((y for y, own in zip(fractions, members) if a in own), Fraction(0)) for a in range(len(alone))]
        scale = max([Fraction(1), *load])
        fractions = [y / scale for y in fractions]
        total = sum(alone.tolist()) + sum(
            y * (cost - sum(int(alone[a]) for a in own)) for y, own, cost in zip(fractions, members, costs)
        )
        bound = -int(-total // 1)
        if bound > best[0]:
            names = [tuple(problem.accesses[a].name for a in own) for own in members]
            best = bound, [GroupCost(own, cost, y) for own, cost, y in zip(names, costs, fractions) if y > 0]
    return best
