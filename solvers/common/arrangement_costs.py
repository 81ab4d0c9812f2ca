"""What accesses must pay for the places of units alone, whatever the order of channels.

Of the blocks in which an access keeps channels it covers all but the first and the last one as a whole. Those two it
may cover in part, so that of all arrangements the best one for it has the two with most unwanted channels there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from problems import Objective, Problem
from problems.bundles import occupants, permuted_slots
from solvers.common.least_costs import least_costs


class ArrangementCosts:
    """Bounds on the costs of a problem with bundles.

    Parameters
    ----------
    problem, objective
        What is solved.

    Examples
    --------
    >>> from problems import OBJECTIVES
    >>> from problems.generators import grouped_masks
    >>> costs = ArrangementCosts(grouped_masks(5, 4, 2, whole=0, seed=3), OBJECTIVES["span"])
    >>> costs.least().tolist(), costs.bound([np.arange(5)]), costs.bound([np.array([1, 0, 3, 2, 4])])
    ([15, 5], 23, 22)
    """

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self._problem = problem
        self._costs = None if objective.counts_runs else least_costs(problem, objective)
        reads = iter(problem.reads)
        self._kept, self._unwanted = [], []
        for access in problem.accesses:
            kept = np.array([int(next(reads)[problem.stored[b]].sum()) for b in access.blocks])
            self._kept.append(kept)
            self._unwanted.append(np.array([len(problem.stored[b]) for b in access.blocks]) - kept)

    def least(self) -> np.ndarray:
        """What each access pays in the arrangement that is best for it, at least; int64, shape (num_accesses,)."""
        least = []
        for a, (kept, unwanted) in enumerate(zip(self._kept, self._unwanted, strict=True)):
            partial = np.sort(unwanted[kept > 0])
            if self._costs is None:
                # A gap lies between two blocks kept in part at most, and two of these may have theirs at the ends.
                least.append(max(1, -(-np.count_nonzero(partial) // 2)))
            else:
                least.append(int(self._costs[a][partial[:-2].sum() if len(partial) > 1 else 0]))
        return np.array(least, dtype=np.int64)

    def bound(self, arrangement: Sequence[np.ndarray]) -> int:
        """What the accesses pay together with the units in these places, at least."""
        problem, total = self._problem, 0
        occupant = occupants(len(problem.blocks), problem.bundles, arrangement)
        for a, access in enumerate(problem.accesses):
            if self._costs is None:
                total += 1
                continue
            slots = permuted_slots(access.blocks, occupant)
            met = np.flatnonzero(self._kept[a][slots])
            total += int(self._costs[a][self._unwanted[a][slots][met[0] + 1 : met[-1]].sum()])
        return total
