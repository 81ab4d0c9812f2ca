"""The solver `auto`, the default: it splits a problem into parts and solves each part by a suitable road.

A road is a list of methods, each with its share of the time (`solvers.roads`). Accesses whose cost is constant are left
out. Parts that share no block are solved one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from problems import Order
from solvers.common.bounds import trivial_bound
from solvers.common.clock import time_now
from solvers.common.components import Component, components, joined
from solvers.common.incumbent import Incumbent
from solvers.common.task import Finding, Task
from solvers.methods.cp_sat import CpSat
from solvers.roads.copies import copies_road
from solvers.roads.pieces import pieces_road, spans_say_all
from solvers.roads.runs import runs_road
from solvers.roads.spans import spans_road
from solvers.roads.steps import Stage, merged, walk


@dataclass(frozen=True)
class Auto:
    """Chooses the methods by size and objective. Never worse than greedy, always with a bound.

    Parameters
    ----------
    cp_sat
        The constraint programs for copies, runs and pieces, with their settings.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> from solvers import solve
    >>> result = solve(random_masks(256, 7, seed=1), solver=Auto(), objective="traffic")
    >>> result.gap, str(result.status)
    (0.0, 'OPTIMAL')
    """

    cp_sat: CpSat = field(default_factory=CpSat)
    name: ClassVar[str] = "auto"
    exact: ClassVar[bool] = True
    keeps_constraints: ClassVar[bool] = True

    def with_workers(self, workers: int) -> Auto:
        """The same with so many threads for the constraint programs."""
        return replace(self, cp_sat=self.cp_sat.with_workers(workers))

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best proven bound.

        With constraints it is the constraint program that looks for it.
        """
        if task.problem.constraints:
            return self.cp_sat.solve(task)
        incumbent = Incumbent(task)
        parts = [] if incumbent.closed else parts_of(task)
        stats: dict[str, Any] = {"classes": len(task.problem.classes), "parts": len(parts)}
        if len(parts) == 1 and parts[0].problem is task.problem:
            stats |= walk(self.stage(task).road, task, incumbent)
        elif parts:
            stats |= self._solve_parts(task, incumbent, parts)
        elif not incumbent.closed:
            incumbent.raise_bound(incumbent.value)
        return incumbent.finding(stats)

    def stage(self, task: Task) -> Stage:
        """The road of a problem that is a single part, and why it is this road."""
        objective = task.objective
        if objective.counts_runs:
            return Stage("runs", "costs count runs", lambda own: runs_road(own, self.cp_sat))
        if objective.uses_tables and not spans_say_all(task.problem):
            why = "costs come from tables that are no concave functions of spans"
            return Stage("pieces", why, lambda own: pieces_road(own, self.cp_sat))
        if objective.alpha is None and not objective.uses_tables:
            return Stage("copies", "an access is a view or a copy", lambda own: copies_road(own, self.cp_sat))
        return Stage("spans", "costs depend on spans alone", spans_road)

    def _solve_parts(self, task: Task, incumbent: Incumbent, parts: list[Component]) -> dict[str, Any]:
        """Solve every component with its share of the time, small ones first."""
        alone = {a: cost.cost for a, cost in enumerate(task.costs(task.start))}
        inside = {a for part in parts for a in part.accesses}
        constant = sum(cost for a, cost in alone.items() if a not in inside)
        orders = {part.accesses: part.order_of(task.problem, task.start) for part in parts}
        bounds = {part.accesses: trivial_bound(part.problem, task.objective) for part in parts}
        stats: dict[str, Any] = {}

        def total() -> int:
            own = [(bounds[part.accesses], part.problem) for part in parts]
            return constant + sum(task.objective.converted(b, part=p, whole=task.problem) for b, p in own)

        for part, share in in_turn(parts):

            def whole(order: Order, part: Component = part) -> Order:
                own = [(other, order if other is part else orders[other.accesses]) for other in parts]
                return joined(task.problem, own)

            def bounded(bound: int, part: Component = part) -> int:
                bounds[part.accesses] = max(bounds[part.accesses], bound)
                return total()

            own = task.of_other(
                part.problem,
                orders[part.accesses],
                progress=incumbent.offer_from(whole, bounded),
                deadline=time_now() + share * task.remaining,
            )
            best = Incumbent(own)
            if not best.closed:
                stats = merged(stats, walk(self.stage(own).road, own, best))
            orders[part.accesses] = best.order
            bounds[part.accesses] = best.bound
            incumbent.offer(joined(task.problem, [(other, orders[other.accesses]) for other in parts]))
            incumbent.tell_bound(total())
        incumbent.raise_bound(total(), method="the sum over parts")
        return stats


def parts_of(task: Task) -> list[Component]:
    """The parts of a problem; none if every access costs the same under all orders."""
    return components(task.problem, for_runs=_runs_matter(task))


def in_turn(parts: Sequence[Component]) -> Iterator[tuple[Component, float]]:
    """Parts in the order in which they are solved, small ones first, each with its share of the remaining time.

    Shares grow with the square of the number of accesses.
    """
    waiting = sorted(parts, key=lambda part: len(part.accesses))
    for k, part in enumerate(waiting):
        yield part, len(part.accesses) ** 2 / sum(len(other.accesses) ** 2 for other in waiting[k:])


def _runs_matter(task: Task) -> bool:
    """Whether an access's cost may depend on its number of runs. Then blocks in the middle of its input matter too."""
    tables = (access.table for access in task.problem.accesses) if task.objective.uses_tables else ()
    return task.objective.counts_runs or any(table is not None and table.pieces is not None for table in tables)
