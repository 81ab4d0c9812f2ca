"""Choose the cheapest accesses that stop being views, so that no conflict is left: a small branch and bound.

Every conflict demands that a minimum number of its accesses are given up as views. Used to check proofs from conflicts.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_NODES = 20_000
"""Nodes that the search visits before it gives up (some seconds)."""

Demand = tuple[frozenset[int], int]
"""A set of accesses, and the least number of them that must be given up."""


def cheapest_to_give_up(
    demands: Sequence[Demand], price: Sequence[int], *, enough: int, max_nodes: int = MAX_NODES
) -> tuple[int, frozenset[int]] | None:
    """The least price of accesses that meet all demands.

    Parameters
    ----------
    demands
        The minimum numbers to give up.
    price
        Price of giving up each access, not negative.
    enough
        Ignore sets that cost this much or more. If all do, the answer is that no cheaper set exists.
    max_nodes
        Most nodes of the search.

    Returns
    -------
    tuple or None
        The least price and a set that has it; ``(enough, empty set)`` if no set costs less than `enough`; None if the
        limit was reached.

    Examples
    --------
    >>> pairs = [(frozenset({0, 1}), 1), (frozenset({1, 2}), 1), (frozenset({0, 2}), 1)]
    >>> cheapest_to_give_up(pairs, [5, 6, 7], enough=100)
    (11, frozenset({0, 1}))
    >>> cheapest_to_give_up(pairs, [5, 6, 7], enough=11)
    (11, frozenset())
    """
    search = _Search(demands, price, enough, max_nodes)
    search.visit(frozenset(), frozenset())
    return None if search.nodes > max_nodes else (search.least, search.best)


class _Search:
    """Depth-first search: some accesses are given up, some are kept, the others are forced by the demands or tried."""

    def __init__(self, demands: Sequence[Demand], price: Sequence[int], enough: int, max_nodes: int) -> None:
        self._demands = demands
        self._price = price
        self._max_nodes = max_nodes
        self.least = enough
        self.best: frozenset[int] = frozenset()
        self.nodes = 0

    def visit(self, given: frozenset[int], kept: frozenset[int]) -> None:
        """Look for cheaper sets that hold all of `given` and none of `kept`."""
        self.nodes += 1
        if self.nodes > self._max_nodes:
            return
        while True:
            unmet = [(own - given - kept, need - len(own & given)) for own, need in self._demands]
            unmet = [(choice, need) for choice, need in unmet if need > 0]
            if any(len(choice) < need for choice, need in unmet):
                return
            forced = {a for choice, need in unmet if len(choice) == need for a in choice}
            if not forced:
                break
            given = given | forced
        cost = sum(self._price[a] for a in given)
        if cost + self._at_least(unmet) >= self.least:
            return
        if not unmet:
            self.least, self.best = cost, given
            return
        choice, _ = min(unmet, key=lambda demand: len(demand[0]) - demand[1])
        a = max(choice, key=lambda a: (sum(a in own for own, _ in unmet), self._price[a], -a))
        self.visit(given, kept | {a})
        self.visit(given | {a}, kept)

    def _at_least(self, unmet: list[Demand]) -> int:
        """A lower bound on the price of meeting the demands: each demand uses a part of the prices, others the rest."""
        rest = dict(enumerate(self._price))
        bound = 0
        for choice, need in sorted(unmet, key=lambda demand: len(demand[0]) - demand[1]):
            cheapest = sorted(rest[a] for a in choice)[:need]
            bound += sum(cheapest)
            for a in choice:
                rest[a] -= min(rest[a], cheapest[-1])
        return bound
