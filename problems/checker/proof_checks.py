"""Check a proof: first every claim by itself, then whether the claims give the bound. docs/model.md explains why.

Everything is computed again from the problem: the consecutive-ones test, the least costs of groups, and the prices of
giving up views. No solver is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from problems.checker.consecutive_ones import can_all_be_views
from problems.checker.implied_bounds import implied_bound, members_of, premiums
from problems.checker.least_costs import LeastCost, costs_alone, least_cost
from problems.checker.meeting_accesses import cost_at_least
from problems.checker.obstruction_checks import bound_of_obstructions
from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.problem import Problem
from problems.proofs import Claim, Kind, Potentials, Proof, fingerprint, require_provable
from problems.weights import without_weights

MAX_SUBSETS = 20_000
"""Most sets of accesses that are tested for one conflict."""

MAX_HARD = 3
"""The test of a conflict stops after this many sets that were too hard (a second each)."""


class Standing(StrEnum):
    """The checker's verdict on a statement."""

    VERIFIED = "verified"
    UNCHECKED = "on trust"
    WRONG = "WRONG"


@dataclass(frozen=True)
class Statement:
    """One statement, its verdict, and the reason (may be empty)."""

    text: str
    standing: Standing
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.standing.value}: {self.text}" + (f" ({self.reason})" if self.reason else "")


def check_proof(problem: Problem, proof: Proof) -> tuple[Statement, ...]:
    """Check every claim of a proof, and whether the claims give the bound. The last statement is the bound.

    A proof of another instance is wrong as a whole; it is not checked further. Where accesses have weights, claims are
    about the problem without them (`problems.weights.without_weights`).

    Raises
    ------
    ProblemError
        If the problem has bundles, of which there are no proofs (`problems.proofs.require_provable`), or the proof
        needs cost tables that the problem lacks.

    Examples
    --------
    >>> from problems import OBJECTIVES, Access, Block
    >>> reads = ([1, 1, 0], [0, 1, 1], [1, 0, 1])
    >>> problem = Problem((Block("x", 3),), tuple(Access(f"a{i}", (0,), np.array(k)) for i, k in enumerate(reads)))
    >>> claim = Claim("conflict", 2, accesses=("a0", "a1", "a2"), views=2)
    >>> for statement in check_proof(problem, Proof.of(problem, OBJECTIVES["copies"], 2, [claim])):
    ...     print(statement)
    verified: the proof is one of this instance
    verified: at most 2 of a0, a1 and a2 can be views: together they cost at least 2
    verified: every order has copies >= 2
    """
    require_provable(problem)
    of_kind(proof, Proof, "the proof")
    text = "the proof is one of this instance"
    if proof.fingerprint != fingerprint(problem) or proof.ticks != proof.objective.ticks_of(problem):
        return (Statement(text, Standing.WRONG, f"it is one of {proof.instance}, with other blocks or accesses"),)
    check = _Check(without_weights(problem, proof.objective), proof)
    claims = [check.claim(claim) for claim in proof.claims]
    return (Statement(text, Standing.VERIFIED), *claims, check.bound(claims))


class _Check:
    """The checker of one proof of one problem."""

    def __init__(self, problem: Problem, proof: Proof) -> None:
        self._problem = problem
        self._proof = proof
        self._goal = proof.objective
        self._alone = costs_alone(problem, self._goal)
        self._premium = premiums(problem, self._goal, self._alone)
        self._can_be_views: dict[tuple[int, ...], bool | None] = {}
        self._least: dict[tuple[int, ...], LeastCost] = {}

    def claim(self, claim: Claim) -> Statement:
        """The verdict on a claim, by its kind."""
        try:
            accesses = members_of(self._problem, claim)
            if claim.kind is Kind.CONFLICT:
                standing, reason = self._conflict(claim, accesses)
            elif claim.kind is Kind.TRIVIAL:
                alone = sum(self._alone[a] for a in accesses)
                standing, reason = _verdict(claim.bound <= alone, f"it is {alone}")
            elif claim.kind is Kind.OBSTRUCTIONS:
                own, flaw = bound_of_obstructions(self._problem, self._goal, claim.obstructions)
                standing, reason = (Standing.WRONG, flaw) if flaw else _verdict(claim.bound <= own, f"they give {own}")
            elif claim.potentials:
                standing, reason = self._potentials(claim)
            else:
                standing, reason = self._solved(claim, accesses)
        except ProblemError as error:
            standing, reason = Standing.WRONG, str(error)
        return Statement(claim.words(self._proof.ticks), standing, reason)

    def bound(self, claims: list[Statement]) -> Statement:
        """The claims must give the bound: the verified claims alone, or together with those on trust."""
        proof, problem, goal = self._proof, self._problem, self._goal
        by_standing = {
            standing: [claim for claim, own in zip(proof.claims, claims) if own.standing is standing]
            for standing in Standing
        }
        verified = implied_bound(problem, goal, by_standing[Standing.VERIFIED], enough=proof.bound)
        if verified.bound >= proof.bound:
            return Statement(proof.statement, Standing.VERIFIED)
        own = self._least_cost(tuple(range(len(problem.accesses))))
        if proof.bound <= own.lower:
            return Statement(proof.statement, Standing.VERIFIED, "by the checker's own search")
        if proof.bound > own.upper:
            return Statement(proof.statement, Standing.WRONG, f"one has {own.upper}")
        believed = [*by_standing[Standing.VERIFIED], *by_standing[Standing.UNCHECKED]]
        trusted = implied_bound(problem, goal, believed, enough=proof.bound)
        known = f"{max(verified.bound, own.lower)} is verified"
        if trusted.bound >= proof.bound:
            return Statement(
                proof.statement, Standing.UNCHECKED, f"{known}, the rest rests on claims that only a re-run can check"
            )
        if not trusted.complete:
            return Statement(
                proof.statement, Standing.UNCHECKED, f"{known}; too many conflicts to weigh against each other"
            )
        return Statement(proof.statement, Standing.WRONG, f"the claims give {trusted.bound}")

    def _conflict(self, claim: Claim, accesses: tuple[int, ...]) -> tuple[Standing, str]:
        """No set with one access more than the claim allows can be views together."""
        views = claim.views or 0
        needed = sorted(self._premium[a] for a in accesses)[: len(accesses) - views]
        least = sum(self._alone[a] for a in accesses) + sum(needed)
        if claim.bound > least:
            return Standing.WRONG, f"that costs {least}"
        if math.comb(len(accesses), views + 1) > MAX_SUBSETS:
            return Standing.UNCHECKED, f"more than {MAX_SUBSETS} sets to test"
        hard = 0
        for chosen in combinations(accesses, views + 1):
            possible = self._views(chosen)
            if possible:
                return Standing.WRONG, f"{', '.join(self._problem.accesses[a].name for a in chosen)} can"
            hard += possible is None
            if hard > MAX_HARD:
                break
        return (Standing.UNCHECKED, "some sets are too hard to test") if hard else (Standing.VERIFIED, "")

    def _solved(self, claim: Claim, accesses: tuple[int, ...]) -> tuple[Standing, str]:
        """The accesses, without the others but with all stored channels, must cost at least the bound."""
        own = self._least_cost(accesses)
        if claim.bound <= own.lower:
            return Standing.VERIFIED, ""
        if claim.bound > own.upper:
            return Standing.WRONG, f"{own.upper} is enough"
        proven = self._at_least(accesses, claim.bound)
        if proven is None:
            return Standing.UNCHECKED, "too large to solve here"
        return _verdict(proven, "some order costs less")

    def _potentials(self, claim: Claim) -> tuple[Standing, str]:
        """``leave[i] + enter[j]`` must not exceed the runs that begin at class j when it follows class i."""
        if not self._goal.counts_runs or claim.accesses:
            return Standing.WRONG, "potentials bound the runs of all accesses, nothing else"
        total = 0
        given = {own.block: own for own in claim.potentials}
        for b, block in enumerate(self._problem.blocks):
            starts = self._starts(b)
            own = given.pop(block.name, None)
            if block.pinned:
                total += int(np.diagonal(starts, 1).sum())
            elif own is not None:
                if flaw := _undercut(starts, own):
                    return Standing.WRONG, f"block {block.name}: {flaw}"
                total += sum(own.leave) + sum(own.enter)
        if given:
            return Standing.WRONG, f"there is no block {next(iter(given))!r}"
        return _verdict(claim.bound <= total, f"the potentials add up to {total}")

    def _least_cost(self, accesses: tuple[int, ...]) -> LeastCost:
        """Lower and upper bound of the least cost of some accesses, in ticks of the whole problem; cached."""
        if accesses not in self._least:
            part = self._problem.restricted(accesses)
            own = least_cost(part, self._goal)
            bounds = [self._goal.converted(own, part=part, whole=self._problem) for own in (own.lower, own.upper)]
            self._least[accesses] = LeastCost(*bounds)
        return self._least[accesses]

    def _at_least(self, accesses: tuple[int, ...], bound: int) -> bool | None:
        """Whether some accesses without the others cost at least so much; None if that is too much work."""
        return cost_at_least(self._problem.restricted(accesses), self._goal, bound)

    def _views(self, accesses: tuple[int, ...]) -> bool | None:
        if accesses not in self._can_be_views:
            self._can_be_views[accesses] = can_all_be_views(self._problem, accesses)
        return self._can_be_views[accesses]

    def _starts(self, b: int) -> np.ndarray:
        """Runs that begin at node j when it follows node i; int64, shape (num_classes + 1,) * 2. Nodes as in proofs."""
        classes = self._problem.classes
        own = classes.of_block(b)
        starts = np.zeros((len(own) + 1,) * 2, dtype=np.int64)
        for r in self._problem.readers_of(b):
            kept = np.concatenate([[False], classes.signature[own, r]])
            weight = self._problem.accesses[self._problem.readers[r].access].weight
            starts += weight * (~kept[:, np.newaxis] & kept)
            if self._problem.readers[r].slot > 0 and self._problem.reads[r - 1].any():
                starts[0] -= weight * kept  # the run may have begun in the block before
        return starts


def _verdict(right: bool, otherwise: str) -> tuple[Standing, str]:
    return (Standing.VERIFIED, "") if right else (Standing.WRONG, otherwise)


def _undercut(starts: np.ndarray, own: Potentials) -> str:
    """The error in the potentials of a block; empty if they are right."""
    if len(own.leave) != len(starts):
        return f"{len(own.leave)} potentials for {len(starts)} nodes"
    excess = np.add.outer(np.array(own.leave), np.array(own.enter)) - starts
    np.fill_diagonal(excess, 0)
    i, j = np.unravel_index(int(excess.argmax()), excess.shape)
    return f"node {i} followed by node {j} begins {starts[i, j]} runs only" if excess[i, j] > 0 else ""
