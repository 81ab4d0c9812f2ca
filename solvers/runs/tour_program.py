"""The tours of a run graph as a linear program that proposes prices for classes, links and cuts.

Columns are edges and links, offered when they pay; rows are degrees, the ends of links, and cuts. Only the prices of
the floating-point solver are used, rounded: `solvers.runs.tour_prices` says what they prove.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csc_array

from solvers.common.highs import PIVOTS_A_SECOND, charge, lp_options
from solvers.runs.tour_cuts import Cut
from solvers.runs.tour_graph import RunGraph
from solvers.runs.tour_prices import SCALE, Certified, Choices, Prices

_NEAR = 6  # edges: of every class that the program begins with; by hand
_DEAREST = 2.0**36  # price: largest in whole numbers; sums of thousands fit 64 bits

Edges = tuple[np.ndarray, np.ndarray]
"""Tails and heads, tails below heads."""


@dataclass(frozen=True, eq=False)
class Point:
    """An optimum of the program: per graph the edges that are columns with their values, and prices."""

    edges: tuple[Edges, ...]
    x: tuple[np.ndarray, ...]
    prices: Prices
    lacking: float

    @property
    def fraction(self) -> float:
        """How far the values are from whole numbers."""
        return max((float(np.abs(own - np.rint(own)).max(initial=0)) for own in self.x), default=0.0)


class TourProgram:
    """The program; cuts and columns are added to it.

    Parameters
    ----------
    graph
        The graph.
    """

    def __init__(self, graph: RunGraph) -> None:
        self.graph = graph
        self.cuts: list[Cut] = []
        self._keys: set[tuple[int, bytes, bytes]] = set()
        self._offset = np.cumsum([0] + [len(own.far) for own in graph.blocks])
        self.offered = [_near_edges(own.far, own.num_classes, own.num_ends) for own in graph.blocks]
        for own, offered in zip(graph.blocks, self.offered):
            offered[own.num_classes :, own.num_classes :] = False
        self.linked = [_near_links(link.far) for link in graph.links]
        most = max([own.far.max() for own in graph.blocks] + [link.far.max() for link in graph.links], default=1)
        self._lack = float(2 * most + 2)
        self._idle = np.zeros(0, dtype=np.int64)

    def offer_paths(self, sequences: list[np.ndarray]) -> None:
        """Make columns of the edges of one path per graph, and of the links between them."""
        for own, nodes, offered in zip(self.graph.blocks, sequences, self.offered):
            path = own.path(nodes)
            offered[path[:-1], path[1:]] = offered[path[1:], path[:-1]] = True
        for link, offered in zip(self.graph.links, self.linked):
            offered[sequences[link.tail][-1], sequences[link.head][0]] = True

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

    def solve(self, choices: Choices, *, seconds: float) -> Point | None:
        """An optimum over the columns offered; None if time runs out."""
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
            options=lp_options(max(0.01, seconds)),
        )
        charge(answer.nit, PIVOTS_A_SECOND)
        if answer.status != 0 or answer.x is None:
            return None
        prices = self._rounded(
            np.asarray(answer.eqlin.marginals), -np.asarray(answer.ineqlin.marginals) if self.cuts else np.zeros(0)
        )
        x = tuple(np.split(answer.x[:num_edges], first[1 : len(edges)]))
        return Point(tuple(edges), x, prices, float(answer.x[first[-1] :].sum()))

    def _rounded(self, equal: np.ndarray, cuts: np.ndarray) -> Prices:
        whole = np.rint(np.clip(equal * SCALE, -_DEAREST, _DEAREST)).astype(np.int64)
        nodes = tuple(whole[a:b] for a, b in zip(self._offset, self._offset[1:]))
        tails, heads = [], []
        at = self._offset[-1]
        for link in self.graph.links:
            tail, head = self.graph.blocks[link.tail].num_classes, self.graph.blocks[link.head].num_classes
            tails.append(whole[at : at + tail])
            heads.append(whole[at + tail : at + tail + head])
            at += tail + head
        return Prices(nodes, tuple(tails), tuple(heads), np.rint(np.clip(cuts * SCALE, 0, _DEAREST)).astype(np.int64))

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
    near = _least(ranked, min(_NEAR, num_classes - 1))
    offered = np.zeros(far.shape, dtype=bool)
    np.put_along_axis(offered, near, True, axis=1)
    return offered | offered.T


def _near_links(far: np.ndarray) -> np.ndarray:
    """The links between every class and those nearest to it."""
    offered = np.zeros(far.shape, dtype=bool)
    np.put_along_axis(offered, _least(far, _NEAR), True, axis=1)
    np.put_along_axis(offered.T, _least(far.T, _NEAR), True, axis=1)
    return offered


def _least(costs: np.ndarray, count: int) -> np.ndarray:
    """The columns of so many least entries of every row."""
    if count >= costs.shape[1]:
        return np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
    return np.argpartition(costs, count, axis=1)[:, :count]
