"""The solver `lns`: large neighbourhood search, block by block. Each neighbourhood is searched exactly.

It starts from the order of `local-search`. A neighbourhood is the classes of a window, or of a whole block if it is
small. The rest of the block and the other blocks stay fixed. Copies and runs are left to `local-search`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from problems import Order
from solvers.common.block_rows import BlockRows, SpanBlock, class_sequence, order_of, span_blocks
from solvers.common.clock import time_now
from solvers.common.errors import SolverError
from solvers.common.incumbent import Incumbent
from solvers.common.rows import span_rows
from solvers.common.task import Finding, Task
from solvers.methods.in_places import solved_in_places
from solvers.methods.local_search import LocalSearch
from solvers.spans.heuristics.class_windows import best_window
from solvers.spans.heuristics.tangent_lines import SpanCurves


@dataclass(frozen=True)
class LargeNeighbourhoods:
    """A heuristic with the trivial bound; never worse than greedy, the identity or the hint.

    Parameters
    ----------
    patience
        Neighbourhoods without an improvement, per searched block, before it gives up. Default 1000.
    max_classes
        Most classes that are ordered at once. Default 12.
    first_share
        Share of the time for the local search it begins with, for costs that depend on spans. Default 0.5.
    first
        The local search at the start.

    Raises
    ------
    SolverError
        If a parameter is out of its range.
    """

    patience: int = 1000
    max_classes: int = 12
    first_share: float = 0.5
    first: LocalSearch = field(default_factory=LocalSearch)
    name: ClassVar[str] = "lns"
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.patience < 1 or not 4 <= self.max_classes <= 20 or not 0 < self.first_share <= 1:
            raise SolverError("lns: give a patience of at least 1, 4 to 20 classes, and a share above 0 and at most 1")

    def solve(self, task: Task) -> Finding:
        """The best order found until the deadline."""
        if task.problem.bundles:
            return solved_in_places(self, task)
        objective = task.objective
        for_spans = not objective.counts_runs and (objective.alpha is not None or objective.uses_tables)
        until = time_now() + self.first_share * task.remaining
        found = self.first.solve(replace(task, deadline=until) if for_spans else task)
        incumbent = Incumbent(replace(task, start=found.order))
        incumbent.raise_bound(found.bound or 0)
        steps = 0
        if for_spans and not incumbent.closed:
            steps = _SpanWindows(task, incumbent, self).run()
        stats = {"first_value": found.value, "neighbourhoods": steps}
        return incumbent.finding(stats)


class _SpanWindows:
    """The search for spans. Its sequences are those of the incumbent, or equally good."""

    def __init__(self, task: Task, incumbent: Incumbent, config: LargeNeighbourhoods) -> None:
        self._task, self._incumbent, self._config = task, incumbent, config
        self._rng = np.random.default_rng(task.seed)
        spans = span_rows(task.problem)
        self._curves = SpanCurves(task)
        self._excess = spans.fixed.copy()
        self._blocks = span_blocks(task.problem, spans)
        self._sequences = [class_sequence(task.problem, incumbent.order, block.block) for block in self._blocks]
        for block, sequence in zip(self._blocks, self._sequences):
            np.add.at(self._excess, block.access, block.rows.covered(sequence) - block.rows.weight @ block.rows.bits)
        self._value = self._true_value()

    def run(self) -> int:
        """Search until the deadline, or until `patience` searches fail. Returns the number of neighbourhoods."""
        open_blocks = [i for i, block in enumerate(self._blocks) if len(block.own) > 1]
        idle = steps = 0
        while open_blocks and idle < self._config.patience * len(open_blocks):
            if self._task.expired or self._incumbent.closed:
                break
            steps, idle = steps + 1, idle + 1
            i = int(self._rng.choice(open_blocks))
            block = self._blocks[i]
            rows = replace(block.rows, slope=self._curves.slopes(block.access, self._excess[block.access]))
            if self._take(i, self._trial(i, rows)):
                idle = 0
            if len(block.own) <= self._config.max_classes and self._curves.straight:
                open_blocks.remove(i)
        return steps

    def _trial(self, i: int, rows: BlockRows) -> np.ndarray:
        """The best sequence of one neighbourhood of a block."""
        sequence = self._sequences[i]
        begin = int(self._rng.integers(max(1, len(sequence) - self._config.max_classes + 1)))
        if self._rng.random() < 0.5:
            return best_window(
                rows, sequence, begin, max_classes=self._config.max_classes, deadline=self._task.deadline
            )
        turned = replace(rows, left=rows.right, right=rows.left)
        return best_window(
            turned, sequence[::-1], begin, max_classes=self._config.max_classes, deadline=self._task.deadline
        )[::-1]

    def _take(self, i: int, sequence: np.ndarray) -> bool:
        """Take a sequence of a block unless it is worse. Returns whether it is better."""
        block: SpanBlock = self._blocks[i]
        before = self._sequences[i], self._excess
        change = block.rows.covered(sequence) - block.rows.covered(self._sequences[i])
        self._sequences[i], self._excess = sequence, self._excess.copy()
        np.add.at(self._excess, block.access, change)
        value = self._true_value()
        if value > self._value:
            self._sequences[i], self._excess = before
            return False
        better = value < self._value
        self._value = value
        if better:
            self._incumbent.offer(self._order())
        return better

    def _true_value(self) -> int:
        return self._curves.value(self._excess) if self._curves.exact else self._task.value(self._order())

    def _order(self) -> Order:
        sequences = {own.block: own.own[sequence] for own, sequence in zip(self._blocks, self._sequences)}
        return order_of(self._task.problem, sequences)
