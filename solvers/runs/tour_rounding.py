"""Orders from points of the tour program: edges are joined, heaviest first, then what is left, nearest first.

A whole point without subtours is an order itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from solvers.runs.tour_graph import BlockGraph, RunGraph
from solvers.runs.tour_program import Edges


def rounded_sequences(graph: RunGraph, edges: Sequence[Edges], x: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Join edges to paths, heaviest first, then the paths' ends, nearest first.

    Parameters
    ----------
    graph
        The graph.
    edges
        Tails and heads of the edges per block.
    x
        Per block their values, float.

    Returns
    -------
    list of np.ndarray
        Per block a permutation of its classes.
    """
    return [_joined(own, u, v, values) for own, (u, v), values in zip(graph.blocks, edges, x)]


def _joined(own: BlockGraph, u: np.ndarray, v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One path from the start to the end through all classes."""
    paths = _Paths(own)
    by_weight = np.lexsort((own.far[u, v], -x))
    by_weight = by_weight[x[by_weight] > 0.05]
    for s, t in zip(u[by_weight].tolist(), v[by_weight].tolist()):
        paths.join(s, t)
    while paths.open:
        ends = np.flatnonzero(paths.room > 0)
        label = np.array([paths.root(int(node)) for node in ends])
        apart = np.where(label[:, np.newaxis] == label, np.inf, own.far[np.ix_(ends, ends)])
        ranked = np.argsort(apart, axis=None, kind="stable")[: 4 * len(ends)]
        for k in ranked.tolist():
            i, j = divmod(k, len(ends))
            if np.isfinite(apart[i, j]):
                paths.join(int(ends[i]), int(ends[j]))
    if own.num_ends == 1:
        paths.close()
    return paths.sequence()


class _Paths:
    """Paths that grow together; the start and the end of the block may only meet last."""

    def __init__(self, own: BlockGraph) -> None:
        self._own = own
        num = len(own.far)
        self.room = np.full(num, 2)
        if own.num_ends == 2:
            self.room[own.num_classes :] = 1
        self.open = num - 1
        self._near: list[list[int]] = [[] for _ in range(num)]
        self._parent = list(range(num))

    def root(self, node: int) -> int:
        """Names the path a node is on."""
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def join(self, s: int, t: int) -> None:
        """Join two paths at their ends, if that closes no ring and does not leave other classes out."""
        a, b = self.root(s), self.root(t)
        if a == b or self.room[s] == 0 or self.room[t] == 0:
            return
        ends = range(self._own.num_classes, len(self._near))
        if len(ends) == 2 and self.open > 1 and {self.root(ends[0]), self.root(ends[1])} == {a, b}:
            return
        self._near[s].append(t)
        self._near[t].append(s)
        self.room[[s, t]] -= 1
        self._parent[a] = b
        self.open -= 1

    def close(self) -> None:
        """Join the ends of the only path."""
        s, t = np.flatnonzero(self.room > 0).tolist()
        self._near[s].append(t)
        self._near[t].append(s)

    def sequence(self) -> np.ndarray:
        """The classes from the start on."""
        before, here = -1, self._own.num_classes
        found: list[int] = []
        while len(found) < self._own.num_classes:
            before, here = here, next(node for node in self._near[here] if node != before)
            found.append(here)
        return np.array(found, dtype=np.int64)
