"""Checking a proof: every witness, and whether the witnesses give the bound; the why is in docs/model.md.

Everything is computed from the problem anew: the consecutive-ones test, the least costs of groups, what giving up views
costs. No solver is asked.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np

from problems.errors import ProblemError
from problems.giving_up import cheapest_to_give_up
from problems.least_costs import cost_unless_view, costs_alone, least_cost
from problems.problem import Problem
from problems.proofs import Conflict, GroupCost, Potentials, Proof
from problems.verdicts import Standing, Statement, Verdict
from problems.view_sets import can_all_be_views

MAX_SUBSETS = 20_000
"""Sets of accesses that are tested for one conflict."""


def check_proof(problem: Problem, proof: Proof) -> Verdict:
    """Check every witness of a proof, and whether they give the bound.

    Raises
    ------
    ProblemError
        If the proof names accesses or blocks that the problem does not have, or needs tables that it lacks.
    """
    check = _Check(problem, proof)
    statements = [check.conflict(own) for own in proof.conflicts]
    statements += [check.group(own) for own in proof.groups]
    if proof.groups:
        statements.append(check.multipliers())
    statements += [check.potentials(own) for own in proof.potentials]
    return Verdict((*statements, check.bound(statements)))


class _Check:
    """One problem and one proof."""

    def __init__(self, problem: Problem, proof: Proof) -> None:
        self._problem = problem
        self._proof = proof
        self._goal = proof.objective
        self._alone = costs_alone(problem, self._goal)
        self._index = {access.name: a for a, access in enumerate(problem.accesses)}
        self._can_be_views: dict[tuple[int, ...], bool | None] = {}

    def conflict(self, conflict: Conflict) -> Statement:
        """Every set of one access more than may be views must not be views together."""
        accesses = self._accesses(conflict.accesses)
        text = f"{conflict} can be views together"
        count = math.comb(len(accesses), conflict.views + 1)
        if count > MAX_SUBSETS:
            return Statement(text, Standing.UNCHECKED, f"{count} sets to test")
        unknown = 0
        for chosen in combinations(accesses, conflict.views + 1):
            possible = self._views(chosen)
            if possible:
                names = ", ".join(self._problem.accesses[a].name for a in chosen)
                return Statement(text, Standing.WRONG, f"{names} can")
            unknown += possible is None
        if unknown:
            return Statement(text, Standing.UNCHECKED, f"{unknown} sets are too hard to test")
        smaller = combinations(accesses, conflict.views) if math.comb(len(accesses), conflict.views) <= count else ()
        minimal = all(self._views(chosen) is not False for chosen in smaller)
        return Statement(text, Standing.VERIFIED, "" if minimal else "in fact fewer can")

    def group(self, group: GroupCost) -> Statement:
        """The accesses of a group, alone with all stored channels, must cost so much."""
        names = ", ".join(group.accesses)
        text = f"{names} together cost at least {group.cost}"
        own = least_cost(self._problem.restricted(self._accesses(group.accesses)), self._goal)
        if group.cost <= own.lower:
            return Statement(text, Standing.VERIFIED)
        if group.cost > own.upper:
            return Statement(text, Standing.WRONG, f"{own.upper} is enough")
        return Statement(text, Standing.UNCHECKED, "too large a group to solve here")

    def multipliers(self) -> Statement:
        """For every access the multipliers of its groups must add up to at most 1."""
        text = "no access counts more than once over the groups"
        worst = max(range(len(self._alone)), key=lambda a: self._load()[a])
        if self._load()[worst] > 1:
            name = self._problem.accesses[worst].name
            return Statement(text, Standing.WRONG, f"{name} counts {self._load()[worst]} times")
        return Statement(text, Standing.VERIFIED)

    def potentials(self, own: Potentials) -> Statement:
        """leave[i] + enter[j] must not exceed the runs that begin at class j when it follows class i."""
        text = f"no order of block {own.block} undercuts its potentials, {sum(own.leave) + sum(own.enter)} runs"
        if not self._goal.counts_runs:
            return Statement(text, Standing.WRONG, f"potentials say nothing about {self._goal.name}")
        starts = self._starts(own.block)
        if len(own.leave) != len(starts):
            return Statement(text, Standing.WRONG, f"{len(own.leave)} potentials for {len(starts)} nodes")
        excess = np.add.outer(np.array(own.leave), np.array(own.enter)) - starts
        np.fill_diagonal(excess, 0)
        if (excess > 0).any():
            i, j = np.unravel_index(int(excess.argmax()), excess.shape)
            return Statement(text, Standing.WRONG, f"node {i} followed by node {j} begins {starts[i, j]} runs only")
        return Statement(text, Standing.VERIFIED)

    def bound(self, statements: list[Statement]) -> Statement:
        """The witnesses must give the bound, or a search: that is repeated here if the problem is small."""
        proof = self._proof
        text = f"no order has a {self._goal.name} below {proof.bound}"
        standings = {statement.standing for statement in statements}
        given = max(sum(self._alone), self._from_groups(), self._from_potentials())
        conflicts = self._from_conflicts() if proof.conflicts and given < proof.bound else given
        enough = max(given, conflicts or 0) >= proof.bound
        if enough and standings <= {Standing.VERIFIED}:
            return Statement(text, Standing.VERIFIED)
        own = least_cost(self._problem, self._goal)
        if proof.bound > own.upper:
            return Statement(text, Standing.WRONG, f"one has {own.upper}")
        if Standing.WRONG in standings:
            return Statement(text, Standing.WRONG, "it rests on something wrong")
        if not enough and proof.search is None and conflicts is not None:
            return Statement(text, Standing.WRONG, f"the witnesses give {max(given, conflicts)}")
        if proof.bound <= own.lower:
            return Statement(text, Standing.VERIFIED, "by a search of the checker's own")
        if enough:
            return Statement(text, Standing.UNCHECKED, "it rests on statements that are not")
        if conflicts is None:
            return Statement(text, Standing.UNCHECKED, "too many conflicts to weigh against each other")
        return Statement(text, Standing.UNCHECKED, "it rests on a search: run the solver again")

    def _views(self, accesses: tuple[int, ...]) -> bool | None:
        if accesses not in self._can_be_views:
            self._can_be_views[accesses] = can_all_be_views(self._problem, accesses)
        return self._can_be_views[accesses]

    def _load(self) -> list[Fraction]:
        """Per access the sum of its groups' multipliers."""
        load = [Fraction(0)] * len(self._alone)
        for group in self._proof.groups:
            for a in self._accesses(group.accesses):
                load[a] += group.multiplier
        return load

    def _from_groups(self) -> int:
        """ceil(sum of multiplier * cost, and what is left of each access at its cost alone)."""
        total = sum((group.multiplier * group.cost for group in self._proof.groups), Fraction(0))
        total += sum((1 - load) * alone for load, alone in zip(self._load(), self._alone, strict=True))
        return math.ceil(total)

    def _from_potentials(self) -> int:
        """Sum over the blocks; a pinned block has the runs it has, another one without potentials counts 0."""
        if not self._proof.potentials:
            return 0
        given = {own.block: sum(own.leave) + sum(own.enter) for own in self._proof.potentials}
        for block in self._problem.blocks:
            if block.pinned:
                starts = self._starts(block.name)
                given[block.name] = int(np.diagonal(starts, 1).sum())
        return sum(given.values())

    def _from_conflicts(self) -> int | None:
        """Every access at its cost alone, and the cheapest ones that are no views; None if that is too hard."""
        demands = [(frozenset(self._accesses(c.accesses)), len(c.accesses) - c.views) for c in self._proof.conflicts]
        extra = [max(0, cost_unless_view(self._problem, self._goal, a) - alone) for a, alone in enumerate(self._alone)]
        least = cheapest_to_give_up(demands, extra, enough=max(0, self._proof.bound - sum(self._alone)))
        return None if least is None else sum(self._alone) + least[0]

    def _starts(self, name: str) -> np.ndarray:
        """Runs that begin at node j when it follows node i; int64, shape (num_classes + 1,) * 2, nodes as in proofs."""
        names = [block.name for block in self._problem.blocks]
        if name not in names:
            raise ProblemError(f"the proof names the block {name!r}, which {self._problem.name} does not have")
        b = names.index(name)
        classes = self._problem.classes
        starts = np.zeros((len(classes.of_block(b)) + 1,) * 2, dtype=np.int64)
        for r in self._problem.readers_of(b):
            kept = np.concatenate([[False], classes.signature[classes.of_block(b), r]])
            starts += ~kept[:, np.newaxis] & kept
            if self._problem.readers[r].slot > 0 and self._problem.reads[r - 1].any():
                starts[0] -= kept  # its run may have begun in the block before
        return starts

    def _accesses(self, names: tuple[str, ...]) -> tuple[int, ...]:
        for name in names:
            if name not in self._index:
                raise ProblemError(f"the proof names the access {name!r}, which {self._problem.name} does not have")
        return tuple(sorted(self._index[name] for name in names))
