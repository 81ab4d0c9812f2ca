"""Predicted times of a network's readers under several orders, where nothing was measured; for pages.

The times are those of cost tables (`upscale_opt.planning.cost_model`), summed over all layers that read channels which
pruning may remove. Whatever else the network does takes the same time under every order, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from problems import AccessCost, CostTable, Problem
from problems.objectives import COPY, OVER_READ, PIECES, VIEW
from upscale_opt.comparing.reports import FLOOR, complete
from upscale_opt.comparing.variants import BASELINE, UNPRUNED, role
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.pages.bars import Bar, Bars, of_seconds
from upscale_opt.planning.cost_model import CostModel
from upscale_opt.planning.extraction import problems_of
from upscale_opt.planning.solutions import Solutions


def predicted_bars(masked: MaskedGraph, costs: CostModel, solutions: Solutions, solvers: Sequence[str]) -> Bars:
    """Predicted times of the unpruned network, the baseline, every solver's orders, and the floor.

    Ways of reading are those of the solutions. The baseline copies before every layer that does not keep everything.

    Parameters
    ----------
    masked
        The masked model.
    costs
        The source of times, such as `upscale_opt.AnalyticCosts`.
    solutions, solvers
        Segment name to solver name to result, and the solvers to show.
    """
    problems = problems_of(masked, costs=costs)
    whole = {name: np.ones_like(mask) for name, mask in masked.masks.items()}
    unpruned = replace(masked, masks=whole, output_masks={}, padding={})
    solved = complete(solutions, solvers)
    found = {
        UNPRUNED: sum(map(_all_views, problems_of(unpruned, costs=costs).values())),
        BASELINE: sum(_baseline(problems[segment]) for segment in solved),
        **{
            name: sum(
                _planned(problems[segment], results[name].evaluation.accesses) for segment, results in solved.items()
            )
            for name in solvers
        },
        FLOOR: sum(_all_views(problems[segment]) for segment in solved),
    }
    how = f"predicted, not measured: layers that read what is pruned, by {costs.name} cost tables"
    return of_seconds("Time per pass", (Bar(name, own / 1e9, role(name)) for name, own in found.items()), how=how)


def _all_views(problem: Problem) -> float:
    return sum(_nanoseconds(own.table, VIEW, own.num_kept, own.num_kept, 1) for own in problem.accesses)


def _baseline(problem: Problem) -> float:
    total = 0.0
    for own in problem.accesses:
        stored = sum(len(problem.stored[b]) for b in own.blocks)
        mode = VIEW if own.num_kept == stored else COPY
        total += _nanoseconds(own.table, mode, own.num_kept, own.num_kept, 1)
    return total


def _planned(problem: Problem, costs: Sequence[AccessCost]) -> float:
    return sum(
        _nanoseconds(own.table, cost.mode, cost.kept, cost.span, cost.runs)
        for own, cost in zip(problem.accesses, costs, strict=True)
    )


def _nanoseconds(table: CostTable | None, mode: str, kept: int, span: int, runs: int) -> float:
    """The time of one access. A way that the table does not price is read as the whole span."""
    if table is None:
        return 0.0
    if mode == PIECES and (table.pieces is None or not table.pieces.covers(runs, runs)):
        mode = COPY
    if mode == COPY and table.copy is None:
        mode = OVER_READ
    read = float(np.interp(span if mode in (VIEW, OVER_READ) else kept, table.read.points, table.read.costs))
    if mode == COPY:
        return read + float(table.copy or 0)
    if mode == PIECES and table.pieces is not None:
        return read + float(np.interp(runs, table.pieces.points, table.pieces.costs))
    return read
