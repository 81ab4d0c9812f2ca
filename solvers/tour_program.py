"""The tours of a run graph as a linear program, with bounds that are checked in whole numbers.

Columns are edges and links, offered when they pay; rows are degrees, the ends of links, and cuts. Whatever the
floating-point solver says, its prices are rounded to whole numbers and every edge is priced with them (`certified`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csc_array

from solvers.tour_cuts import Cut
from solvers.tour_graph import RunGraph

SCALE = 2**16
_NEAR = 6
_FORBIDDEN = np.int64(2**40)

Edges = tuple[np.ndarray, np.ndarray]
"""Tails and heads, tails below heads."""


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


@dataclass(frozen=True, eq=False)
class Point:
    """An optimum of the program: values of the columns, and prices."""

    x: np.ndarray
    z: np.ndarray
    prices: Prices
    lacking: float


class TourProgram:
    """The program; cuts and columns are added to it.

    Parameters
    ----------
    graph
        The graph.
    sequences
        One path per graph, whose edges are columns from the start.
    """

    def __init__(self, graph: RunGraph, sequences: list[np.ndarray]) -> None:
        self.graph = graph
        self.cuts: list[Cut] = []
        self._keys: set[tuple[int, bytes, bytes]] = set()
        self._offset = np.cumsum([0] + [len(own.far) for own in graph.blocks])
        self.offered = [_near_edges(own.far, own.num_classes, own.num_ends) for own in graph.blocks]
        for own, nodes, offered in zip(graph.blocks, sequences, self.offered):
            path = np.concatenate([[own.num_classes], nodes, [len(own.far) - 1]])
            offered[path[:-1], path[1:]] = offered[path[1:], path[:-1]] = True
            offered[np.ix_(range(own.num_classes, len(own.far)), range(own.num_classes, len(own.far)))] = False
        self.linked = [_near_links(link.far) for link in graph.links]
        for link, offered in zip(graph.links, self.linked):
            offered[sequences[link.tail][-1], sequences[link.head][0]] = True
        most = max([own.far.max() for own in graph.blocks] + [link.far.max() for link in graph.links], default=1)
        self._lack = float(2 * most + 2)
        self._idle = np.zeros(0, dtype=np.int64)

    def add(self, cuts: list[Cut]) -> int:
        """Add cuts that are new; says how many."""
        new = [cut for cut in cuts if cut.key not in self._keys]
        self._keys |= {cut.key for cut in new}
        self.cuts += new
        self._idle = np.concatenate([self._idle, np.zeros(len(new), dtype=np.int64)])
        return len(new)

    def drop(self, prices: Prices, *, patience: int) -> None:
        """Drop cuts that had no price for a while."""
        self._idle = np.where(prices.cuts > 0, 0, self._idle + 1)
        keep = self._idle <= patience
        if not keep.all():
            self._keys -= {cut.key for cut, kept in zip(self.cuts, keep) if not kept}
            self.cuts = [cut for cut, kept in zip(self.cuts, keep) if kept]
            self._idle = self._idle[keep]

    def make_lacking_dearer(self) -> None:
        """Whole points that break a row must not pay."""
        self._lack *= 4

    def solve(self, choices: Choices, *, seconds: float) -> tuple[Point, list[Edges]] | None:
        """An optimum over the columns offered, and per graph their tails and heads; None if time runs out."""
        graph = self.graph
        edges = [_pairs(np.triu(offered & free)) for offered, free in zip(self.offered, choices.allowed)]
        pairs = [_pairs(offered) for offered in self.linked]
        cost = [own.far[u, v] for own, (u, v) in zip(graph.blocks, edges)]
        cost += [link.far[s, t] for link, (s, t) in zip(graph.links, pairs)]
        num_edges = sum(len(u) for u, _ in edges)
        first = np.cumsum([0] + [len(u) for u, _ in edges] + [len(s) for s, _ in pairs])
        rows, columns, values = [], [], []

        def put(row: np.ndarray, column: np.ndarray, value: np.ndarray | int) -> None:
            rows.append(row)
            columns.append(column)
            values.append(np.broadcast_to(value, row.shape))

        for i, (u, v) in enumerate(edges):
            own = first[i] + np.arange(len(u))
            put(self._offset[i] + u, own, 1)
            put(self._offset[i] + v, own, 1)
        at = self._offset[-1]
        for k, (link, (s, t)) in enumerate(zip(graph.links, pairs)):
            tail, head = graph.blocks[link.tail], graph.blocks[link.head]
            own = first[len(edges) + k] + np.arange(len(s))
            put(at + s, own, 1)
            put(at + tail.num_classes + t, own, 1)
            u, v = edges[link.tail]
            ends = np.flatnonzero(v == len(tail.far) - 1)
            put(at + u[ends], first[link.tail] + ends, -1)
            u, v = edges[link.head]
            starts = np.flatnonzero(v == head.num_classes)
            put(at + tail.num_classes + u[starts], first[link.head] + starts, -1)
            at += tail.num_classes + head.num_classes
        rhs = np.zeros(at)
        rhs[: self._offset[-1]] = np.concatenate([own.degree for own in graph.blocks])
        slack = np.arange(at)
        put(slack, first[-1] + slack, 1)
        put(slack, first[-1] + at + slack, -1)
        num = first[-1] + 2 * at
        equal = csc_array(
            coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(at, num))
        )
        rows, columns, values = [], [], []
        for k, cut in enumerate(self.cuts):
            u, v = edges[cut.block]
            coefficients = cut.coefficients(u, v)
            used = np.flatnonzero(coefficients)
            put(np.full(len(used), k), first[cut.block] + used, -coefficients[used])
        put(np.arange(len(self.cuts)), num + np.arange(len(self.cuts)), -1)
        total = num + len(self.cuts)
        equal.resize((at, total))
        below = csc_array(
            coo_array(
                (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
                shape=(len(self.cuts), total),
            )
        )
        limits = np.zeros((total, 2))
        limits[:, 1] = np.inf
        limits[:num_edges, 1] = 1
        limits[:num_edges, 0] = np.concatenate([m[u, v] for m, (u, v) in zip(choices.forced, edges)])
        prize = np.full(total, self._lack)
        prize[: first[-1]] = np.concatenate(cost)
        answer = linprog(
            prize,
            A_ub=below if self.cuts else None,
            b_ub=-np.array([float(cut.rhs) for cut in self.cuts]) if self.cuts else None,
            A_eq=equal,
            b_eq=rhs,
            bounds=limits,
            method="highs-ds",
            options={"time_limit": max(0.01, seconds)},
        )
        if answer.status != 0 or answer.x is None:
            return None
        prices = self._rounded(
            np.asarray(answer.eqlin.marginals), -np.asarray(answer.ineqlin.marginals) if self.cuts else np.zeros(0)
        )
        x = answer.x
        point = Point(x[:num_edges], x[num_edges : first[-1]], prices, float(x[first[-1] :].sum()))
        return point, edges

    def _rounded(self, equal: np.ndarray, cuts: np.ndarray) -> Prices:
        whole = np.rint(equal * SCALE).astype(np.int64)
        nodes = tuple(whole[a:b] for a, b in zip(self._offset, self._offset[1:]))
        tails, heads = [], []
        at = self._offset[-1]
        for link in self.graph.links:
            tail, head = self.graph.blocks[link.tail].num_classes, self.graph.blocks[link.head].num_classes
            tails.append(whole[at : at + tail])
            heads.append(whole[at + tail : at + tail + head])
            at += tail + head
        return Prices(nodes, tuple(tails), tuple(heads), np.maximum(0, np.rint(cuts * SCALE)).astype(np.int64))

    def certified(self, prices: Prices, choices: Choices) -> Certified:
        """What prices prove about all tours with these choices, offered as columns or not."""
        graph = self.graph
        bound = graph.constant * SCALE
        reduced = []
        for i, own in enumerate(graph.blocks):
            price = prices.nodes[i]
            bound += int(own.degree @ price)
            reduced.append(own.far * SCALE - price[:, np.newaxis] - price)
        for i in range(len(graph.blocks)):
            chosen = [k for k, cut in enumerate(self.cuts) if cut.block == i and prices.cuts[k] > 0]
            if not chosen:
                continue
            weight = prices.cuts[chosen]
            bound += int(sum(int(w) * self.cuts[k].rhs for w, k in zip(weight, chosen)))
            inside = np.stack([self.cuts[k].inside for k in chosen]).astype(np.float64)
            load = weight @ inside
            both = (inside.T * weight) @ inside
            reduced[i] -= np.rint(load[:, np.newaxis] + load - 2 * both).astype(np.int64)
            for w, k in zip(weight, chosen):
                u, v = self.cuts[k].teeth.T
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

    def offer(self, certified: Certified, *, most: int) -> int:
        """Make columns of the edges and links with the most negative reduced costs; says how many are new."""
        count = 0
        for offered, reduced in zip(self.offered, certified.reduced):
            count += _offer_best(offered, np.triu(np.where(offered, 0, reduced)), most)
            offered |= offered.T
        for offered, reduced in zip(self.linked, certified.links):
            count += _offer_best(offered, np.where(offered, 0, reduced - reduced[offered].min(initial=0)), most)
        return count


def _pairs(chosen: np.ndarray) -> Edges:
    """Rows and columns of the chosen entries."""
    rows, columns = np.nonzero(chosen)
    return rows, columns


def _offer_best(offered: np.ndarray, reduced: np.ndarray, most: int) -> int:
    ids = np.flatnonzero(reduced < -SCALE // 1000)
    if len(ids) > most:
        ids = ids[np.argpartition(reduced.flat[ids], most)[:most]]
    offered.flat[ids] = True
    return len(ids)


def _near_edges(far: np.ndarray, num_classes: int, num_ends: int) -> np.ndarray:
    """The edges between every class and its nearest ones, and some with the ends."""
    ranked = far.astype(np.float64)
    np.fill_diagonal(ranked, np.inf)
    ranked[num_classes:, num_classes:] = np.inf
    near = np.argsort(ranked, axis=1, kind="stable")[:, : min(_NEAR, num_classes - 1)]
    offered = np.zeros(far.shape, dtype=bool)
    np.put_along_axis(offered, near, True, axis=1)
    return offered | offered.T


def _near_links(far: np.ndarray) -> np.ndarray:
    """The links between every class and those nearest to it."""
    offered = np.zeros(far.shape, dtype=bool)
    np.put_along_axis(offered, np.argsort(far, axis=1, kind="stable")[:, :_NEAR], True, axis=1)
    np.put_along_axis(offered, np.argsort(far, axis=0, kind="stable")[:_NEAR], True, axis=0)
    return offered
