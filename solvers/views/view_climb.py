"""Local search for copies: a set of accesses that can all be views, some given up, others taken in.

Whether accesses can be views together is decided block by block by the consecutive-ones test, after a look at the
small conflicts, which rule out most of them at once.
"""

from __future__ import annotations

import numpy as np

from problems import Order
from solvers.common.block_rows import span_blocks
from solvers.common.climbing import Acceptance
from solvers.common.incumbent import Incumbent
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.views.conflicts import small_conflicts
from solvers.views.consecutive import consecutive_order

_LARGEST_SHARE = 0.6  # share: of views that a kick gives up, at most; by hand
_CONFLICT_SHARE = 0.3  # share: of the time for conflicts of two and three accesses; by hand
_MOST_KNOWN = 100_000  # sets: of views whose test is remembered: a bound on memory; by hand


def climb_views(task: Task, incumbent: Incumbent, *, patience: int) -> int:
    """Improve the incumbent of an objective without over-reading; returns the number of steps.

    Parameters
    ----------
    task, incumbent
        The problem, and the best order, whose views are where the search starts.
    patience
        Fruitless steps per access before it gives up.
    """
    rng = np.random.default_rng(task.seed)
    gamma = task.objective.gamma or 0
    price = np.array([gamma * a.channel_size * a.num_kept for a in task.problem.accesses], dtype=np.int64)
    sets = _ViewSets(task, price)
    views = [a for a, cost in enumerate(task.costs(incumbent.order)) if cost.mode == "view"]
    views = best = sets.extended(views, np.argsort(-price, kind="stable"))
    incumbent.offer(sets.order(best))
    acceptance = Acceptance(int(price.sum() - price[views].sum()), rng)
    steps = 0
    while acceptance.idle < patience * len(price) and not task.expired and not incumbent.closed:
        steps += 1
        lost = rng.random(len(views)) < rng.uniform(0, _LARGEST_SHARE)
        wanted = np.argsort(-price * rng.uniform(0.3, 1.0, len(price)))
        trial = sets.extended([a for a, gone in zip(views, lost) if not gone], wanted)
        if acceptance.accepts(int(price.sum() - price[trial].sum())):
            views = trial
            if acceptance.idle == 0:
                best = trial
                incumbent.offer(sets.order(best))
        if acceptance.returns():
            views = best
    return steps


class _ViewSets:
    """Sets of accesses that can all be views."""

    def __init__(self, task: Task, price: np.ndarray) -> None:
        self._task = task
        spans = span_rows(task.problem)
        self._blocks = span_blocks(task.problem, spans)
        self._conflicts = small_conflicts(task.problem, spans, price, deadline=task.within(_CONFLICT_SHARE).deadline)
        self._fixed = spans.fixed
        self._read_by: list[list[int]] = [[] for _ in task.problem.accesses]
        for i, block in enumerate(self._blocks):
            for a in block.access.tolist():
                self._read_by[a].append(i)
        self._known: dict[tuple[int, bytes], bool] = {}

    def extended(self, views: list[int], wanted: np.ndarray) -> list[int]:
        """Add accesses in the order wanted as long as all can be views; fewer if the deadline passes."""
        views = list(views)
        for a in wanted.tolist():
            if self._task.expired:
                break
            if a not in views and self._fits(a, views):
                views.append(a)
        return views

    def order(self, views: list[int]) -> Order:
        """An order under which these accesses are views."""
        classes = self._task.problem.classes
        sequences = {b: classes.of_block(b) for b in range(len(self._task.problem.blocks))}
        for i, block in enumerate(self._blocks):
            sequence = self._sequence(i, np.isin(block.access, views))
            assert sequence is not None
            sequences[block.block] = block.own[sequence]
        return Order.of_classes(self._task.problem, np.concatenate(list(sequences.values())).tolist())

    def _fits(self, a: int, views: list[int]) -> bool:
        if self._fixed[a] or self._conflicts.forbid(a, views):
            return False
        for i in self._read_by[a]:
            chosen = np.isin(self._blocks[i].access, [*views, a])
            key = i, np.packbits(chosen).tobytes()
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            if key not in self._known:
                self._known[key] = self._sequence(i, chosen) is not None
            if not self._known[key]:
                return False
        return True

    def _sequence(self, i: int, chosen: np.ndarray) -> np.ndarray | None:
        """An order of one block's classes that makes the chosen rows contiguous; None if there is none."""
        rows = self._blocks[i].rows
        return consecutive_order(rows.bits[:, chosen], rows.left[chosen], rows.right[chosen])
