"""Exact search by dynamic programming over sets of placed classes: any slopes, several blocks, no CP-SAT.

Spans: one DP per block, and a branching over the accesses that are copied. Runs: Held and Karp per block, and an
exact combination of the blocks' ends. Limited by the number of classes per block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from oracles.block_ends import best_ends
from oracles.placed_sets_with_copies import LinearRest, copied_subsets
from oracles.run_orders import RunOrders
from problems import Order, Problem
from solvers.common.errors import SolverError
from solvers.common.proofs import claim
from solvers.common.rows import class_bits
from solvers.common.task import Finding, Task


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
                # Sets tried cost at least the best value, the others at least this bound: the smaller holds for all.
                return Finding(best, min(bound, best_value), stats={"copied_subsets": tried}, value=best_value)
            tried += 1
            solved.append((rest, excess))
            if copy_cost + excess < best_value:
                best = linear.order(rest)
                best_value = task.value(best)
                task.report(best_value, min(bound, best_value), best)
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
                return Finding(task.start, task.trivial_bound, value=task.start_value)
        ends = best_ends(problem, {b: own.runs for b, own in orders.items()}, max_combinations=self.max_combinations)
        sequence: list[int] = []
        for b in range(len(problem.blocks)):
            own = classes.of_block(b)
            sequence.extend(own[orders[b].sequence(*ends[b])] if b in orders else own)
        best = Order.of_classes(problem, sequence)
        value = task.value(best)
        task.report(value, value, best)
        return self._proven(task, best, value, {"classes": max(sizes, default=0)}, sum(n << n for n in sizes))

    def _proven(self, task: Task, best: Order, value: int, stats: dict[str, int], states: int) -> Finding:
        """The finding of an optimum."""
        text = "dynamic program over the sets of classes placed so far"
        figures: dict[str, Any] = {"states": states, **stats}
        claims = [claim(task.problem, "search", value, text, **figures)] if task.want_proof else []
        return Finding(best, value, optimal=True, value=value, stats=stats, claims=claims)

    def _require_small(self, problem: Problem, sizes: list[int], limit: int) -> None:
        if max(sizes, default=0) > limit:
            raise SolverError(
                f"placed-sets: {problem.name} has a block of {max(sizes)} classes, more than the {limit} it can "
                "enumerate; use 'cp-sat' or raise the limit"
            )
