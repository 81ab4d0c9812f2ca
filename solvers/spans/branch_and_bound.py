"""Exact search for costs that depend on spans: branch and bound on ranges of the excess of single accesses.

Within its range every access pays at least a straight line up to a cap; the least total of such lines is found
exactly (`node_bounds`), its order is tried at true costs, and the access that its line cheats most is given two
smaller ranges. Where costs are lines or lines with caps the root closes the search.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count

import numpy as np

from problems import evaluate
from solvers.common.clock import time_now
from solvers.common.incumbent import Incumbent
from solvers.common.least_costs import least_costs, steepest_line
from solvers.common.proofs import claim
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.spans.node_bounds import Lines, relaxation_of

_SCALE = 64  # parts: of a unit of cost in slopes of lines, so that they stay whole numbers; by hand
_WORK_OF_LINE = 3e-4  # work: of the line of an access in a node, and of its cost (estimate)


@dataclass(frozen=True, eq=False)
class _Node:
    """Ranges of the excess, int64, shape (num_accesses,)."""

    first: np.ndarray
    last: np.ndarray


class SpanSearch:
    """The search; `run` goes on until it is closed, the deadline passes, or a node cannot be solved.

    Parameters
    ----------
    task, incumbent
        The problem and the best order known.
    levels
        Bound large blocks by their levels, whether or not exact methods might reach them.

    Attributes
    ----------
    num_nodes
        Nodes solved.
    """

    def __init__(self, task: Task, incumbent: Incumbent, *, levels: bool = False) -> None:
        self._task, self._incumbent = task, incumbent
        self._costs = least_costs(task.problem, task.objective)
        steepest = [steepest_line(costs, 0, int(np.searchsorted(costs, costs[-1]))) for costs in self._costs]
        slope = np.array([math.floor(_SCALE * line) for line in steepest], dtype=np.int64)
        capped = any(len(costs) > 1 and costs[-2] == costs[-1] for costs in self._costs)
        self._relaxation = relaxation_of(
            task.problem, slope, lambda: incumbent.order, capped=capped, deadline=task.deadline, levels=levels
        )
        self._kept = np.array([access.num_kept for access in task.problem.accesses])
        self._root = _Node(
            span_rows(task.problem).fixed.copy(), np.array([len(costs) - 1 for costs in self._costs], dtype=np.int64)
        )
        self._no_cap = _SCALE * sum(int(costs[-1]) + 1 for costs in self._costs) * 4
        self.num_nodes = 0

    def _raise(self, bound: int, *, of_better: bool = True) -> None:
        """Take a bound on all nodes, with its reason; nodes no better than the incumbent are given up."""
        method = f"branch and bound over ranges of the accesses' spans, {self._relaxation.method} in every node"
        self._incumbent.raise_bound(
            bound,
            lambda proven: [claim(self._task.problem, "search", proven, method, nodes=self.num_nodes)],
            method="branch and bound over spans",
            of_better=of_better,
        )

    def run(self) -> bool:
        """Search; whether the incumbent is proven optimal."""
        ticket = count()
        heap: list[tuple[int, int, _Node]] = [(self._incumbent.bound, next(ticket), self._root)]
        floor = self._incumbent.value
        while heap and heap[0][0] < self._incumbent.value:
            self._raise(min(heap[0][0], floor))
            bound, _, node = heapq.heappop(heap)
            solved = None if self._task.expired and self.num_nodes else self._solve(node)
            if solved is None:
                return False
            own_bound, cheated, split = solved
            if node is self._root:
                self._raise(own_bound, of_better=False)
            own_bound = max(bound, own_bound)
            if own_bound >= self._incumbent.value:
                continue
            if cheated is None:
                floor = min(floor, own_bound)  # nothing left to branch on: the costs are not a function of the span
                continue
            for child in _halves(node, cheated, split):
                heapq.heappush(heap, (own_bound, next(ticket), child))
        self._raise(floor)
        return self._incumbent.closed

    def _lines(self, node: _Node) -> Lines:
        """The lines of a node, scaled: each meets its curve at the start of the range and stays below it within.

        Where the range reaches the flat end of the curve, the line leads there and is capped; elsewhere it goes on
        rising, because excesses beyond the range belong to other nodes. In a range of one excess any line will do.
        """
        num = len(self._costs)
        constant, slope = (np.zeros(num, dtype=np.int64) for _ in range(2))
        cap = np.full(num, self._no_cap)
        for a, costs in enumerate(self._costs):
            first, last = int(node.first[a]), int(node.last[a])
            flat = self._relaxation.capped and costs[last] == costs[-1]
            end = int(np.searchsorted(costs, costs[last])) if flat else last
            if end > first or flat or first == 0:
                slope[a] = math.floor(_SCALE * steepest_line(costs, first, max(end, first)))
            else:
                slope[a] = _SCALE * int(costs[first] - costs[first - 1])
            constant[a] = _SCALE * int(costs[first]) - int(slope[a]) * first
            if flat:
                cap[a] = _SCALE * int(costs[-1])
        return Lines(constant, slope, cap)

    def _solve(self, node: _Node) -> tuple[int, int | None, int] | None:
        """Bound of a node, the access its lines cheat most and where to split its range; None out of time."""
        time_now(_WORK_OF_LINE * len(self._costs))
        lines = self._lines(node)
        relaxed = self._relaxation.solve(lines, _SCALE * (self._incumbent.value - 1) + 1)
        if relaxed is None:
            return None
        self.num_nodes += 1
        self._incumbent.offer(relaxed.order)
        bound = -(-relaxed.cost // _SCALE)
        found = evaluate(self._task.problem, relaxed.order, self._task.objective)
        excess = np.array([cost.span for cost in found.accesses]) - self._kept
        costs = np.array([costs[e] for costs, e in zip(self._costs, excess)])
        lies = _SCALE * costs - np.minimum(lines.constant + lines.slope * excess, lines.cap)
        lies[node.first >= node.last] = 0
        if not (lies > 0).any():
            return bound, None, 0
        a = int(lies.argmax())
        return bound, a, self._split(a, node, lines)

    def _split(self, a: int, node: _Node, lines: Lines) -> int:
        """Where the curve of an access is farthest above its line: last excess of the lower half."""
        first, last = int(node.first[a]), int(node.last[a])
        excess = np.arange(first, last + 1)
        line = np.minimum(lines.constant[a] + lines.slope[a] * excess, lines.cap[a])
        above = _SCALE * self._costs[a][first : last + 1] - line
        return min(first + int(above.argmax()), last - 1)


def _halves(node: _Node, a: int, split: int) -> list[_Node]:
    lower, upper = node.last.copy(), node.first.copy()
    lower[a], upper[a] = split, split + 1
    return [_Node(node.first, lower), _Node(upper, node.last)]
