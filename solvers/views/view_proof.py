"""The conflicts that a bound on copies needs: as few as a deletion filter leaves of all that the search knew.

Limits "at most so many of these accesses are views" are collected until giving up views costs the bound, then each one
that is not needed is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from problems import Claim, Kind, Objective, Problem
from problems.checker.cheapest_views_to_drop import Demand, cheapest_to_give_up
from problems.checker.implied_bounds import premiums
from problems.checker.least_costs import costs_alone
from solvers.common.clock import time_now
from solvers.common.proofs import claim

Limit = tuple[int, tuple[int, ...]]
"""At most so many of these accesses are views."""

_MAX_NODES = 5_000  # nodes: that the proof checker looks at as well
_MOST_SECONDS = 1.0  # seconds: for making a proof shorter; solve promises about one


def conflict_claims(problem: Problem, objective: Objective, bound: int, limits: Sequence[Limit]) -> list[Claim]:
    """The claims behind a bound on the price of accesses that are no views.

    Parameters
    ----------
    problem, objective
        What was solved.
    bound
        What was proven.
    limits
        All that the search knew. Those that are not needed are left out, as far as that is found in a second or so. If
        they cannot be weighed against each other at all, a search is claimed.
    """
    alone = costs_alone(problem, objective)
    premium = premiums(problem, objective, alone)
    deadline = time_now() + _MOST_SECONDS
    needed = _needed(limits, premium, bound - sum(alone), deadline=deadline)
    if needed is None:
        text = "CP-SAT weighed sets of accesses that cannot all be views"
        return [claim(problem, Kind.SEARCH, bound, text, conflicts=len(limits))]
    claims = []
    for own, need in needed:
        least = sum(alone[a] for a in own) + sum(sorted(premium[a] for a in own)[:need])
        claims.append(claim(problem, Kind.CONFLICT, least, "", own, views=len(own) - need))
    return claims


def _needed(limits: Sequence[Limit], price: Sequence[int], bound: int, *, deadline: float) -> list[Demand] | None:
    """A short list of limits that make giving up views cost so much, all if time is short; None if that is too hard."""
    known = [(frozenset(accesses), len(accesses) - most) for most, accesses in limits]
    answer = cheapest_to_give_up(known, price, enough=bound, max_nodes=_MAX_NODES)
    if answer is None or answer[0] < bound:
        return None
    chosen: list[Demand] = []
    while True:
        answer = cheapest_to_give_up(chosen, price, enough=bound, max_nodes=_MAX_NODES)
        if answer is None or time_now() >= deadline:
            return known
        least, given_up = answer
        if least >= bound:
            break
        violated = [demand for demand in known if len(demand[0] & given_up) < demand[1]]
        chosen += _apart(violated, given_up, price)
    for demand in list(chosen):
        if time_now() >= deadline:
            break
        others = [other for other in chosen if other is not demand]
        answer = cheapest_to_give_up(others, price, enough=bound, max_nodes=_MAX_NODES)
        if answer is not None and answer[0] >= bound:
            chosen = others
    return sorted(chosen, key=lambda demand: (len(demand[0]), sorted(demand[0])))


def _apart(violated: list[Demand], given_up: frozenset[int], price: Sequence[int]) -> list[Demand]:
    """Violated demands that share no access, those that cost most to meet first."""

    def worth(demand: Demand) -> int:
        own, need = demand
        return sum(sorted(price[a] for a in own - given_up)[: need - len(own & given_up)])

    taken: set[int] = set()
    found: list[Demand] = []
    for demand in sorted(violated, key=lambda demand: (-worth(demand), len(demand[0]), sorted(demand[0]))):
        if not (demand[0] - given_up) & taken:
            found.append(demand)
            taken |= demand[0]
    return found
