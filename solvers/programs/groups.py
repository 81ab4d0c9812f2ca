"""Bounds from groups of accesses: the exact optimum of a few of them bounds what they cost among all the others.

Groups are drawn at random, as large as the DP over placed sets allows; every group gives an inequality, and the best
combination of them (a linear program, its dual checked) gives a bound on the whole.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from solvers.common.incumbent import Incumbent
from solvers.common.proofs import group_claims
from solvers.common.rows import class_bits, span_rows
from solvers.common.task import Task
from solvers.spans.exact.placed_sets_with_copies import LinearRest, copied_subsets

MAX_GROUP_CLASSES = 15  # classes: per block that a group may tell apart (0.05 s each)

_IDLE_ROUNDS = 30  # draws: in vain before no more groups are looked for; by hand


@dataclass(frozen=True)
class Group:
    """Accesses, ascending, and the least they can cost together."""

    accesses: tuple[int, ...]
    cost: int


def bound_by_groups(task: Task, incumbent: Incumbent, *, work: int, deadline: float) -> list[Group]:
    """Raise an incumbent's bound by random groups of accesses, solved exactly; returns those.

    Parameters as in `solved_groups`; the objective does not use tables.
    """
    groups = solved_groups(task, work=work, deadline=deadline)
    alone = _single_costs(task)
    incumbent.raise_bound(
        combined_bound(groups, alone),
        lambda _: group_claims(
            task.problem,
            [group.accesses for group in groups],
            [group.cost for group in groups],
            alone,
            group_weights(groups, alone)[0],
        ),
        method="groups",
    )
    return groups


def solved_groups(task: Task, *, work: int, deadline: float) -> list[Group]:
    """Solve random groups of accesses exactly.

    Parameters
    ----------
    task
        Problem, objective (not runs) and seed.
    work
        Budget in states of the DP, so that the same groups come out on every machine; 0 for none.
    deadline
        A `time.perf_counter` reading; no group is begun after it, and one cut off by it is left out.

    Returns
    -------
    list of Group
        Proper subsets of the accesses, those that cost something.
    """
    rest = LinearRest(task.problem, task.objective.alpha, deadline=deadline)
    sizes = _GroupSizes(task)
    rng = np.random.default_rng(task.seed)
    num = len(task.problem.accesses)
    seen: set[tuple[int, ...]] = set()
    groups: list[Group] = []
    idle = 0
    while work > 0 and idle < _IDLE_ROUNDS:
        idle += 1
        for members in _partition(rng.permutation(num).tolist(), sizes):
            if members in seen or len(members) < 2 or len(members) == num:
                continue
            if work <= 0 or time.perf_counter() >= deadline:
                return groups
            seen.add(members)
            idle = 0
            work -= sizes.states(members)
            cost = _optimum(task, rest, members)
            if cost is None:
                return groups
            if cost > 0:
                groups.append(Group(members, cost))
    return groups


def combined_bound(groups: list[Group], single: np.ndarray) -> int:
    """Best bound on the total cost that the groups imply together.

    Parameters
    ----------
    groups
        Solved groups.
    single
        int, shape (num_accesses,): a bound on each access's own cost.

    Examples
    --------
    >>> combined_bound([Group((0, 1), 4), Group((1, 2), 4), Group((0, 2), 4)], np.zeros(3, dtype=int))
    6
    """
    y, gain = group_weights(groups, single)
    return max(int(single.sum()), math.ceil(float(gain @ y + single.sum()) * (1 - 1e-12) - 1e-6))


def group_weights(groups: list[Group], single: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much every group counts in the best combination, and what it adds to its accesses' own costs.

    Returns
    -------
    tuple
        float arrays of shape (num_groups,); no access counts more than once, up to rounding.
    """
    if not groups:
        return np.zeros(0), np.zeros(0)
    from scipy.optimize import linprog

    member = np.zeros((len(groups), len(single)))
    for g, group in enumerate(groups):
        member[g, list(group.accesses)] = 1
    least = np.array([group.cost for group in groups], dtype=float)
    # dual: maximise sum(y * least) + sum((1 - load) * single) with load = member' y <= 1, y >= 0
    gain = least - member @ single
    answer = linprog(-gain, A_ub=member.T, b_ub=np.ones(len(single)), bounds=(0, None), method="highs")
    if answer.x is None:
        return np.zeros(len(groups)), gain
    y = np.clip(answer.x, 0, None)
    return y / max(1.0, float((member.T @ y).max(initial=0.0))), gain


def _single_costs(task: Task) -> np.ndarray:
    """What every access costs on its own; int64, shape (num_accesses,)."""
    fixed = span_rows(task.problem).fixed
    nothing = np.zeros(1, dtype=np.int64)
    return np.array(
        [
            task.objective.costs(access, access.num_kept + fixed[a : a + 1], nothing)[0]
            for a, access in enumerate(task.problem.accesses)
        ],
        dtype=np.int64,
    )


class _GroupSizes:
    """How many classes a group tells apart in each block, and so what it costs to solve."""

    def __init__(self, task: Task) -> None:
        problem = task.problem
        self._blocks = []
        spans = span_rows(problem)
        for b in range(len(problem.blocks)):
            rows = spans.of_block(b)
            if rows:
                bits = class_bits(problem, b, (row.reader for row in rows))
                self._blocks.append((bits, np.array([row.access for row in rows])))

    def states(self, members: tuple[int, ...]) -> int:
        """States of the DP over all blocks."""
        return sum(1 << num for num in self._classes(members))

    def fits(self, members: tuple[int, ...]) -> bool:
        """Whether every block is small enough."""
        return max(self._classes(members), default=0) <= MAX_GROUP_CLASSES + 1

    def _classes(self, members: tuple[int, ...]) -> list[int]:
        counts = []
        for bits, access in self._blocks:
            chosen = np.isin(access, members)
            if chosen.any():
                counts.append(len(np.unique(np.packbits(bits[:, chosen], axis=1), axis=0)))
        return counts


def _partition(accesses: list[int], sizes: _GroupSizes) -> list[tuple[int, ...]]:
    """Cut a sequence of accesses into groups, each as long as it fits but never all of them."""
    groups: list[tuple[int, ...]] = []
    current: tuple[int, ...] = ()
    for a in accesses:
        longer = tuple(sorted((*current, a)))
        if current and (len(longer) == len(accesses) or not sizes.fits(longer)):
            groups.append(current)
            longer = (a,)
        current = longer
    return [*groups, current]


def _optimum(task: Task, rest: LinearRest, members: tuple[int, ...]) -> int | None:
    """Least cost of a group, some of it copied; None if the deadline passed."""
    best: int | None = None
    for copy_cost, others in copied_subsets(task.problem, task.objective, members):
        if best is not None and copy_cost >= best:
            break
        excess = rest.excess(others)
        if excess is None:
            return None
        best = copy_cost + excess if best is None else min(best, copy_cost + excess)
    return best
