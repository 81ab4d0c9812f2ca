"""Exact search by dynamic programming over sets of placed classes: any slopes, several blocks, no CP-SAT.

Spans: one DP per block, and a branching over the accesses that are copied. Runs: Held and Karp per block, and an
exact combination of the blocks' ends. Limited by the number of classes per block.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from problems import Objective, Order, Problem
from solvers.block_ends import best_ends
from solvers.errors import SolverError
from solvers.linear_order import LinearOrder, cheapest_sequence
from solvers.proofs import claim
from solvers.rows import Row, class_bits, merged_classes, span_rows
from solvers.run_order import RunOrders
from solvers.task import Finding, Task


@dataclass(frozen=True)
class PlacedSets:
    """The exact method for up to about 16 classes per block; the tests' second oracle.

    Parameters
    ----------
    max_classes
        Per block, for span objectives; time and memory double with each. Default 20 (seconds, 1 GB).
    max_classes_runs
        Per block, for runs. Default 16 (seconds, 70 MB).
    max_combinations
        For runs: combinations of the blocks' first and last classes. Default 20 million.
    """

    max_classes: int = 20
    max_classes_runs: int = 16
    max_combinations: int = 20_000_000
    name: ClassVar[str] = "placed-sets"
    exact: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best order, or the start if the deadline passes first.

        Raises
        ------
        SolverError
            If a block has too many classes, or the blocks too many combinations of ends; if costs come from tables.
        """
        if task.objective.uses_tables:
            raise SolverError("placed-sets: it prices channels, not cost tables; use 'auto' or 'pair-of-chains'")
        if task.objective.counts_runs:
            return self._solve_runs(task)
        return self._solve_spans(task)

    def _solve_spans(self, task: Task) -> Finding:
        linear = LinearRest(task.problem, task.objective.alpha, deadline=task.deadline)
        self._require_small(task.problem, linear.num_classes, self.max_classes)
        best_value, best = task.start_value, task.start
        bound, tried = task.trivial_bound, 0
        solved: list[tuple[int, int]] = []
        for copy_cost, rest in copied_subsets(task.problem, task.objective):
            if copy_cost >= best_value:
                bound = best_value
                break
            bound = max(bound, copy_cost)
            if any(part & rest == part and copy_cost + excess >= best_value for part, excess in solved):
                continue
            excess = None if task.expired else linear.excess(rest)
            if excess is None:
                return Finding(best, min(bound, best_value), stats={"copied_subsets": tried}, objective=best_value)
            tried += 1
            solved.append((rest, excess))
            if copy_cost + excess < best_value:
                best = linear.order(rest)
                best_value = task.value(best)
                task.report(best_value, min(bound, best_value))
        stats = {"copied_subsets": tried, "classes": max(linear.num_classes, default=0)}
        return self._proven(task, best, best_value, stats, sum(1 << num for num in linear.num_classes))

    def _solve_runs(self, task: Task) -> Finding:
        problem, classes = task.problem, task.problem.classes
        free = [b for b, block in enumerate(problem.blocks) if not block.pinned]
        sizes = [len(classes.of_block(b)) for b in free]
        self._require_small(problem, sizes, self.max_classes_runs)
        orders: dict[int, RunOrders] = {}
        for b in free:
            bits = class_bits(problem, b, problem.readers_of(b))
            orders[b] = RunOrders(bits, deadline=task.deadline)
            if not orders[b].complete:
                return Finding(task.start, task.trivial_bound, objective=task.start_value)
        ends = best_ends(problem, {b: own.runs for b, own in orders.items()}, max_combinations=self.max_combinations)
        sequence: list[int] = []
        for b in range(len(problem.blocks)):
            own = classes.of_block(b)
            sequence.extend(own[orders[b].sequence(*ends[b])] if b in orders else own)
        best = Order.of_classes(problem, sequence)
        value = task.value(best)
        task.report(value, value)
        return self._proven(task, best, value, {"classes": max(sizes, default=0)}, sum(n << n for n in sizes))

    def _proven(self, task: Task, best: Order, value: int, stats: dict[str, int], states: int) -> Finding:
        """The finding of an optimum."""
        text = "dynamic program over the sets of classes placed so far"
        figures: dict[str, Any] = {"states": states, **stats}
        claims = [claim(task.problem, "search", value, text, **figures)] if task.want_proof else []
        return Finding(best, value, optimal=True, objective=value, stats=stats, claims=claims)

    def _require_small(self, problem: Problem, sizes: list[int], limit: int) -> None:
        if max(sizes, default=0) > limit:
            raise SolverError(
                f"placed-sets: {problem.name} has a block of {max(sizes)} classes, more than the {limit} it can "
                "enumerate; use 'cp-sat' or raise the limit"
            )


class LinearRest:
    """The least total excess of a set of accesses that are all read in place: one DP per block.

    Parameters
    ----------
    problem
        The problem.
    alpha
        Price of one over-read channel; None if there may be none, then the excess is 0 or endless.
    deadline
        A `time.perf_counter` reading.

    Attributes
    ----------
    num_classes
        Per block that may be reordered, the number of classes its rows tell apart.
    """

    def __init__(self, problem: Problem, alpha: int | None, *, deadline: float = np.inf) -> None:
        self._problem = problem
        self._alpha = alpha
        self._deadline = deadline
        self._spans = span_rows(problem)
        self._size = np.array([access.channel_size for access in problem.accesses], dtype=np.int64)
        self._free = [b for b, block in enumerate(problem.blocks) if not block.pinned]
        self._rows = {b: self._spans.of_block(b) for b in self._free}
        self._own = {b: problem.classes.of_block(b) for b in self._free}
        self._weight = {b: problem.classes.weight[self._own[b]] for b in self._free}
        self._bits = {b: class_bits(problem, b, (row.reader for row in self._rows[b])) for b in self._free}
        self._solved: dict[tuple[int, tuple[int, ...]], tuple[int, np.ndarray]] = {}
        self.num_classes = [len(np.unique(self._bits[b], axis=0)) for b in self._free]

    def excess(self, rest: int) -> int | None:
        """Least cost of the accesses in the bit mask `rest`; None if the deadline passed.

        With `alpha` None it is 0 or a number too large for any cost.
        """
        inside = np.array([rest >> a & 1 for a in range(len(self._size))], dtype=bool)
        price = self._size * inside * (1 if self._alpha is None else self._alpha)
        total = int((price * self._spans.fixed).sum())
        for b in self._free:
            if self._alpha is None and total > 0:
                break
            part = self._block(b, inside)
            if part is None:
                return None
            total += part[0]
        return total if self._alpha is not None or total == 0 else 2**62

    def order(self, rest: int) -> Order:
        """The order behind the last `excess` of the same set."""
        inside = np.array([rest >> a & 1 for a in range(len(self._size))], dtype=bool)
        sequence: list[int] = []
        for b in range(len(self._problem.blocks)):
            part = self._block(b, inside) if b in self._own else None
            sequence.extend(self._problem.classes.of_block(b) if part is None else part[1])
        return Order.of_classes(self._problem, sequence)

    def _block(self, b: int, inside: np.ndarray) -> tuple[int, np.ndarray] | None:
        """Least excess and class sequence of one block for the rows of some accesses; remembered."""
        chosen = tuple(i for i, row in enumerate(self._rows[b]) if inside[row.access])
        if (b, chosen) not in self._solved:
            rows = [self._rows[b][i] for i in chosen]
            weight, bits, parts = merged_classes(self._weight[b], self._bits[b][:, list(chosen)])
            best = self._cheapest(rows, weight, bits)
            if best is None:
                return None
            slope = self._slopes(rows)
            excess = best.cost - int((slope * (weight @ bits)).sum())
            self._solved[b, chosen] = excess, self._own[b][np.concatenate([parts[s] for s in best.sequence])]
        return self._solved[b, chosen]

    def _cheapest(self, rows: list[Row], weight: np.ndarray, bits: np.ndarray) -> LinearOrder | None:
        left = np.array([row.left for row in rows], dtype=bool)
        right = np.array([row.right for row in rows], dtype=bool)
        return cheapest_sequence(weight, bits, self._slopes(rows), left, right, deadline=self._deadline)

    def _slopes(self, rows: list[Row]) -> np.ndarray:
        price = 1 if self._alpha is None else self._alpha
        return np.array([price * self._size[row.access] for row in rows], dtype=np.int64)


def copied_subsets(
    problem: Problem, objective: Objective, members: tuple[int, ...] | None = None
) -> Iterator[tuple[int, int]]:
    """Subsets of accesses to copy, as (copy cost, bit mask of the other members), in order of cost.

    Parameters
    ----------
    problem, objective
        Give the price of copying each access; without `gamma` nothing is copied.
    members
        The accesses to choose from; default all.
    """
    chosen = range(len(problem.accesses)) if members is None else members
    everything = sum(1 << a for a in chosen)
    yield 0, everything
    if objective.gamma is None or not everything:
        return
    accesses = problem.accesses
    price = {a: objective.gamma * accesses[a].channel_size * accesses[a].num_kept for a in chosen}
    by_price = sorted(chosen, key=price.__getitem__)
    heap = [(price[by_price[0]], 0, 1 << by_price[0])]
    while heap:
        cost, i, copied = heapq.heappop(heap)
        yield cost, everything & ~copied
        if i + 1 < len(by_price):
            here, following = by_price[i], by_price[i + 1]
            step = price[following]
            heapq.heappush(heap, (cost + step, i + 1, copied | 1 << following))
            heapq.heappush(heap, (cost + step - price[here], i + 1, copied & ~(1 << here) | 1 << following))
