"""In which order variables are eliminated, and what each elimination joins: a tree of buckets.

Eliminating a variable joins all factors, sums and messages that contain it, and leaves a message over their other
variables. If a sum fixes the variable, nothing has to be minimised: its value follows from two others. So the table of
that bucket does not have an axis for it, and long concatenations stay cheap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from solvers.common.errors import SolverError
from solvers.widths.factors import Factor, Graph, Scope, Sum

MAX_ENTRIES = 2**22  # entries: of the table of a bucket; 8 bytes each, and a few tables exist at a time


MAX_AXES = 24  # axes: of the table of a bucket; NumPy has a limit of its own, and some functions fail below it


class TooWideError(SolverError):
    """The order found needs a table of more than the permitted entries.

    Attributes
    ----------
    left
        The variables that were not yet eliminated.
    """

    def __init__(self, entries: int, left: set[int]) -> None:
        super().__init__(f"an elimination needs a table of {entries} entries; use coarser widths, or 'cp-sat'")
        self.left = left


@dataclass(eq=False)
class Bucket:
    """The elimination of one variable.

    Attributes
    ----------
    variable
        The variable.
    scope
        Axes of the bucket's table: `separator`, and the variable unless it is determined; ascending.
    separator
        Axes of the message.
    factors
        Indices of the graph's factors that are joined here.
    determining
        The sum that fixes the variable, or None.
    checks
        Other sums that contain the variable.
    children
        Buckets whose messages are joined here.
    """

    variable: int
    scope: Scope
    separator: Scope
    factors: list[int]
    determining: Sum | None
    checks: list[Sum]
    children: list[int] = field(default_factory=list)


def buckets_of(graph: Graph, max_entries: int = MAX_ENTRIES) -> list[Bucket]:
    """Buckets in order of elimination. The last is the root: messages without variables are joined there.

    The next variable is always the one whose elimination needs the smallest table.

    Raises
    ------
    TooWideError
        If a table would have more than `max_entries`.
    """
    sizes = [len(own) for own in graph.values]
    waiting: list[tuple[Scope, int, str]] = [(f.scope, i, "factor") for i, f in enumerate(graph.factors)]
    waiting += [(own.scope, i, "sum") for i, own in enumerate(graph.sums)]
    of_variable: list[set[tuple[Scope, int, str]]] = [set() for _ in sizes]
    for thing in waiting:
        for v in thing[0]:
            of_variable[v].add(thing)
    rootless = [thing for thing in waiting if not thing[0]]
    left = set(range(len(sizes)))
    prices = {v: _price(v, of_variable[v], graph, sizes) for v in left}
    found: list[Bucket] = []
    while left:
        v = min(left, key=lambda own: (prices[own], own))
        if prices[v][0] > max_entries or prices[v][2] > MAX_AXES:
            raise TooWideError(prices[v][0], left)
        things = sorted(of_variable[v], key=lambda own: (own[2], own[1]))
        bucket = _bucket(v, things, graph)
        found.append(bucket)
        left.discard(v)
        for thing in things:
            for u in thing[0]:
                of_variable[u].discard(thing)
        message = (bucket.separator, len(found) - 1, "message")
        if not message[0]:
            rootless.append(message)
        for u in bucket.separator:
            of_variable[u].add(message)
        for u in {u for thing in things for u in thing[0]} & left:
            prices[u] = _price(u, of_variable[u], graph, sizes)
    root = found[-1]
    root.factors += [i for _, i, kind in rootless if kind == "factor"]
    root.children += [i for _, i, kind in rootless if kind == "message" and i < len(found) - 1]
    return found


def _determining(v: int, sums: list[Sum], sizes: list[int]) -> Sum | None:
    """The sum by which to replace a variable: that of the fewest values of the two others."""
    return min(sums, key=lambda own: (math.prod(sizes[u] for u in own.others(v)), own.total), default=None)


def _price(v: int, things: set[tuple[Scope, int, str]], graph: Graph, sizes: list[int]) -> tuple[int, int, int]:
    """Entries of the table that eliminates a variable, entries of its message, and axes."""
    scope = {u for thing in things for u in thing[0]} | {v}
    rest = math.prod(sizes[u] for u in scope if u != v)
    determined = any(kind == "sum" for _, _, kind in things)
    return (rest if determined else rest * sizes[v]), rest, len(scope)


def _bucket(v: int, things: list[tuple[Scope, int, str]], graph: Graph) -> Bucket:
    sums = [graph.sums[i] for _, i, kind in things if kind == "sum"]
    scope = tuple(sorted({u for thing in things for u in thing[0]} | {v}))
    determining = _determining(v, sums, [len(own) for own in graph.values])
    separator = tuple(u for u in scope if u != v)
    return Bucket(
        v,
        scope if determining is None else separator,
        separator,
        [i for _, i, kind in things if kind == "factor"],
        determining,
        [own for own in sums if own is not determining],
        [i for _, i, kind in things if kind == "message"],
    )


@dataclass(eq=False)
class Axes:
    """Places of all variables along the axes of a bucket's table, for reading other tables into it.

    Attributes
    ----------
    scope
        Axes of the bucket's table.
    shape
        Its shape.
    index
        Per variable an index array that broadcasts over the table. That of a determined variable has 0 where it has no
        value.
    forbidden
        Where no assignment exists because a sum does not hold; Boolean, broadcasts over the table. None: nowhere.
    """

    scope: Scope
    shape: tuple[int, ...]
    index: dict[int, np.ndarray]
    forbidden: np.ndarray | None

    def read(self, table: np.ndarray, scope: Scope) -> np.ndarray:
        """A table over other variables, so that it broadcasts over the bucket's."""
        if all(v in self.scope for v in scope):
            return table.reshape(tuple(n if v in scope else 1 for v, n in zip(self.scope, self.shape)))
        return table.reshape(-1)[self.flat(scope, table.shape)]

    def flat(self, scope: Scope, shape: tuple[int, ...]) -> np.ndarray:
        """Where a table over other variables, in one row, has the entries of the bucket's; broadcasts over it."""
        return sum((step * self.index[v] for v, step in zip(scope, _steps(shape))), np.zeros((), dtype=np.int64))


def axes_of(bucket: Bucket, graph: Graph) -> Axes:
    """The axes of a bucket's table."""
    scope = bucket.scope
    shape = tuple(len(graph.values[v]) for v in scope)
    index = {v: _along(np.arange(n), k, len(scope)) for k, (v, n) in enumerate(zip(scope, shape))}
    forbidden = None
    if bucket.determining is not None:
        v = bucket.variable
        places = bucket.determining.places(v, graph.values)
        a, b = (scope.index(u) for u in bucket.determining.others(v))
        places = places.reshape(tuple(n if k in (a, b) else 1 for k, n in enumerate(shape)))
        index[v] = places.clip(min=0)
        forbidden = places < 0
    for check in bucket.checks:
        first = check.first_weight * graph.values[check.first][index[check.first]]
        second = check.second_weight * graph.values[check.second][index[check.second]]
        broken = graph.values[check.total][index[check.total]] != first + second
        forbidden = broken if forbidden is None else forbidden | broken
    return Axes(scope, shape, index, forbidden)


def _steps(shape: tuple[int, ...]) -> list[int]:
    """How far apart neighbours along each axis of a table in one row are."""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def _along(numbers: np.ndarray, axis: int, num_axes: int) -> np.ndarray:
    return numbers.reshape(tuple(-1 if k == axis else 1 for k in range(num_axes)))


def joined(factor: Factor, loss_weight: int, time_weight: int) -> np.ndarray:
    """``loss_weight * loss + time_weight * time`` of a factor."""
    return loss_weight * factor.loss + time_weight * factor.time
