"""Check a claim from obstructions: every one is one, and what the accesses pay for over-reading pays for all of them.

An obstruction shares its weight among channels that all accesses in obstructions treat alike: each can take another's
place in it. What an access then pays for a channel is a price; what it pays for all its obstructions is a cap. Its cost
at every span must be at least what it pays alone, and price times over-read channels or the cap, whichever is lower
(docs/model.md, "Proofs").
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from problems.checker.consecutive_ones import Part, parts_of
from problems.objectives import Objective
from problems.obstructions import Obstruction
from problems.problem import Problem


def bound_of_obstructions(
    problem: Problem, objective: Objective, obstructions: Sequence[Obstruction]
) -> tuple[int, str]:
    """The bound on the cost of all accesses that obstructions give, and what is wrong with them (empty if nothing is).

    Examples
    --------
    >>> from problems import OBJECTIVES, Access, Block
    >>> reads = ([1, 1, 0], [0, 1, 1], [1, 0, 1])
    >>> problem = Problem((Block("x", 3),), tuple(Access(f"a{i}", (0,), np.array(k)) for i, k in enumerate(reads)))
    >>> one = Obstruction("x", (0, 1, 2), (("a1",), ("a2",), ("a0",)), Fraction(1))
    >>> bound_of_obstructions(problem, OBJECTIVES["span"], [one])
    (1, '')
    >>> bound_of_obstructions(problem, OBJECTIVES["span"], [one, one])
    (0, 'access a0 pays for more than it costs')
    """
    if objective.counts_runs:
        return 0, "obstructions bound what is paid for spans, not runs"
    sums = _Loads(problem)
    for own in obstructions:
        if flaw := sums.add(own):
            return 0, flaw
    base = 0
    for a, access in enumerate(problem.accesses):
        least, flaw = sums.covered(a, objective)
        if flaw:
            return 0, f"access {access.name} {flaw}"
        base += least
    return base + math.ceil(sum((own.weight for own in obstructions), Fraction(0))), ""


class _Loads:
    """What accesses pay for obstructions."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._access = {access.name: a for a, access in enumerate(problem.accesses)}
        self._block = {block.name: b for b, block in enumerate(problem.blocks)}
        self._parts: list[dict[int, list[Part]]] = []
        self._unwanted: list[int] = []
        for a in range(len(problem.accesses)):
            by_block = defaultdict[int, list[Part]](list)
            parts, unwanted = parts_of(problem, a)
            for part in parts:
                by_block[part.block].append(part)
            self._parts.append(by_block)
            self._unwanted.append(unwanted)
        self._place = [{int(c): k for k, c in enumerate(stored)} for stored in problem.stored]
        self._members: list[set[int]] = [set() for _ in problem.blocks]
        self._cells: dict[tuple[int, int, int], Fraction] = defaultdict(Fraction)
        self._all: dict[int, Fraction] = defaultdict(Fraction)

    def add(self, own: Obstruction) -> str:
        """Test an obstruction and count its weight; what is wrong with it, or nothing."""
        b = self._block.get(own.block)
        if b is None:
            return f"there is no block {own.block!r}"
        size = self._problem.blocks[b].size
        for channel in own.channels:
            if channel not in (-1, size) and channel not in self._place[b]:
                return f"block {own.block} stores no channel {channel}"
        paying: set[int] = set()
        for i, (apart, chain) in enumerate(zip(own.channels, own.chains)):
            first, last = (channel for j, channel in enumerate(own.channels) if j != i)
            if apart in (-1, size):
                if chain:
                    return f"an end of block {own.block} lies between no channels; it needs no chain"
                continue
            unknown = [name for name in chain if name not in self._access]
            if unknown:
                return f"there is no access {unknown[0]!r}"
            accesses = [self._access[name] for name in chain]
            if flaw := self._chain(b, accesses, apart, first, last):
                return f"the chain {', '.join(chain)} of block {own.block} {flaw}"
            for a in set(accesses):
                self._cells[a, b, apart] += own.weight
            paying |= set(accesses)
        for a in paying:
            self._all[a] += own.weight
        self._members[b] |= paying
        return ""

    def covered(self, a: int, objective: Objective) -> tuple[int, str]:
        """The least cost of an access, and whether it costs less than it pays for at some span (in words)."""
        problem, access = self._problem, self._problem.accesses[a]
        width = sum(len(problem.stored[b]) for b in access.blocks)
        excess = np.arange(self._unwanted[a], width - access.num_kept + 1)
        runs = np.where(excess > 0, 2, 1)
        costs = objective.costs(access, access.num_kept + excess, runs, ticks=objective.ticks_of(problem))
        base = int(costs.min())
        price, cap = self._price(a), self._all[a]
        for e, cost in zip(excess.tolist(), costs.tolist()):
            if min(price * (e - self._unwanted[a]), cap) > cost - base:
                return base, "pays for more than it costs"
        return base, ""

    def _chain(self, b: int, accesses: list[int], apart: int, first: int, last: int) -> str:
        """What is wrong with a chain that should join two channels apart from a third; or nothing."""
        parts: list[Part] = []
        for a in accesses:
            own = self._parts[a].get(b, [])
            if len(own) != 1:
                return f"has {self._problem.accesses[a].name}, which does not read that block once"
            parts += own
        if not parts or not self._keeps(parts[0], first) or not self._keeps(parts[-1], last):
            return f"does not join channels {first} and {last}"
        if any(self._keeps(part, apart) for part in parts):
            return f"keeps channel {apart}"
        for part, after in pairwise(parts):
            same_end = (part.from_start and after.from_start) or (part.to_end and after.to_end)
            if not same_end and not (part.kept & after.kept).any():
                return "has accesses that share no channel"
        return ""

    def _keeps(self, part: Part, channel: int) -> bool:
        if channel == -1:
            return part.from_start
        if channel == self._problem.blocks[part.block].size:
            return part.to_end
        return bool(part.kept[self._place[part.block][channel]])

    def _price(self, a: int) -> Fraction:
        """The most that an access pays for one channel, weights shared among channels that are alike."""
        load: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
        size: dict[tuple[int, int], int] = {}
        for (own, b, channel), weight in self._cells.items():
            if own != a:
                continue
            label, number = self._alike(b, channel)
            load[b, label] += weight
            size[b, label] = number
        return max((weight / size[key] for key, weight in load.items()), default=Fraction(0))

    def _alike(self, b: int, channel: int) -> tuple[int, int]:
        """The first channel (as a place) that accesses in obstructions treat as this one, and how many there are."""
        kept = np.stack([self._parts[a][b][0].kept for a in sorted(self._members[b])])
        alike = np.flatnonzero((kept == kept[:, [self._place[b][channel]]]).all(axis=0))
        return int(alike[0]), len(alike)
