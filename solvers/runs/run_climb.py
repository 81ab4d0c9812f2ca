"""Local search for runs: every block's classes in a sequence whose neighbours differ in few rows.

With the blocks before and after held fast, the sequence of one block is a shortest path through its classes, and
`solvers.runs.class_path` improves it; blocks take turns.
"""

from __future__ import annotations

import math

import numpy as np

from problems import Order, Problem
from solvers.common.block_rows import class_sequence
from solvers.common.climbing import Acceptance
from solvers.common.incumbent import Incumbent
from solvers.common.rows import class_bits
from solvers.common.task import Task
from solvers.runs.assignment import assigned_runs
from solvers.runs.class_path import ClassPath

_MOST_ASSIGNED = 3000
_TURN_STEPS = 50
_WARMTH = 3e-4


class RunClimb:
    """A search that improves an incumbent of the objective `runs`.

    Parameters
    ----------
    task, incumbent
        The problem, and the best order, which is where the search starts.
    assign
        Make a cheaper one by assignment first, if that is possible.
    """

    def __init__(self, task: Task, incumbent: Incumbent, *, assign: bool = True) -> None:
        self._task, self._incumbent = task, incumbent
        self._rng = np.random.default_rng(task.seed)
        problem = task.problem
        self._own = [problem.classes.of_block(b) for b in range(len(problem.blocks))]
        if assign and max(map(len, self._own)) <= _MOST_ASSIGNED:
            bound, order = assigned_runs(problem)
            incumbent.raise_bound(bound, method="assignment")
            incumbent.offer(order)
        self._sequences = [
            self._own[b][np.arange(len(self._own[b])) if block.pinned else class_sequence(problem, incumbent.order, b)]
            for b, block in enumerate(problem.blocks)
        ]
        self._paths: dict[int, ClassPath] = {}

    def run(self, patience: int, *, most_steps: float = math.inf) -> int:
        """Search until the deadline, or for `patience` fruitless steps per class; returns the number of steps.

        It also stops at the end of the round through the blocks in which it makes `most_steps` altogether.
        """
        problem = self._task.problem
        free = [b for b, own in enumerate(self._own) if len(own) > 1 and not problem.blocks[b].pinned]
        if not free:
            return 0
        value = self._task.value(self._order())
        idle = steps = 0
        while steps < most_steps and idle < patience * sum(len(self._own[b]) for b in free):
            for b in self._rng.permutation(free).tolist():
                if self._task.expired or self._incumbent.closed:
                    return steps
                before = self._sequences[b]
                made = self._turn(b)
                steps, idle = steps + made, idle + made
                order = self._order()
                after = self._task.value(order)
                if after > value:
                    self._sequences[b] = before
                    continue
                if after < value:
                    idle = 0
                value = after
                self._incumbent.offer(order)
        return steps

    def _order(self) -> Order:
        return Order.of_classes(self._task.problem, np.concatenate(self._sequences).tolist())

    def _turn(self, b: int) -> int:
        """Improve one block, the others held fast; returns the number of steps."""
        own = self._own[b]
        local = np.searchsorted(own, self._sequences[b])
        if b not in self._paths:
            readers = self._task.problem.readers_of(b)
            self._paths[b] = ClassPath(class_bits(self._task.problem, b, readers))
        path = self._paths[b]
        path.place(local, *end_costs(self._task.problem, self._sequences, b))
        path.descend(self._task.deadline)
        best, acceptance = path.sequence(), Acceptance(path.length, self._rng, warmth=_WARMTH)
        made = 0
        while made < _TURN_STEPS and len(own) > 2 and not self._task.expired:
            made += 1
            before = path.snapshot()
            path.kick(self._rng)
            path.descend(self._task.deadline)
            if not acceptance.accepts(path.length):
                path.recall(before)
            elif acceptance.idle == 0:
                best = path.sequence()
        self._sequences[b] = own[best]
        return max(1, made)


def end_costs(problem: Problem, sequences: list[np.ndarray], block: int) -> tuple[np.ndarray, np.ndarray]:
    """What the first and the last class of a block cost in runs, the other blocks held fast.

    Parameters
    ----------
    problem
        The problem.
    sequences
        Per block its classes from left to right.
    block
        The block.

    Returns
    -------
    tuple
        int64, shape (classes of the block,) each: runs that begin with a class if it comes first, and runs that begin
        in the next block behind a class if it comes last.
    """
    own = problem.classes.of_block(block)
    first, last = np.zeros(len(own), dtype=np.int64), np.zeros(len(own), dtype=np.int64)
    signature = problem.classes.signature
    for r in problem.readers_of(block):
        reader = problem.readers[r]
        kept = signature[own, r]
        continues = reader.slot > 0 and signature[sequences[problem.readers[r - 1].block][-1], r - 1]
        if not continues:
            first += kept
        if r + 1 < len(problem.readers) and problem.readers[r + 1].access == reader.access:
            following = sequences[problem.readers[r + 1].block][0]
            last += signature[following, r + 1] & ~kept
    return first, last
