"""The exact search: windows of loss from the Lagrangian bound upwards, and branching where a window is too full.

A *window* reaches from the bound to a target. It is searched in three steps:

1. Marginals at the best multiplier remove every value with which no choice within the budget has a loss up to the
   target. The best multiplier of what is left is found again, and more is removed.
2. Labels (`labels`) enumerate what is left.
3. If there is nothing, the bound rises above the target, and the next window is wider. If there is a choice, the best
   one is optimal.

If a window holds too many labels, the values of one variable are halved, and both halves are searched by themselves,
always that of the smaller bound first. So the least bound of all parts holds for the whole.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from problems.widths.certificates import BoundCertificate
from solvers.common.errors import SolverError
from solvers.widths.buckets import MAX_ENTRIES, TooWideError, buckets_of
from solvers.widths.dual import Dual, dual_of
from solvers.widths.elimination import Elimination, Tree, Weights
from solvers.widths.factors import Graph, graph_of, totals_of
from solvers.widths.incumbent import WidthIncumbent
from solvers.widths.labels import enumerate_labels
from solvers.widths.moves import Moves, improved
from solvers.widths.relaxing import eliminable

MAX_LABELS = 100_000  # labels: of a bucket; more, and the window is divided; by hand
_GROWTH = 3  # times: by which the next window is wider; by hand
_PARTS = 4096  # windows: of the first one's width that make up the bound; by hand
_PARTS_OF_GAP = 256  # windows: of the first one's width that make up the first gap; by hand
_SPREAD = (Fraction(1), Fraction(2, 3), Fraction(3, 2))  # multipliers of labels, relative to the best one
_ROUNDS = 3  # rounds: of removing values, at most; by hand
_WORTH = 0.9  # share: of values left up to which another round is worth it; by hand


@dataclass(eq=False)
class _Part:
    """A part of the search space.

    Attributes
    ----------
    graph
        Its variables and values.
    weights, marginals
        Weights at its best multiplier; per variable and value the least cost of an assignment with it.
    step
        Width of its next window, in units of loss.
    """

    graph: Graph
    weights: Weights
    marginals: list[np.ndarray]
    step: int


class WidthSearch:
    """One search; `bound_and_fill` is the method `lagrangian`, `close` continues it to the proof.

    Parameters
    ----------
    incumbent
        Where choices and bounds go.
    max_entries, max_labels
        Entries of a bucket's table, and labels of a bucket, at most.
    """

    def __init__(
        self, incumbent: WidthIncumbent, *, max_entries: int = MAX_ENTRIES, max_labels: int = MAX_LABELS
    ) -> None:
        self._incumbent = incumbent
        self._problem = incumbent.problem
        self._budget = self._problem.budget - self._problem.fixed
        self._max_labels = max_labels
        self._max_entries = max_entries
        self._worst = sum(max(block.losses) for block in self._problem.blocks)
        self._moves = Moves(self._problem)
        self._queue: list[tuple[int, int, _Part]] = []
        self._counter = itertools.count()
        self._graph, buckets = eliminable(graph_of(self._problem), max_entries)
        self._tree = Tree(self._graph, buckets)

    @property
    def relaxed(self) -> bool:
        """Whether the tables of an exact elimination were too large."""
        return not self._graph.exact

    def bound_and_fill(self, *, pairs: bool = True) -> None:
        """The Lagrangian bound, the choices met on the way, and a local search from the best of them.

        Parameters
        ----------
        pairs
            Whether the local search tries pairs of moves.

        Raises
        ------
        UnreachableSpeedupError
            If no choice keeps the budget.
        """
        seen: list[tuple[int, ...]] = []
        dual = dual_of(
            self._tree,
            self._budget,
            offer=lambda places: seen.append(self._choice_of(self._graph, places)),
            out_of_time=self._incumbent.out_of_time,
        )
        if dual.bound is None:
            raise self._incumbent.unreachable(self._problem.fixed + dual.fastest)
        self._fastest = dual.fastest
        weights = dual.best.weights
        self._incumbent.raise_bound(dual.bound, BoundCertificate(weights.loss, weights.time, dual.bound))
        for choice in seen:
            self._incumbent.offer(choice)
        best = [] if self._incumbent.choice is None else [self._incumbent.choice]
        for choice in dict.fromkeys([*best, *reversed(seen[-2:])]):
            self._fill(choice, pairs=pairs)
        marginals = dual.best.marginals(dual.best.outside())
        self._push(dual.bound, _Part(self._graph, weights, marginals, self._first_step(dual.bound)))

    def close(self) -> None:
        """Search windows until the bound meets the loss, or time runs out.

        Raises
        ------
        UnreachableSpeedupError
            If no choice keeps the budget.
        """
        while self._queue and not self._incumbent.closed and not self._incumbent.out_of_time():
            bound, _, part = heapq.heappop(self._queue)
            self._search_window(bound, part)
            self._raise_bound()
        if not self._queue and self._incumbent.choice is None and not self._incumbent.out_of_time():
            raise self._incumbent.unreachable(self._problem.fixed + self._fastest)

    def _raise_bound(self) -> None:
        """The least bound of all parts; what no part holds is no better than the best choice."""
        loss = self._incumbent.loss
        open_bound = self._queue[0][0] if self._queue else loss
        if open_bound is not None:
            self._incumbent.raise_bound(open_bound if loss is None else min(open_bound, loss))

    def _first_step(self, bound: int) -> int:
        loss = self._incumbent.loss
        return max(1, bound // _PARTS, 0 if loss is None else (loss - bound) // _PARTS_OF_GAP)

    def _push(self, bound: int, part: _Part) -> None:
        """A part that may hold a better choice waits for its next window."""
        if self._incumbent.loss is None or bound < self._incumbent.loss:
            heapq.heappush(self._queue, (bound, next(self._counter), part))

    def _search_window(self, bound: int, part: _Part) -> None:
        loss = self._incumbent.loss
        target = min(bound + part.step - 1, self._worst if loss is None else loss - 1)
        if target < bound:
            return
        found = self._reduced(part, target)
        if found is None:
            part.step *= _GROWTH
            self._push(target + 1, part)
            return
        tree, dual = found
        multipliers = [dual.multiplier * own for own in _SPREAD] + [Fraction(0), None]
        eliminations = [Elimination(tree, Weights(tree.graph, own)) for own in dict.fromkeys(multipliers)]
        enumeration = enumerate_labels(
            tree,
            eliminations,
            [own.outside() for own in eliminations],
            target=target,
            budget=self._budget,
            max_labels=self._max_labels,
            out_of_time=self._incumbent.out_of_time,
        )
        least = None
        if enumeration.places is not None:
            least = totals_of(tree.graph, enumeration.places)[0]
            self._offer(tree.graph, enumeration.places)
            if not enumeration.complete or self.relaxed:
                self._fill(self._choice_of(tree.graph, enumeration.places))
        if not enumeration.complete and self._incumbent.out_of_time():
            self._push(bound, part)
        elif not enumeration.complete:
            self._divide(bound, part, tree.graph)
        elif least is None:
            part.step *= _GROWTH
            self._push(target + 1, part)
        elif self.relaxed and self._incumbent.loss != least:
            self._divide(max(bound, least), part, tree.graph)

    def _reduced(self, part: _Part, target: int) -> tuple[Tree, Dual] | None:
        """What a window holds, and its best multiplier; None if it is empty."""
        limit = part.weights.limit(target, self._budget)
        keep = [own <= limit for own in part.marginals]
        graph, count = part.graph, sum(len(own) for own in part.graph.values)
        for _ in range(_ROUNDS):
            keep = _agreed(graph, keep)
            if not all(own.any() for own in keep):
                return None
            graph = graph.kept(keep)
            tree = self._tree_of(graph)
            dual = dual_of(tree, self._budget, enough=target, out_of_time=self._incumbent.out_of_time)
            if dual.bound is None or dual.bound > target:
                return None
            before, count = count, sum(len(own) for own in graph.values)
            if count > _WORTH * before:
                break
            limit = dual.best.weights.limit(target, self._budget)
            keep = [own <= limit for own in dual.best.marginals(dual.best.outside())]
        return tree, dual

    def _tree_of(self, graph: Graph) -> Tree:
        """The buckets of a smaller graph in an order of its own, or else in that of the whole."""
        try:
            return Tree(graph, buckets_of(graph, self._max_entries))
        except TooWideError:
            return Tree(graph, self._tree.buckets)

    def _divide(self, bound: int, part: _Part, window: Graph) -> None:
        """Halve the values of one variable, and its copies'; each half becomes a part."""
        v = self._branching_variable(window)
        if v is None:
            raise SolverError(f"{self._problem.name}: a window of one assignment was not searched; please report this")
        middle = window.values[v][(len(window.values[v]) - 1) // 2]
        family = next((own for own in _families(window) if v in own), {v})
        for low in (True, False):
            keep = [np.ones(len(own), dtype=bool) for own in part.graph.values]
            for u in family:
                keep[u] = (part.graph.values[u] <= middle) == low
            if all(own.any() for own in keep):
                self._add_part(bound, part.graph.kept(keep), part.step)

    def _branching_variable(self, window: Graph) -> int | None:
        """The block of most values in a window; first variables whose copies may differ."""
        copied = {*window.copied, *window.copied.values()}
        for group in (copied, set(range(window.num_blocks))):
            found = max(group, key=lambda v: (len(window.values[v]), -v), default=None)
            if found is not None and len(window.values[found]) > 1:
                return found
        return None

    def _add_part(self, bound: int, graph: Graph, step: int) -> None:
        """Find the best multiplier of a part, and remove values that are of no use however large the window is."""
        dual = dual_of(
            self._tree_of(graph),
            self._budget,
            offer=lambda places: self._offer(graph, places),
            out_of_time=self._incumbent.out_of_time,
        )
        if dual.bound is None:
            return
        marginals = dual.best.marginals(dual.best.outside())
        if self._incumbent.loss is not None:
            limit = dual.best.weights.limit(self._incumbent.loss - 1, self._budget)
            keep = [own <= limit for own in marginals]
            if not all(own.any() for own in keep):
                return
            graph, marginals = graph.kept(keep), [own[mask] for own, mask in zip(marginals, keep)]
        self._push(max(bound, dual.bound), _Part(graph, dual.best.weights, marginals, step))

    def _choice_of(self, graph: Graph, places: list[int]) -> tuple[int, ...]:
        """The choice of an assignment. Copies of blocks do not count."""
        return tuple(
            block.widths.index(int(own[place]))
            for block, own, place in zip(self._problem.blocks, graph.values, places[: graph.num_blocks])
        )

    def _offer(self, graph: Graph, places: list[int]) -> None:
        self._incumbent.offer(self._choice_of(graph, places))

    def _fill(self, choice: tuple[int, ...], *, pairs: bool = True) -> None:
        """Offer what the local search makes of a choice."""
        found = improved(self._moves, choice, pairs=pairs, out_of_time=self._incumbent.out_of_time)
        if found is not None:
            self._incumbent.offer(found)


def _families(graph: Graph) -> list[set[int]]:
    """Per variable that has copies, itself and them."""
    origins = sorted(set(graph.copied.values()))
    return [{own, *(copy for copy, origin in graph.copied.items() if origin == own)} for own in origins]


def _agreed(graph: Graph, keep: list[np.ndarray]) -> list[np.ndarray]:
    """Which values stay, where a value stays only if it stays in all copies of its variable."""
    keep = list(keep)
    for family in _families(graph):
        common = np.array(sorted(set.intersection(*(set(graph.values[v][keep[v]].tolist()) for v in family))))
        for v in family:
            keep[v] = np.isin(graph.values[v], common)
    return keep
