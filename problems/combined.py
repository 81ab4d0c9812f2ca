"""Several objectives as one: a problem with cost tables whose value is a weighted sum of the objectives' values.

A cost that depends on the span alone becomes a curve; curves of one access are added up. A cost that depends on runs
gets an access of its own, which may join its runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from problems.costs import CostTable, Curve
from problems.errors import ProblemError
from problems.objectives import Objective
from problems.problem import Access, Problem


@dataclass(frozen=True)
class Term:
    """An objective and its factor in the sum, a whole number from 1 up."""

    objective: Objective
    factor: int


def combined(problem: Problem, terms: Sequence[Term]) -> Problem:
    """The problem whose objective `latency` is a weighted sum of objectives of another problem.

    Parameters
    ----------
    problem
        The problem.
    terms
        Objectives and factors.

    Returns
    -------
    Problem
        The same blocks, bundles and constraints, hence the same orders. One tick is a nanosecond. The value of an order
        for `latency` is the sum over terms of factor times its value for the objective, in ticks for tables.

    Raises
    ------
    ProblemError
        If the sums are too large for exact arithmetic (`problems.costs.MAX_COST`, `problems.objectives.MAX_SUM`), or an
        objective needs tables that an access lacks.

    Examples
    --------
    >>> from problems import OBJECTIVES, Order, evaluate
    >>> problem = Problem.from_matrix([[1, 0, 1], [0, 1, 1]])
    >>> both = combined(problem, [Term(OBJECTIVES["span"], 10), Term(OBJECTIVES["runs"], 1)])
    >>> [evaluate(both, Order([order]), "latency").value for order in ([0, 1, 2], [0, 2, 1])]
    [13, 2]
    """
    accesses: list[Access] = []
    for a, access in enumerate(problem.accesses):
        width = sum(len(problem.stored[b]) for b in access.blocks)
        tables = [_table_of_spans(problem, access, width, terms)]
        for term in terms:
            if term.objective.counts_runs:
                tables.append(_table_of_runs(access, width, term.factor))
            elif _joins_pieces(access, term.objective) and access.weighted_table is not None:
                tables.append(access.weighted_table.times(problem.ticks * term.factor))
        accesses += [
            Access(f"{a}.{k} {access.name}", access.blocks, access.kept, table=table)
            for k, table in enumerate(own for own in tables if own is not None)
        ]
    return Problem(problem.blocks, tuple(accesses), problem.name, problem.bundles, problem.constraints)


def _joins_pieces(access: Access, objective: Objective) -> bool:
    return objective.uses_tables and access.table is not None and access.table.pieces is not None


def _table_of_spans(problem: Problem, access: Access, width: int, terms: Sequence[Term]) -> CostTable | None:
    """What an access pays for its span, over all terms that do not look at runs; None if all do."""
    spans = np.arange(access.num_kept, width + 1)
    runs = np.where(spans > access.num_kept, 2, 1)
    total = [0] * len(spans)
    own = [term for term in terms if not term.objective.counts_runs and not _joins_pieces(access, term.objective)]
    for term in own:
        ticks = term.objective.ticks_of(problem)
        costs = term.objective.costs(access, spans, runs, ticks=ticks).tolist()
        total = [sum_ + term.factor * cost for sum_, cost in zip(total, costs, strict=True)]
    return CostTable(_curve(spans.tolist(), total)) if own else None


def _table_of_runs(access: Access, width: int, factor: int) -> CostTable:
    """A table by which an access pays `factor` times its weight for every run."""
    each, most = factor * access.weight, min(access.num_kept, width - access.num_kept + 1)
    spans = [access.num_kept, *([access.num_kept + 1] if width > access.num_kept else [])]
    spans += [width] if width > spans[-1] else []
    read = Curve(spans, [each, *([most * each] * (len(spans) - 1))])
    if most < 2:
        return CostTable(read)
    runs = [2] if most == 2 else [2, most]
    return CostTable(read, pieces=Curve(runs, [(number - 1) * each for number in runs]))


def _curve(points: list[int], costs: list[int]) -> Curve:
    """A curve through all points; those on straight lines between others are left out."""
    if any(later < earlier for earlier, later in pairwise(costs)):
        raise ProblemError("the costs of an access decrease with its span; they have no curve")
    rises = [later - earlier for earlier, later in pairwise(costs)]
    corners = [i for i in range(len(points)) if i in (0, len(points) - 1) or rises[i - 1] != rises[i]]
    return Curve([points[i] for i in corners], [costs[i] for i in corners])
