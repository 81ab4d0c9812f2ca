"""Exact minimisation of ``loss_weight * loss + time_weight * time`` over all assignments, by variable elimination.

All numbers are int64 and far enough from its limits that every sum is exact. `INFINITE` stands for assignments that do
not exist; sums with it are cut back to it.

Notes
-----
Dechter, "Bucket elimination: a unifying framework for reasoning", Artificial Intelligence 113, 1999.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from solvers.widths.buckets import Axes, Bucket, axes_of, buckets_of, joined
from solvers.widths.factors import Graph, Scope

MAX_COST = 2**55  # cost: of any assignment
INFINITE = 2**57  # cost: of what does not exist; 2^5 of them can be added
_TERMS = 24  # terms: that are added before the sum is cut back


class Weights:
    """Whole weights of loss and time whose quotient is (nearly) a multiplier, and which keep all costs exact.

    Attributes
    ----------
    loss, time
        The weights, at least 0; not both 0. If ``loss`` is 0, only the time is minimised.
    """

    def __init__(self, graph: Graph, multiplier: Fraction | None) -> None:
        most_loss = sum(int(f.loss.max()) for f in graph.factors)
        most_time = sum(int(f.time.max()) for f in graph.factors)
        numerator, denominator = (1, 0) if multiplier is None else (multiplier.numerator, multiplier.denominator)
        worst = denominator * most_loss + numerator * most_time
        self.loss, self.time = denominator, numerator
        if worst > MAX_COST:
            self.loss, self.time = (own * MAX_COST // worst for own in (denominator, numerator))
        if self.loss == 0 and self.time == 0:
            self.time = 1

    def cost(self, loss: int, time: int) -> int:
        """The weighted sum, as a Python int."""
        return self.loss * loss + self.time * time

    def limit(self, loss: int, time: int) -> int:
        """What an assignment of at most that loss and time costs at most; below `INFINITE`, so int64 holds it."""
        return min(self.cost(loss, time), INFINITE - 1)


class Tree:
    """The buckets of a graph with their axes: prepared once, used for every multiplier."""

    def __init__(self, graph: Graph, buckets: list[Bucket] | None = None) -> None:
        self.graph = graph
        self.buckets = buckets_of(graph) if buckets is None else buckets
        self.axes: list[Axes] = [axes_of(bucket, graph) for bucket in self.buckets]
        self.parents = [-1] * len(self.buckets)
        for b, bucket in enumerate(self.buckets):
            for child in bucket.children:
                self.parents[child] = b


class Elimination:
    """The least cost for one pair of weights, with every bucket's table and message.

    Attributes
    ----------
    tables
        Per bucket the least cost of what was joined there and below; int64, shape of the bucket's axes.
    messages
        Per bucket its table minimised over the variable; int64, shape of the separator.
    least
        The least cost of an assignment; `INFINITE` if none exists.
    """

    def __init__(self, tree: Tree, weights: Weights) -> None:
        self.tree, self.weights = tree, weights
        self.tables: list[np.ndarray] = []
        self.messages: list[np.ndarray] = []
        for bucket, axes in zip(tree.buckets, tree.axes):
            table = self._table(bucket, axes)
            self.tables.append(table)
            free = bucket.determining is not None
            self.messages.append(table if free else table.min(axis=bucket.scope.index(bucket.variable)))
        self.least = int(self.messages[-1])

    def _table(self, bucket: Bucket, axes: Axes) -> np.ndarray:
        table = np.zeros(axes.shape, dtype=np.int64)
        graph, weights = self.tree.graph, self.weights
        for f in bucket.factors:
            factor = graph.factors[f]
            table += axes.read(joined(factor, weights.loss, weights.time), factor.scope)
        for terms, child in enumerate(bucket.children, start=1):
            table += axes.read(self.messages[child], self.tree.buckets[child].separator)
            if terms % _TERMS == 0:
                np.minimum(table, INFINITE, out=table)
        if axes.forbidden is not None:
            np.copyto(table, INFINITE, where=axes.forbidden)
        np.minimum(table, INFINITE, out=table)
        return table

    def assignment(self) -> list[int]:
        """Places of an assignment of least cost, per variable. Ties: the narrowest width, from the root down."""
        graph = self.tree.graph
        places = [-1] * len(graph.values)
        for bucket, axes, table in zip(
            reversed(self.tree.buckets), reversed(self.tree.axes), reversed(self.tables), strict=True
        ):
            v = bucket.variable
            if bucket.determining is None:
                places[v] = int(table[tuple(slice(None) if u == v else places[u] for u in bucket.scope)].argmin())
            else:
                index = axes.index[v]
                places[v] = int(index[tuple(min(places[u], n - 1) for u, n in zip(bucket.scope, index.shape))])
        return places

    def outside(self) -> list[np.ndarray]:
        """Per bucket the least cost of everything that was not joined there or below; int64, shape of the separator.

        Where a separator's message is infinite, so is this.
        """
        outside: list[np.ndarray] = [np.zeros(0)] * len(self.tree.buckets)
        outside[-1] = np.zeros((), dtype=np.int64)
        for b in range(len(self.tree.buckets) - 1, -1, -1):
            whole = self.whole(b, outside[b])
            for child in self.tree.buckets[b].children:
                outside[child] = self._outside_of(child, b, whole)
        return outside

    def whole(self, b: int, outside: np.ndarray) -> np.ndarray:
        """Per entry of a bucket's table the least cost of all assignments with it."""
        bucket, axes = self.tree.buckets[b], self.tree.axes[b]
        return np.minimum(self.tables[b] + axes.read(outside, bucket.separator), INFINITE)

    def _outside_of(self, child: int, parent: int, whole: np.ndarray) -> np.ndarray:
        bucket, axes = self.tree.buckets[parent], self.tree.axes[parent]
        separator = self.tree.buckets[child].separator
        message = self.messages[child]
        least = minimum_over(whole, bucket, axes, separator, message.shape)
        return np.where((least >= INFINITE) | (message >= INFINITE), INFINITE, least - message)

    def marginals(self, outside: list[np.ndarray]) -> list[np.ndarray]:
        """Per variable and value the least cost of all assignments with that value; int64."""
        found: list[np.ndarray] = [np.zeros(0)] * len(self.tree.graph.values)
        for b, (bucket, axes) in enumerate(zip(self.tree.buckets, self.tree.axes)):
            v = bucket.variable
            shape = (len(self.tree.graph.values[v]),)
            found[v] = minimum_over(self.whole(b, outside[b]), bucket, axes, (v,), shape)
        return found


def minimum_over(whole: np.ndarray, bucket: Bucket, axes: Axes, wanted: Scope, shape: tuple[int, ...]) -> np.ndarray:
    """Minimise a bucket's table over all axes but some variables, of which one may be the determined one."""
    if all(v in bucket.scope for v in wanted):
        return whole.min(axis=tuple(k for k, v in enumerate(bucket.scope) if v not in wanted))
    assert bucket.determining is not None
    needed = {*wanted, *bucket.determining.others(bucket.variable)}
    whole = whole.min(axis=tuple(k for k, v in enumerate(bucket.scope) if v not in needed), keepdims=True)
    found = np.full(math.prod(shape), INFINITE, dtype=np.int64)
    flat = np.broadcast_to(axes.flat(wanted, shape), whole.shape)
    np.minimum.at(found, flat.reshape(-1), whole.reshape(-1))
    return found.reshape(shape)
