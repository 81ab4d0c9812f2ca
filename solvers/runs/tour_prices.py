"""What whole-number prices prove about the tours of a run graph: bounds, and edges that no better tour uses.

Lagrangian duality: whatever the prices are, the bound holds, and it is computed without rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solvers.runs.tour_cuts import Cut
from solvers.runs.tour_graph import RunGraph

SCALE = 2**16  # parts: of a run in whole-number prices: bounds lose at most a part per class

_FORBIDDEN = np.int64(2**40)  # price: of an edge that is not allowed, above any tour's


@dataclass(frozen=True, eq=False)
class Choices:
    """Which edges may and must be used; per graph symmetric Boolean matrices of the nodes."""

    allowed: tuple[np.ndarray, ...]
    forced: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, graph: RunGraph) -> Choices:
        """All edges."""
        allowed, forced = [], []
        for own in graph.blocks:
            free = ~np.eye(len(own.far), dtype=bool)
            free[own.num_classes :, own.num_classes :] = False
            allowed.append(free)
            forced.append(np.zeros_like(free))
        return cls(tuple(allowed), tuple(forced))

    def copy(self) -> Choices:
        """Arrays of its own."""
        return Choices(tuple(m.copy() for m in self.allowed), tuple(m.copy() for m in self.forced))

    def restrict(self, paths: Sequence[Sequence[np.ndarray]]) -> None:
        """Drop edges that are on none of several paths and not forced, in place; a path is one of nodes per graph."""
        for i, (allowed, forced) in enumerate(zip(self.allowed, self.forced)):
            used = forced.copy()
            for path in paths:
                used[path[i][:-1], path[i][1:]] = used[path[i][1:], path[i][:-1]] = True
            allowed &= used

    def narrow(self, proven: Certified, cutoff: int) -> None:
        """Drop edges that would lift the bound above the cutoff, and force those whose absence would, in place."""
        room = max(0, cutoff - proven.bound)
        for allowed, forced, reduced in zip(self.allowed, self.forced, proven.reduced):
            free = allowed & ~forced
            allowed[free & (reduced > room)] = False
            forced[free & (-reduced > room)] = True

    def force(self, i: int, u: int, v: int, degree: np.ndarray) -> None:
        """Force an edge of graph i if its nodes can bear it, and drop the other edges of complete nodes, in place."""
        forced, allowed = self.forced[i], self.allowed[i]
        if not allowed[u, v] or forced[u].sum() >= degree[u] or forced[v].sum() >= degree[v]:
            return
        forced[[u, v], [v, u]] = True
        for node in (u, v):
            if forced[node].sum() >= degree[node]:
                allowed[node] = allowed[:, node] = forced[node]


@dataclass(frozen=True, eq=False)
class Prices:
    """Whole-number multipliers, in units of 1 / SCALE."""

    nodes: tuple[np.ndarray, ...]
    tails: tuple[np.ndarray, ...]
    heads: tuple[np.ndarray, ...]
    cuts: np.ndarray


@dataclass(frozen=True, eq=False)
class Certified:
    """What whole-number prices prove.

    Attributes
    ----------
    bound
        No tour with these choices has less changes, times SCALE.
    reduced
        int64 per graph: reduced costs of edges, huge where they are not allowed.
    links
        int64 per link: reduced costs.
    """

    bound: int
    reduced: tuple[np.ndarray, ...]
    links: tuple[np.ndarray, ...]


def certified(graph: RunGraph, cuts: Sequence[Cut], prices: Prices, choices: Choices) -> Certified:
    """What prices prove about all tours with these choices.

    Parameters
    ----------
    graph, cuts
        The graph, and inequalities that all its tours meet.
    prices
        Any whole numbers; those of cuts are not negative.
    choices
        The edges.
    """
    bound = graph.constant * SCALE
    reduced = []
    for i, own in enumerate(graph.blocks):
        price = prices.nodes[i]
        bound += int(own.degree @ price)
        reduced.append(own.far * SCALE - price[:, np.newaxis] - price)
    for i in range(len(graph.blocks)):
        chosen = [k for k, cut in enumerate(cuts) if cut.block == i and prices.cuts[k] > 0]
        if not chosen:
            continue
        weight = prices.cuts[chosen]
        bound += int(sum(int(w) * cuts[k].rhs for w, k in zip(weight, chosen)))
        inside = np.stack([cuts[k].inside for k in chosen]).astype(np.float64)
        load = weight @ inside
        both = (inside.T * weight) @ inside
        reduced[i] -= np.rint(load[:, np.newaxis] + load - 2 * both).astype(np.int64)
        for w, k in zip(weight, chosen):
            u, v = cuts[k].teeth.T
            reduced[i][u, v] += 2 * w
            reduced[i][v, u] += 2 * w
    links = []
    for link, mu, nu in zip(graph.links, prices.tails, prices.heads):
        own = link.far * SCALE - mu[:, np.newaxis] - nu
        bound += int(own.min())
        links.append(own)
        n, end = len(mu), len(graph.blocks[link.tail].far) - 1
        reduced[link.tail][:n, end] += mu
        reduced[link.tail][end, :n] += mu
        n = start = len(nu)
        reduced[link.head][:n, start] += nu
        reduced[link.head][start, :n] += nu
    for i, (allowed, forced) in enumerate(zip(choices.allowed, choices.forced)):
        upper = np.triu(reduced[i])
        bound += int(upper[allowed & ((upper < 0) | forced)].sum())
        reduced[i] = np.where(allowed, reduced[i], _FORBIDDEN)
    return Certified(bound, tuple(reduced), tuple(links))
