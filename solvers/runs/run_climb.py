"""Local search for runs: every block's classes in a sequence whose neighbours differ in few rows.

With the blocks before and after held fast, the sequence of one block is a shortest path through its classes, and
`solvers.runs.class_path` improves it; blocks take turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from problems import Order, Problem
from solvers.common.block_rows import class_sequence
from solvers.common.climbing import Acceptance
from solvers.common.incumbent import Incumbent
from solvers.common.rows import class_bits
from solvers.common.task import Task
from solvers.runs.class_distances import ClassDistances
from solvers.runs.class_path import ClassPath

_TURN_STEPS = 200  # steps: in one block before the next has its turn; by hand
_WARMTH = 1e-6  # share: of the length that a worse path may cost, practically none; by hand

Near = Mapping[int, list[int]]
"""Node of a block to the classes it may be joined to, nearest first."""


class RunClimb:
    """A search that improves an incumbent of the objective `runs`.

    Parameters
    ----------
    task, incumbent
        The problem, and the best order, which is where the search starts.
    distances
        Of the classes of blocks, by block; those that are missing are added.
    near
        By block what a search may join. Default: classes near to each other.
    """

    def __init__(
        self,
        task: Task,
        incumbent: Incumbent,
        *,
        distances: dict[int, ClassDistances] | None = None,
        near: Mapping[int, Near] | None = None,
    ) -> None:
        self._task, self._incumbent = task, incumbent
        self._rng = np.random.default_rng(task.seed)
        problem = task.problem
        self._own = [problem.classes.of_block(b) for b in range(len(problem.blocks))]
        self._sequences = [
            self._own[b][np.arange(len(self._own[b])) if block.pinned else class_sequence(problem, incumbent.order, b)]
            for b, block in enumerate(problem.blocks)
        ]
        self._distances = {} if distances is None else distances
        self._near = {} if near is None else near
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

    def _path(self, b: int) -> ClassPath:
        """The path of a block, made on first use."""
        if b not in self._distances:
            readers = self._task.problem.readers_of(b)
            self._distances[b] = ClassDistances(class_bits(self._task.problem, b, readers))
        if b not in self._paths:
            self._paths[b] = ClassPath(self._distances[b], self._near.get(b))
        return self._paths[b]

    def _turn(self, b: int) -> int:
        """Improve one block, the others held fast; returns the number of steps."""
        own = self._own[b]
        path = self._path(b)
        path.place(np.searchsorted(own, self._sequences[b]), *end_bits(self._task.problem, self._sequences, b))
        path.descend(self._task.deadline)
        best, acceptance = path.sequence(), Acceptance(path.length, self._rng, warmth=_WARMTH)
        made = 0
        while made < min(_TURN_STEPS, 2 * len(own)) and len(own) > 2 and not self._task.expired:
            made += 1
            path.keep()
            path.kick(self._rng)
            path.descend(self._task.deadline)
            if not acceptance.accepts(path.length):
                path.undo()
            elif acceptance.idle == 0:
                best = path.sequence()
        if acceptance.current == acceptance.best:
            best = path.sequence()  # As good as any, but with other ends perhaps.
        self._sequences[b] = own[best]
        return max(1, made)


def end_bits(problem: Problem, sequences: list[np.ndarray], block: int) -> tuple[np.ndarray, np.ndarray]:
    """Which readers of a block keep what stands before it and behind it, the other blocks held fast.

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
        bool, shape (readers of the block,) each.
    """
    readers = problem.readers_of(block)
    before, after = np.zeros(len(readers), dtype=bool), np.zeros(len(readers), dtype=bool)
    signature = problem.classes.signature
    for k, r in enumerate(readers):
        reader = problem.readers[r]
        if reader.slot > 0:
            before[k] = signature[sequences[problem.readers[r - 1].block][-1], r - 1]
        if r + 1 < len(problem.readers) and problem.readers[r + 1].access == reader.access:
            after[k] = signature[sequences[problem.readers[r + 1].block][0], r + 1]
    return before, after
