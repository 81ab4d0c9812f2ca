"""How a solver says why its bound holds: it attaches claims to its finding, and the gate makes the proof of them.

    Finding(order, 31, claims=(
        claim(problem, "search", 22, "path over pairs of chains", [0, 3, 4], states=2_704_156),
        claim(problem, "relaxation", 9, "bisection of multipliers", [1, 2], states=59_049, rounds=12),
    ))

says that accesses 0, 3 and 4 cost at least 22 together and accesses 1 and 2 at least 9: disjoint claims add up
(`problems.checker.implied_bounds` has the rules). Kinds: `trivial`, `conflict`, `group`, `relaxation` and `search`;
without accesses a claim is about all of them. Claims need not be complete: where they do not give the bound, the gate
adds that the solver searched, with the figures of its stats; so a solver without claims has a proof as well. Where
claims take work, make them only if ``task.want_proof``, or hand `Incumbent.raise_bound` a function that does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from problems import Claim, Kind, Objective, Problem, Proof
from problems.checker.implied_bounds import implied_bound
from problems.weights import without_weights
from solvers.common.bounds import trivial_bound
from solvers.common.task import Finding

Reason = Callable[[int], Sequence[Claim]]
"""Makes the claims behind a bound."""

_MAX_NODES = 5_000  # nodes: that the proof checker looks at as well


def claim(
    problem: Problem,
    kind: Kind | str,
    bound: int,
    text: str = "",
    accesses: Iterable[int] = (),
    *,
    views: int | None = None,
    share: Fraction | int = 1,
    **figures: int | float,
) -> Claim:
    """A claim about some accesses, by their indices.

    Parameters
    ----------
    problem
        Names the accesses.
    kind, bound, text
        How it is known, what the accesses cost together at least (in ticks for tables), and the method in words.
    accesses
        Indices. Default: all.
    views, share
        As in `problems.Claim`.
    figures
        The size of what was done: states, nodes, branches, rounds, ...

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> print(claim(random_masks(8, 3), "search", 7, "every pair of chains was priced", [0, 2], states=900))
    access0 and access2 together cost at least 7: every pair of chains was priced (states 900)
    """
    names = tuple(problem.accesses[a].name for a in sorted(accesses))
    return Claim(Kind(kind), bound, text, names, views, Fraction(share), figures=figures)


def proof_of(problem: Problem, objective: Objective, finding: Finding, bound: int, *, solver: str) -> Proof:
    """The proof of a bound: a finding's claims if they give it, otherwise also that the solver searched.

    Parameters
    ----------
    problem, objective, solver
        What was solved, and by whom.
    finding
        Its claims and stats are used. Claims are about the problem without weights.
    bound
        What is to be proven; it may lie above the finding's own bound, if an order of that value was known.
    """
    claims = list(finding.claims)
    plain = without_weights(problem, objective)
    if bound <= trivial_bound(plain, objective):
        claims = [claim(plain, Kind.TRIVIAL, bound)]
    elif implied_bound(plain, objective, claims, enough=bound, max_nodes=_MAX_NODES).bound < bound:
        figures = {name: figure for name, figure in finding.stats.items() if _is_figure(figure)}
        claims.append(claim(plain, Kind.SEARCH, bound, f"search by {solver}", **figures))
    return Proof.of(problem, objective, bound, claims, solver=solver)


def _is_figure(figure: object) -> bool:
    return isinstance(figure, (int, float)) and not isinstance(figure, bool) and math.isfinite(figure)
