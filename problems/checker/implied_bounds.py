"""The bound that claims imply together: the bound on all accesses if every claim is true.

The checker uses it with the claims that it has verified; solvers use it to make a proof. There are three ways, and the
largest bound counts.
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
    """The bound that claims imply. `complete` is False if the conflicts were too hard to combine."""

    bound: int
    complete: bool = True


def implied_bound(
    problem: Problem, objective: Objective, claims: Iterable[Claim], *, enough: int, max_nodes: int = MAX_NODES
) -> Implied:
    """The best bound that follows from claims in one of three ways.

    1. *One claim*: its accesses cost its bound; every other access costs what it costs alone.
    2. *Sum*: claims about different sets of accesses, each times its share. For every access the shares of the claims
       that name it must add up to at most 1. The remaining share counts with the access's cost alone. Of claims about
       the same set, the strongest counts. Trivial claims, conflicts and claims about all accesses are not used.
    3. *Conflicts*: the cheapest accesses are given up as views so that no conflict is left. All others cost what they
       cost alone.

    Parameters
    ----------
    problem, objective
        What the claims are about.
    claims
        The claims; they are assumed to be true.
    enough
        The search in 3 stops when the implied bound is at least this.
    max_nodes
        Most nodes of that search.

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
    """The least that each access pays beyond its cost alone if it is not a view."""
    return [max(0, cost_unless_view(problem, objective, a) - cost) for a, cost in enumerate(alone)]


def members_of(problem: Problem, claim: Claim) -> tuple[int, ...]:
    """Indices of the accesses a claim is about, ascending.

    Raises
    ------
    ProblemError
        If the claim names an access that the problem does not have.
    """
    if not claim.accesses:
        return tuple(range(len(problem.accesses)))
    index = {access.name: a for a, access in enumerate(problem.accesses)}
    for name in claim.accesses:
        if name not in index:
            raise ProblemError(f"a claim names the access {name!r}, which {problem.name} does not have")
    return tuple(sorted(index[name] for name in claim.accesses))


def _sum(alone: list[int], claims: list[Claim], members: list[tuple[int, ...]]) -> int:
    """The bound from shares of the strongest claims and the remaining share of each access alone.

    It is 0 if the shares of an access add up to more than 1."""
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
