"""All kept sets of all accesses, with all orders of what is stored: the joint problem as its definition reads.

It uses nothing of the product but the numbers of the problem: what is stored, spans, costs, losses and prices are
computed here in plain Python.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from problems import JointProblem

Order = Sequence[Sequence[int]]
Sets = Sequence[frozenset[int]]


class AllJointChoices:
    """A problem in plain numbers.

    Parameters
    ----------
    problem
        The problem.
    """

    def __init__(self, problem: JointProblem) -> None:
        self.blocks = [(own.size, own.pinned, own.removable, set(own.required)) for own in problem.blocks]
        self.accesses = [
            (list(own.blocks), own.importance.tolist(), own.width, own.required, own.price, own.channel_size)
            for own in problem.accesses
        ]
        self.alpha, self.gamma = problem.objective.alpha, problem.objective.gamma
        self.loss_price, self.stored_price = problem.loss_price, problem.stored_price
        besides = sum(
            self.loss_price * sum(importance) + price * len(importance)
            for _, importance, _, _, price, _ in self.accesses
        )
        besides += self.stored_price * sum(size for size, *_ in self.blocks)
        self.cost_price = 1 + besides if problem.cost_price is None else problem.cost_price

    def sets(self, a: int) -> list[frozenset[int]]:
        """All sets that an access may keep."""
        _, importance, width, required, _, _ = self.accesses[a]
        found = []
        for count in range(1, len(importance) + 1):
            for own in itertools.combinations(range(len(importance)), count):
                enough = required is None or sum(importance[p] for p in own) >= required
                if enough and width in (None, count):
                    found.append(frozenset(own))
        return found

    def stored(self, kept: Sets) -> list[list[int]]:
        """The channels of every block that are stored."""
        needed: list[set[int]] = [set() for _ in self.blocks]
        for (blocks, *_), own in zip(self.accesses, kept):
            offset = 0
            for b in blocks:
                needed[b] |= {p - offset for p in own if offset <= p < offset + self.blocks[b][0]}
                offset += self.blocks[b][0]
        found = []
        for (size, pinned, removable, required), own in zip(self.blocks, needed):
            found.append(list(range(size)) if pinned or not removable else sorted(own | required) or [0])
        return found

    def orders(self, kept: Sets) -> Iterator[Order]:
        """All orders of what is stored."""
        parts = [
            [own] if pinned else list(itertools.permutations(own))
            for (_, pinned, _, _), own in zip(self.blocks, self.stored(kept))
        ]
        return itertools.product(*parts)

    @property
    def number(self) -> int:
        """At least as many choices as there are."""
        sets = math.prod(len(self.sets(a)) for a in range(len(self.accesses)))
        return sets * math.prod(1 if pinned else math.factorial(size) for size, pinned, _, _ in self.blocks)

    def value(self, order: Order, kept: Sets) -> int:
        """The value of a choice."""
        total = self.stored_price * sum(len(own) for own in order)
        for (blocks, importance, _, _, price, size), own in zip(self.accesses, kept):
            line, offset = [], 0
            for b in blocks:
                line += [offset + c for c in order[b]]
                offset += self.blocks[b][0]
            places = [place for place, p in enumerate(line) if p in own]
            span = places[-1] - places[0] + 1
            ways = [0] if span == len(own) else []
            ways += [] if self.alpha is None else [self.alpha * (span - len(own))]
            ways += [] if self.gamma is None else [self.gamma * len(own)]
            lost = sum(weight for p, weight in enumerate(importance) if p not in own)
            total += self.cost_price * size * min(ways) + self.loss_price * lost + price * len(own)
        return total

    def least(self) -> int:
        """The least value of all choices."""
        return min(
            self.value(order, kept)
            for kept in itertools.product(*(self.sets(a) for a in range(len(self.accesses))))
            for order in self.orders(kept)
        )
