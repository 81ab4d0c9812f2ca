"""Local search for copies: a set of accesses that can all be views, some given up, others taken in.

Whether accesses can be views together is decided block by block by the consecutive-ones test, after a look at the
small conflicts, which rule out most of them at once.
"""

from __future__ import annotations

import numpy as np

from solvers.common.climbing import Acceptance
from solvers.common.incumbent import Incumbent
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.views.conflicts import small_conflicts
from solvers.views.view_test import ViewTest

_LARGEST_SHARE = 0.6  # share: of views that a kick gives up, at most; by hand
_CONFLICT_SHARE = 0.3  # share: of the time for conflicts of two and three accesses; by hand


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
    known = small_conflicts(
        task.problem, span_rows(task.problem), price, deadline=task.within(_CONFLICT_SHARE).deadline
    )
    sets = ViewTest(task, known)
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
