"""The solver `beam`: orders for `span` by a beam search over pairs of chains. It is for blocks with many accesses.

Every block is searched by itself. Each beam is four times as wide as the one before, up to the given width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from problems import Objective, Order
from solvers.common.block_rows import SpanBlock, class_sequence, span_blocks
from solvers.common.errors import SolverError
from solvers.common.incumbent import Incumbent
from solvers.common.rows import span_rows
from solvers.common.task import Finding, Task
from solvers.methods.greedy import greedy_in_time
from solvers.methods.in_places import solved_in_places
from solvers.spans.heuristics.beam import MOST_ROWS, beam_chains
from solvers.spans.heuristics.tangent_lines import SpanCurves

_WIDENING = 4  # factor: by which beams get wider: the last takes three quarters of the time; by hand
_GREEDY_SHARE = 0.25  # share: of the time, for greedy's order; by hand


@dataclass(frozen=True)
class Beam:
    """A heuristic with the trivial bound, for costs in proportion to spans; never worse than greedy or the hint.

    A block with more than 63 rows keeps the order of greedy, the identity or the hint. A solve that ends before the
    deadline is reproducible, because nothing is random.

    Parameters
    ----------
    width
        Most pairs of sets that are kept after each row. Default 256.

    Raises
    ------
    SolverError
        If the width is below 1.
    """

    width: int = 256
    name: ClassVar[str] = "beam"
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SolverError(f"beam: the width is {self.width}; give at least 1")

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline.

        Raises
        ------
        SolverError
            If costs are not in proportion to spans.
        """
        if not pays_spans(task.objective):
            raise SolverError(
                f"beam: under the objective {task.objective.name!r} costs are not in proportion to spans; "
                "choose 'span', or the solver 'local-search'"
            )
        if task.problem.bundles:
            return solved_in_places(self, task)
        incumbent = Incumbent(task)
        given = [] if task.hint is None else [task.hint]
        for start in [*given, *greedy_in_time(task, _GREEDY_SHARE), Order.identity(task.problem)]:
            incumbent.offer(start)
        width = 0 if incumbent.closed or task.expired else self._search(task, incumbent)
        return incumbent.finding({"width": width})

    def _search(self, task: Task, incumbent: Incumbent) -> int:
        """Search with wider and wider beams. Returns the width of the last beam that was completed in all blocks."""
        spans, curves = span_rows(task.problem), SpanCurves(task)
        blocks = span_blocks(task.problem, spans)
        sequences = {own.block: class_sequence(task.problem, incumbent.order, own.block) for own in blocks}
        widths = [self.width]
        while widths[0] > 1:
            widths.insert(0, -(-widths[0] // _WIDENING))
        done = 0
        for width in widths:
            for own in blocks:
                if not self._widen(task, curves, own, sequences, width):
                    return done
                incumbent.offer(_order(task, blocks, sequences))
            done = width
            if incumbent.closed:
                break
        return done

    def _widen(
        self, task: Task, curves: SpanCurves, own: SpanBlock, sequences: dict[int, np.ndarray], width: int
    ) -> bool:
        """Replace the sequence of a block by that of a beam if it is better. Returns whether there was enough time."""
        slope = curves.slopes(own.access, np.zeros(len(own.access), dtype=np.int64))
        rows = replace(own.rows, slope=slope)
        if rows.num_rows > MOST_ROWS:
            return not task.expired
        known = rows.cost(sequences[own.block])
        pair = beam_chains(rows, width=width, below=known, deadline=task.deadline)
        if pair is not None and rows.cost(pair.sequence()) < known:
            sequences[own.block] = pair.sequence()
        return not task.expired


def pays_spans(objective: Objective) -> bool:
    """Whether every access pays in proportion to its span. Only then can `beam` be used."""
    straight = objective.alpha is not None and objective.gamma is None
    return straight and not (objective.counts_runs or objective.uses_tables)


def _order(task: Task, blocks: list[SpanBlock], sequences: dict[int, np.ndarray]) -> Order:
    problem = task.problem
    classes = {b: problem.classes.of_block(b) for b in range(len(problem.blocks))}
    classes.update({own.block: own.own[sequences[own.block]] for own in blocks})
    return Order.of_classes(problem, np.concatenate(list(classes.values())).tolist())
