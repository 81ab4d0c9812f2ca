"""Local search for copies: a set of accesses that can all be views, some given up, others taken in.

Whether a set of accesses can be views at the same time is decided by the consecutive-ones test.
"""

from __future__ import annotations

import numpy as np

from solvers.climbing import Acceptance
from solvers.incumbent import Incumbent
from solvers.task import Task
from solvers.view_model import ViewTest

_LARGEST_SHARE = 0.5


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
    test = ViewTest(task)
    gamma = task.objective.gamma or 0
    price = np.array([gamma * a.channel_size * a.num_kept for a in task.problem.accesses], dtype=np.int64)
    views = test.extended([a for a, cost in enumerate(task.costs(incumbent.order)) if cost.mode == "view"], price)
    acceptance = Acceptance(_copied(price, views), rng)
    best, steps = views, 0
    incumbent.offer(test.order(best))
    while acceptance.idle < patience * len(price) and not task.expired and not incumbent.closed:
        steps += 1
        share = rng.uniform(0, _LARGEST_SHARE)
        kept = [a for a in views if rng.random() >= share]
        trial = test.extended(kept, price * rng.uniform(0.3, 1.0, len(price)))
        if acceptance.accepts(_copied(price, trial)):
            views = trial
            if acceptance.idle == 0:
                best = trial
                incumbent.offer(test.order(best))
        if acceptance.returns():
            views = best
    return steps


def _copied(price: np.ndarray, views: list[int]) -> int:
    return int(price.sum()) - int(price[views].sum())
