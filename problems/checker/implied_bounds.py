"""What claims imply together: the bound on all accesses that follows if every one of the claims is true.

Used by the checker, with the claims it has verified, and by whoever makes a proof. Three ways, the best counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from problems.checker.cheapest_views_to_drop import MAX_NODES, cheapest_to_give_up
from problems.checker.least_costs import cost_unless_view, costs_alone
from problems.errors import ProblemError
from problems.objectives import Objective
from problems.problem import Problem
from problems.proofs import Claim, Kind


@dataclass(frozen=True)
class Implied:
    """The bound that claims imply, and whether that is all: False if conflicts were too hard to weigh."""

    bound: int
    complete: bool = True


def implied_bound(
    problem: Problem, objective: Objective, claims: Iterable[Claim], *, enough: int, max_nodes: int = MAX_NODES
) -> Implied:
    """The best bound that follows from claims in one of three ways.

    1. *One claim*: its accesses cost its bound, each of the others what it costs alone.
    2. *Sum*: claims about different sets of accesses, each times its share. For every access the shares of the claims
       that name it must add up to at most 1; what is left counts as the cost alone. Of claims about the same set the
       strongest counts. Trivial claims, conflicts and claims about all accesses take no part.
    3. *Conflicts*: the cheapest accesses to give up as views so that no conflict is left; all others cost what they
       cost alone.

    Parameters
    ----------
    problem, objective
        What the claims are about.
    claims
        Taken to be true.
    enough
        The search in 3 stops when it is clear that so much is implied.
    max_nodes
        Limit of that search.

    Raises
    ------
    ProblemError
        If a claim names an access that the problem does not have.

    Examples
    --------
    >>> from problems import OBJECTIVES
    >>> from problems.generators import random_masks
    >>> problem = random_masks(8, 3)
    >>> two = [Claim("group", 4, accesses=("access0", "access1")), Claim("search", 5, accesses=("access1", "access2"))]
    >>> implied_bound(problem, OBJECTIVES["span"], two, enough=9)
    Implied(bound=5, complete=True)
    """
    claims = list(claims)
    alone = costs_alone(problem, objective)
    members = [members_of(problem, claim) for claim in claims]
    total = sum(alone)
    bounds = [total]
    bounds += [total + claim.bound - sum(alone[a] for a in own) for claim, own in zip(claims, members)]
    bounds.append(_sum(alone, claims, members))
    conflicts = [(claim, own) for claim, own in zip(claims, members) if claim.views is not None]
    if not conflicts or max(bounds) >= enough:
        return Implied(max(bounds))
    demands = [(frozenset(own), len(own) - (claim.views or 0)) for claim, own in conflicts]
    least = cheapest_to_give_up(
        demands, premiums(problem, objective, alone), enough=enough - total, max_nodes=max_nodes
    )
    return Implied(max(bounds), False) if least is None else Implied(max(*bounds, total + least[0]))


def premiums(problem: Problem, objective: Objective, alone: Sequence[int]) -> list[int]:
    """What each access pays at least beyond its cost alone if it is no view."""
    return [max(0, cost_unless_view(problem, objective, a) - cost) for a, cost in enumerate(alone)]


def members_of(problem: Problem, claim: Claim) -> tuple[int, ...]:
    """Indices of the accesses a claim is about, ascending.

    Raises
    ------
    ProblemError
        If it names an access that the problem does not have.
    """
    if not claim.accesses:
        return tuple(range(len(problem.accesses)))
    index = {access.name: a for a, access in enumerate(problem.accesses)}
    for name in claim.accesses:
        if name not in index:
            raise ProblemError(f"a claim names the access {name!r}, which {problem.name} does not have")
    return tuple(sorted(index[name] for name in claim.accesses))


def _sum(alone: list[int], claims: list[Claim], members: list[tuple[int, ...]]) -> int:
    """Shares of the strongest claims, and what is left of each access alone; 0 if an access counts too often."""
    strongest: dict[tuple[int, ...], Claim] = {}
    for claim, own in zip(claims, members):
        if claim.kind in (Kind.TRIVIAL, Kind.CONFLICT) or len(own) == len(alone):
            continue
        if own not in strongest or claim.bound > strongest[own].bound:
            strongest[own] = claim
    load = [Fraction(0)] * len(alone)
    for own, claim in strongest.items():
        for a in own:
            load[a] += claim.share
    if any(own > 1 for own in load):
        return 0
    total = sum((claim.share * claim.bound for claim in strongest.values()), Fraction(0))
    return math.ceil(total + sum((1 - own) * cost for own, cost in zip(load, alone)))
