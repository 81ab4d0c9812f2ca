"""Can some accesses all be views, block by block? With an order if so, and otherwise a small set that cannot."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from problems import Order
from solvers.common.block_rows import order_of, span_blocks
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.views.conflicts import SmallConflicts
from solvers.views.consecutive import consecutive_order

_MOST_KNOWN = 100_000  # sets: of views whose test is remembered: a bound on memory; by hand


class ViewTest:
    """The consecutive-ones test of sets of accesses: blocks are independent, so that each is tested by itself.

    Parameters
    ----------
    task
        Problem and deadline.
    known
        Conflicts of a few accesses, which rule out most sets at once when one is extended. Default: none are known.
    """

    def __init__(self, task: Task, known: SmallConflicts | None = None) -> None:
        self._task, self._conflicts = task, known
        spans = span_rows(task.problem)
        self._fixed = spans.fixed
        self._blocks = span_blocks(task.problem, spans)
        self._read_by: list[list[int]] = [[] for _ in task.problem.accesses]
        for i, block in enumerate(self._blocks):
            for a in block.access.tolist():
                self._read_by[a].append(i)
        self._known: dict[tuple[int, bytes], bool] = {}

    def conflict(self, views: list[int]) -> list[int] | None:
        """None if the accesses can all be views, else a set of them that cannot, minimal unless time runs out."""
        for a in views:
            if self._fixed[a]:
                return [a]
        conflicting = False
        for i, block in enumerate(self._blocks):  # in a later block fewer of them may conflict
            if self._sequence(i, views) is not None:
                continue
            conflicting = True
            views = [a for a in views if a in block.access]
            for a in list(views):
                if self._task.expired:
                    return views
                without = [other for other in views if other != a]
                if self._sequence(i, without) is None:
                    views = without
        return views if conflicting else None

    def extended(self, views: Iterable[int], wanted: np.ndarray) -> list[int]:
        """Add accesses in the order wanted as long as all can be views; fewer if the deadline passes."""
        views = list(views)
        for a in wanted.tolist():
            if self._task.expired:
                break
            if a not in views and self._fits(a, views):
                views.append(a)
        return views

    def order(self, views: list[int]) -> Order:
        """An order under which these accesses, free of conflict, are views."""
        sequences = {}
        for i, block in enumerate(self._blocks):
            sequence = self._sequence(i, views)
            assert sequence is not None
            sequences[block.block] = block.own[sequence]
        return order_of(self._task.problem, sequences)

    def _fits(self, a: int, views: list[int]) -> bool:
        """Whether an access can be a view beside others that can; answers are remembered."""
        if self._fixed[a] or (self._conflicts is not None and self._conflicts.forbid(a, views)):
            return False
        both = [*views, a]
        for i in self._read_by[a]:
            key = i, np.packbits(np.isin(self._blocks[i].access, both)).tobytes()
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            if key not in self._known:
                self._known[key] = self._sequence(i, both) is not None
            if not self._known[key]:
                return False
        return True

    def _sequence(self, i: int, views: list[int]) -> np.ndarray | None:
        """An order of one block's classes that makes the rows of some accesses contiguous; None if there is none."""
        rows = self._blocks[i].rows
        chosen = np.isin(self._blocks[i].access, views)
        return consecutive_order(rows.bits[:, chosen], rows.left[chosen], rows.right[chosen])
