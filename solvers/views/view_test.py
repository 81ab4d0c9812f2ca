"""Can some accesses all be views, block by block? With an order if so, and otherwise a small set that cannot."""

from __future__ import annotations

import numpy as np

from problems import Order
from solvers.common.rows import class_bits, span_rows
from solvers.common.task import Task
from solvers.views.consecutive import consecutive_order


class ViewTest:
    """The sub-problem: blocks are independent, so a set of views is tested block by block."""

    def __init__(self, task: Task) -> None:
        problem = task.problem
        self._task = task
        spans = span_rows(problem)
        self._fixed = spans.fixed
        self._blocks = []
        for b in range(len(problem.blocks)):
            rows = spans.of_block(b)
            if not rows:
                continue
            own = problem.classes.of_block(b)
            bits = class_bits(problem, b, (row.reader for row in rows))
            ends = np.array([(row.left, row.right) for row in rows], dtype=bool)
            self._blocks.append((b, own, np.array([row.access for row in rows]), bits, ends))

    def conflict(self, views: list[int]) -> list[int] | None:
        """None if the accesses can all be views, else a set of them that cannot, minimal unless time runs out."""
        for a in views:
            if self._fixed[a]:
                return [a]
        conflicting = False
        for i in range(len(self._blocks)):  # in a later block fewer of them may conflict
            if self._sequence(i, views) is not None:
                continue
            conflicting = True
            views = [a for a in views if a in self._blocks[i][2]]
            for a in list(views):
                if self._task.expired:
                    return views
                without = [other for other in views if other != a]
                if self._sequence(i, without) is None:
                    views = without
        return views if conflicting else None

    def extended(self, views: list[int], price: np.ndarray) -> list[int]:
        """Add further accesses, most expensive first, as long as all can be views."""
        views = list(views)
        for a in np.argsort(-price, kind="stable").tolist():
            if a in views or self._fixed[a] or self._task.expired:
                continue
            if all(self._sequence(i, [*views, a]) is not None for i in range(len(self._blocks))):
                views.append(a)
        return views

    def order(self, views: list[int]) -> Order:
        """An order under which these accesses, free of conflict, are views."""
        classes = self._task.problem.classes
        sequences = {b: classes.of_block(b) for b in range(len(self._task.problem.blocks))}
        for i, (b, own, *_) in enumerate(self._blocks):
            sequence = self._sequence(i, views)
            assert sequence is not None
            sequences[b] = own[sequence]
        return Order.of_classes(self._task.problem, np.concatenate(list(sequences.values())).tolist())

    def _sequence(self, i: int, views: list[int]) -> np.ndarray | None:
        """An order of one block's classes that makes the rows of some accesses contiguous; None if there is none."""
        _, _, access, bits, ends = self._blocks[i]
        chosen = np.isin(access, views)
        return consecutive_order(bits[:, chosen], ends[chosen, 0], ends[chosen, 1])
