"""A weaker graph whose elimination fits into memory: variables are split into copies that need not agree.

A graph with copies has every assignment of the exact one, and more. So its bounds hold, but its best assignment need
not be a choice. Copies are the variables of mini-buckets.

Notes
-----
Dechter and Rish, "Mini-buckets: a general scheme for bounded inference", Journal of the ACM 50, 2003.
"""

from __future__ import annotations

from dataclasses import replace

from solvers.widths.buckets import MAX_ENTRIES, Bucket, TooWideError, buckets_of
from solvers.widths.factors import Factor, Graph, Sum


def eliminable(graph: Graph, max_entries: int = MAX_ENTRIES) -> tuple[Graph, list[Bucket]]:
    """The graph and its buckets; if they are too large, a graph with copies.

    Raises
    ------
    SolverError
        If a single table is too large.
    """
    while True:
        try:
            return graph, buckets_of(graph, max_entries)
        except TooWideError as error:
            degrees = {v: len(_neighbours(graph, v)) for v in error.left}
            hub = max(error.left, key=lambda v: (degrees[v], len(graph.values[v]), -v))
            if degrees[hub] < 2:
                raise
            graph = _split(graph, hub)


def _neighbours(graph: Graph, v: int) -> list[Factor | Sum]:
    """Factors over `v` and another variable, and sums with `v`, in the order of the network."""
    found: list[Factor | Sum] = [f for f in graph.factors if v in f.scope and len(f.scope) > 1]
    found += [own for own in graph.sums if v in own.scope]
    return sorted(found, key=lambda own: [u for u in own.scope if u != v])


def _split(graph: Graph, v: int) -> Graph:
    """The later half of what reads `v` reads a copy of it instead. The loss is divided between both."""
    copy = len(graph.values)
    things = _neighbours(graph, v)
    moved = {id(own) for own in things[len(things) // 2 :]}
    factors: list[Factor] = []
    for factor in graph.factors:
        if factor.scope == (v,):
            half = Factor((copy,), factor.loss // 2, factor.time // 2)
            factors += [half, Factor((v,), factor.loss - half.loss, factor.time - half.time)]
        elif id(factor) in moved:
            other = next(u for u in factor.scope if u != v)
            axes = (0, 1) if factor.scope.index(v) == 1 else (1, 0)
            factors.append(Factor((other, copy), factor.loss.transpose(axes), factor.time.transpose(axes)))
        else:
            factors.append(factor)
    sums = tuple(_renamed(own, v, copy) if id(own) in moved else own for own in graph.sums)
    origin = graph.copied.get(v, v)
    return replace(
        graph,
        values=(*graph.values, graph.values[v]),
        factors=tuple(factors),
        sums=sums,
        copied={**graph.copied, copy: origin},
    )


def _renamed(own: Sum, v: int, copy: int) -> Sum:
    names = {field: copy for field in ("total", "first", "second") if getattr(own, field) == v}
    return replace(own, **names)
