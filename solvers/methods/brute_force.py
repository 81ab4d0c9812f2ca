"""The solver `brute-force`: it evaluates every distinct order of single channels, by `evaluate_batch`.

It is an oracle for tests. It does not assume that classes are contiguous; it only treats channels that the same
readers keep as interchangeable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from problems import FixedPlace, Order, Problem, evaluate_batch
from solvers.common.clock import time_now
from solvers.common.errors import SolverError
from solvers.common.task import Finding, Task

ARRANGEMENTS_PER_SECOND = 20_000
"""arrangements: priced in a second, a low guess; 1.1 to 1.5 million of 8 to 9 channels on 2026-11-28"""


@dataclass(frozen=True)
class BruteForce:
    """Tries every order; for tests and tiny problems.

    Parameters
    ----------
    max_arrangements
        Problems with more distinct orders are refused. Default 2 million.
    chunk
        Number of orders that are evaluated at once; memory grows with it. Default 16 384.
    """

    max_arrangements: int = 2_000_000
    chunk: int = 16_384
    name: ClassVar[str] = "brute-force"
    exact: ClassVar[bool] = True
    keeps_constraints: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The best of all orders, or of those that were tried before the deadline.

        Raises
        ------
        SolverError
            If there are more than `max_arrangements`.
        """
        problem = task.problem
        total = num_arrangements(problem)
        if total > self.max_arrangements:
            raise SolverError(
                f"brute-force: {problem.name} has about 10^{math.log10(total):.0f} arrangements, more than the "
                f"{self.max_arrangements} it may try; use 'pair-of-chains' or 'cp-sat', or raise max_arrangements"
            )
        labels = [_allowed(problem, b, _arrangements(_class_sizes(problem, b))) for b in range(len(problem.blocks))]
        total = math.prod(len(rows) for rows in labels)
        best_value, best = task.start_value, task.start
        tried = 0
        while tried < total and not task.expired:
            flat = np.arange(tried, min(tried + self.chunk, total))
            picks = np.unravel_index(flat, [len(rows) for rows in labels])
            orders = [_channels(problem, b, rows[pick]) for b, (rows, pick) in enumerate(zip(labels, picks))]
            values = evaluate_batch(problem, orders, task.objective)
            tried += len(flat)
            time_now(len(flat) / ARRANGEMENTS_PER_SECOND)
            least = int(values.argmin())
            if values[least] < best_value:
                best_value, best = int(values[least]), Order(rows[least] for rows in orders)
                task.report(best_value, task.trivial_bound, best)
        done = tried >= total
        return Finding(
            best,
            bound=best_value if done else task.trivial_bound,
            optimal=done,
            value=best_value,
            stats={"arrangements": total, "tried": tried},
        )


def num_arrangements(problem: Problem) -> int:
    """Number of distinct orders of channels over all blocks, as an exact integer.

    Examples
    --------
    >>> from problems.generators import disjoint_masks
    >>> num_arrangements(disjoint_masks(4, 4))
    24
    """
    total = 1
    for b in range(len(problem.blocks)):
        sizes = _class_sizes(problem, b)
        if not problem.blocks[b].pinned:
            total *= math.factorial(sum(sizes)) // math.prod(math.factorial(size) for size in sizes)
    return total


def _class_sizes(problem: Problem, block: int) -> list[int]:
    """Class sizes of a block. A pinned block counts as one class, because it has only one order."""
    if problem.blocks[block].pinned:
        return [len(problem.stored[block])]
    return problem.classes.weight[problem.classes.of_block(block)].tolist()


def _arrangements(sizes: list[int]) -> np.ndarray:
    """All distinct sequences in which label i occurs ``sizes[i]`` times; int16, shape (number, sum of sizes)."""
    left = np.array([sizes], dtype=np.int16)
    prefix = np.zeros((1, 0), dtype=np.int16)
    for _ in range(sum(sizes)):
        row, label = np.nonzero(left)
        prefix = np.concatenate([prefix[row], label[:, np.newaxis].astype(np.int16)], axis=1)
        left = left[row]
        left[np.arange(len(row)), label] -= 1
    return prefix


def _allowed(problem: Problem, block: int, labels: np.ndarray) -> np.ndarray:
    """The label sequences that keep the constraints on a block; constrained channels have labels of their own."""
    label = {int(problem.classes.members[s][0]): k for k, s in enumerate(problem.classes.of_block(block))}
    for own in problem.constraints:
        if own.block != block:
            continue
        places = [(labels == label[channel]).argmax(axis=1) for channel in own.channels]
        if isinstance(own, FixedPlace):
            labels = labels[places[0] == own.place % labels.shape[1]]
        else:
            labels = labels[places[0] < places[1]]
    return labels


def _channels(problem: Problem, block: int, labels: np.ndarray) -> np.ndarray:
    """Label sequences as orders: the k-th channel of a class stands where its label occurs for the k-th time."""
    if problem.blocks[block].pinned:
        return np.broadcast_to(problem.stored[block], labels.shape)
    members = np.concatenate([problem.classes.members[s] for s in problem.classes.of_block(block)])
    channels = np.empty(labels.shape, dtype=np.int64)
    where = np.argsort(labels, axis=1, kind="stable")
    np.put_along_axis(channels, where, np.broadcast_to(members, labels.shape), axis=1)
    return channels
