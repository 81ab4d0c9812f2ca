"""The solver `auto`, the default: takes a problem apart and gives every part to the methods that suit it.

Accesses whose cost is constant are left out, groups that do not touch are solved one by one. Copies go to the
constraint program over views, runs to the tours, spans first to a beam and a local search where they are large, then to
the branch and bound over spans, and what is still open goes to the search for better orders.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from problems import Order, Problem
from solvers.beam import Beam, pays_spans
from solvers.common.components import Component, components, joined
from solvers.common.incumbent import Incumbent
from solvers.common.rows import Row, class_bits, span_rows
from solvers.common.task import Finding, Solver, Task
from solvers.cp_sat import CpSat
from solvers.local_search import LocalSearch
from solvers.neighbourhoods import LargeNeighbourhoods
from solvers.placed_sets import PlacedSets
from solvers.spans.level_spans import ends_of
from solvers.spans.linear_rest import LinearRest
from solvers.spans.span_search import SpanSearch
from solvers.views.consecutive import consecutive_order

_FEW_ROWS = 12
_MOST_ROWS_OF_PATHS = 14
_FEW_CLASSES = 16
_MOST_CLASSES = 20
_MOST_CLASSES_COPIED = 18
_SECONDS_FOR_MOST = 15.0
_FIRST_SHARE = 0.25
_BEAM_SHARE = 0.6
_COPIED_SHARE = 0.3
_SEARCH_SHARE = 0.7


@dataclass(frozen=True)
class Auto:
    """Chooses the method by size and objective; never worse than greedy, always with a bound.

    Parameters
    ----------
    cp_sat
        The constraint programs for copies and runs, with their own settings.

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

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline, with the best bound proven."""
        incumbent = Incumbent(task)
        parts = [] if incumbent.closed else components(task.problem, for_runs=_runs_matter(task))
        stats: dict[str, Any] = {"classes": len(task.problem.classes), "parts": len(parts)}
        if len(parts) == 1 and parts[0].problem is task.problem:
            stats |= self._solve_part(task, incumbent)
        elif parts:
            stats |= self._solve_parts(task, incumbent, parts)
        elif not incumbent.closed:
            incumbent.raise_bound(incumbent.value)
        return incumbent.finding(stats)

    def _solve_parts(self, task: Task, incumbent: Incumbent, parts: list[Component]) -> dict[str, Any]:
        """Every component with its share of the time, by its number of accesses; small ones first."""
        alone = {a: cost.cost for a, cost in enumerate(task.costs(task.start))}
        inside = {a for part in parts for a in part.accesses}
        bound = sum(cost for a, cost in alone.items() if a not in inside)
        orders = {part.accesses: part.order_of(task.problem, task.start) for part in parts}
        waiting = sorted(parts, key=lambda part: len(part.accesses))
        stats: dict[str, Any] = {}
        for k, part in enumerate(waiting):

            def whole(order: Order, part: Component = part) -> Order:
                own = [(other, order if other is part else orders[other.accesses]) for other in parts]
                return joined(task.problem, own)

            share = len(part.accesses) ** 2 / sum(len(other.accesses) ** 2 for other in waiting[k:])
            own = dataclasses.replace(
                task,
                problem=part.problem,
                start=orders[part.accesses],
                deadline=time.perf_counter() + share * task.remaining,
                hint=None,
                progress=incumbent.offer_from(whole),
                want_proof=False,
            )
            best = Incumbent(own)
            if not best.closed:
                stats |= self._solve_part(own, best)
            orders[part.accesses] = best.order
            bound += task.objective.converted(best.bound, part=part.problem, whole=task.problem)
            incumbent.offer(joined(task.problem, [(other, orders[other.accesses]) for other in parts]))
        incumbent.raise_bound(bound, method="the sum over parts")
        return stats

    def _solve_part(self, task: Task, incumbent: Incumbent) -> dict[str, Any]:
        """One problem that does not fall apart; improves the incumbent, returns figures for reports."""
        objective = task.objective
        if objective.counts_runs or (objective.alpha is None and not objective.uses_tables):
            return self._run(self.cp_sat, task, incumbent)
        rows = span_rows(task.problem).rows
        stats: dict[str, Any] = {}
        views = _all_views(task.problem)
        if views is not None:
            incumbent.offer(views)
        if incumbent.closed:
            return stats
        if self._few_classes(task):
            share = 1.0 if task.objective.gamma is None else _COPIED_SHARE
            stats |= self._run(PlacedSets(max_classes=_MOST_CLASSES), task.within(share), incumbent)
        first = task.within(_FIRST_SHARE)
        if pays_spans(objective) and _most_rows(rows) > _MOST_ROWS_OF_PATHS and not incumbent.closed:
            stats |= self._run(Beam(), first.within(_BEAM_SHARE), incumbent)
        if len(rows) > _FEW_ROWS and not incumbent.closed:
            stats |= self._run(LocalSearch(), first, incumbent)
        if not incumbent.closed:
            search = SpanSearch(task.within(_SEARCH_SHARE), incumbent)
            search.run()
            stats["nodes"] = search.num_nodes
        if not incumbent.closed and not task.expired:
            solver = LargeNeighbourhoods(first=LocalSearch(patience=300))
            stats |= self._run(solver, dataclasses.replace(task, seed=task.seed + 1), incumbent)
        return stats

    def _few_classes(self, task: Task) -> bool:
        """Whether the sets of placed classes are few enough; fewer where they are tried for sets of copied accesses."""
        if task.objective.uses_tables:
            return False
        sizes = LinearRest(task.problem, task.objective.alpha).num_classes
        most = _FEW_CLASSES
        if task.remaining >= _SECONDS_FOR_MOST:
            most = _MOST_CLASSES if task.objective.gamma is None else _MOST_CLASSES_COPIED
        return max(sizes, default=0) <= most

    def _run(self, solver: Solver, task: Task, incumbent: Incumbent) -> dict[str, Any]:
        """Hand over to another solver, with what is known."""
        found = solver.solve(dataclasses.replace(task, start=incumbent.order, hint=incumbent.order))
        incumbent.offer(found.order)
        if found.bound is not None:
            claims = found.claims
            incumbent.raise_bound(found.bound, lambda _: claims, method=solver.name)
        return found.stats


def _runs_matter(task: Task) -> bool:
    """Whether an access may pay by its number of runs: then blocks in the middle of its input matter too."""
    tables = (access.table for access in task.problem.accesses) if task.objective.uses_tables else ()
    return task.objective.counts_runs or any(table is not None and table.pieces is not None for table in tables)


def _most_rows(rows: Sequence[Row]) -> int:
    """The largest number of rows of one block."""
    return max(Counter(row.block for row in rows).values(), default=0)


def _all_views(problem: Problem) -> Order | None:
    """An order in which no access covers more than it must, if there is one: rows consecutive in every block."""
    spans = span_rows(problem)
    sequence: list[int] = []
    for b in range(len(problem.blocks)):
        own, rows = problem.classes.of_block(b), spans.of_block(b)
        if rows:
            left, right = ends_of(rows)
            found = consecutive_order(class_bits(problem, b, (row.reader for row in rows)), left, right)
            if found is None:
                return None
            own = own[found]
        sequence.extend(own.tolist())
    return Order.of_classes(problem, sequence)
