"""The solver `greedy`: UPSCALE's heuristic. It orders the accesses along heavy paths; the channels follow.

This is Algorithm 1 of Wan et al., "UPSCALE: Unconstrained Channel Pruning" (ICML 2023), implemented on Boolean
matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from problems import Order, Problem
from solvers.common.arguments import require_problem, require_settings
from solvers.common.clock import time_now
from solvers.common.errors import SolverError
from solvers.common.task import Finding, Task
from solvers.methods.induced_paths import OutOfTimeError, heaviest_paths

MAX_EXPANSIONS = 50_000  # nodes: of a path search before it returns its best path; measured: tenths of a second

_LEAST_SECONDS = 0.3  # seconds: least time for greedy, even if the time limit is shorter; by hand


@dataclass(frozen=True)
class Greedy:
    """The heuristic of the literature, with the trivial bound.

    It makes the same choices as the authors' program (apple-upscale 0.1.1), with three differences:

    - Their program enumerates all induced paths. That takes too long on sparse graphs of many accesses. This one cuts
      branches that cannot win, which does not change the result. It stops after `max_expansions`, which may change it.
    - Ties between equally heavy paths go to the lowest access index. Theirs follow the iteration order of Python sets.
      That is the same up to eight accesses, and hash order beyond.
    - A channel that an access reads twice (``cat([x, x])``) counts once.

    Parameters
    ----------
    max_expansions
        Most nodes that the path search expands per graph. Default 50 000.
    """

    max_expansions: int = MAX_EXPANSIONS
    name: ClassVar[str] = "greedy"
    exact: ClassVar[bool] = False

    def solve(self, task: Task) -> Finding:
        """Greedy's order, with the trivial bound."""
        return Finding(greedy_order(task.problem, max_expansions=self.max_expansions), bound=task.trivial_bound)


def greedy_in_time(task: Task, share: float) -> list[Order]:
    """Greedy's order, if it is found within a share of the remaining time, or 0.3 s after the start.

    It is found in time unless there are many hundreds of accesses.

    Parameters
    ----------
    task
        The task of another solver that starts with greedy's order.
    share
        Share of the remaining time.

    Returns
    -------
    list of Order
        One order, or none.
    """
    deadline = max(task.within(share).deadline, task.started + _LEAST_SECONDS)
    try:
        return [greedy_order(task.problem, deadline=deadline)]
    except OutOfTimeError:
        return []


def greedy_order(problem: Problem, *, max_expansions: int = MAX_EXPANSIONS, deadline: float = np.inf) -> Order:
    """The order of UPSCALE's Algorithm 1.

    Parameters
    ----------
    problem
        The problem. Channel sizes and the objective have no influence.
    max_expansions
        Limit of the path search, see `Greedy`.
    deadline
        A `time.perf_counter` reading.

    Raises
    ------
    SolverError
        If the problem has constraints.
    solvers.methods.induced_paths.OutOfTimeError
        If the deadline passes.

    Returns
    -------
    Order
        Channels that no access keeps come last; pinned blocks stay as they are.

    Examples
    --------
    >>> from problems import Access, Block
    >>> reads = [[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]]
    >>> accesses = tuple(Access(f"a{i}", (0,), np.array(kept)) for i, kept in enumerate(reads))
    >>> greedy_order(Problem((Block("x", 4),), accesses))[0].tolist()
    [1, 0, 2, 3]
    """
    require_problem(problem)
    require_settings(max_expansions=max_expansions, deadline=deadline)
    if problem.constraints:
        raise SolverError(f"{problem.name} has constraints, and greedy does not keep them; use `solve` with 'cp-sat'")
    sizes = [len(stored) for stored in problem.stored]
    offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    reorderer = _Reorderer(_member_lists(problem, offset), offset, max_expansions, deadline)
    sequence = reorderer.sequence(tuple(range(len(problem.accesses))))
    unkept = np.ones(offset[-1], dtype=bool)
    unkept[sequence] = False
    sequence = np.concatenate([sequence, np.flatnonzero(unkept)])

    block_of = np.repeat(np.arange(len(sizes)), sizes)
    by_block = sequence[np.argsort(block_of[sequence], kind="stable")]
    ranks = np.split(by_block - offset[block_of[by_block]], offset[1:-1])
    return Order(
        stored if block.pinned else stored[rank]
        for block, stored, rank in zip(problem.blocks, problem.stored, ranks, strict=True)
    )


def _member_lists(problem: Problem, offset: np.ndarray) -> list[np.ndarray]:
    """Per access, its kept channels as column indices of all stored channels, in input order, each once."""
    members: list[list[np.ndarray]] = [[] for _ in problem.accesses]
    for reader, read in zip(problem.readers, problem.reads, strict=True):
        kept = np.flatnonzero(read[problem.stored[reader.block]])
        members[reader.access].append(offset[reader.block] + kept)
    return [_first_occurrences(np.concatenate(parts)) for parts in members]


def _first_occurrences(columns: np.ndarray) -> np.ndarray:
    _, first = np.unique(columns, return_index=True)
    return columns[np.sort(first)]


class _Reorderer:
    """The recursion over sub-nodes. Orders of sets of accesses are cached."""

    def __init__(self, members: list[np.ndarray], offset: np.ndarray, max_expansions: int, deadline: float) -> None:
        self._members, self._deadline = members, deadline
        self._offset = offset
        self._max_expansions = max_expansions
        self._known: dict[tuple[int, ...], np.ndarray] = {}
        self._kept = np.zeros((len(members), offset[-1]), dtype=bool)
        for a, columns in enumerate(members):
            self._kept[a, columns] = True
        self._size = self._kept.sum(axis=1)
        self._shared_by_block = np.zeros((len(members), len(members), len(offset) - 1), dtype=np.int64)
        for b, (begin, end) in enumerate(pairwise(offset)):
            part = self._kept[:, begin:end].astype(np.float64)
            self._shared_by_block[:, :, b] = part @ part.T
        self._shared = self._shared_by_block.sum(axis=2)
        self._subset = self._shared == self._size[:, np.newaxis]
        self._edges = np.stack([self._edges_from(a) for a in range(len(members))]) if members else self._subset

    def _edges_from(self, a: int) -> np.ndarray:
        """Which accesses may follow access `a`; bool, shape (num_accesses,).

        They must share channels with `a`. Going backwards through the blocks of `a`, no shared block may lie behind a
        block that is not shared as a whole. The reason: only within a block can channels be moved next to the
        follower's.
        """
        if time_now() >= self._deadline:
            raise OutOfTimeError
        block_of = np.searchsorted(self._offset, self._members[a], side="right") - 1
        groups = block_of[np.flatnonzero(np.diff(block_of, prepend=-1))][::-1]
        shared = self._shared_by_block[a]
        first_visit = np.zeros(len(groups), dtype=bool)
        first_visit[np.unique(groups, return_index=True)[1]] = True
        incomplete = (shared[:, groups] < shared[a, groups]) | ~first_visit
        rest = (shared[:, groups] > 0) & first_visit
        rest_behind = np.cumsum(rest[:, ::-1], axis=1)[:, ::-1] - rest > 0
        follows = (self._shared[a] > 0) & ~(incomplete & rest_behind).any(axis=1)
        follows[a] = False
        return follows

    def sequence(self, nodes: tuple[int, ...]) -> np.ndarray:
        """Columns that some of the nodes keep, in the order of the algorithm."""
        if nodes not in self._known:
            self._known[nodes] = self._compute(nodes)
        return self._known[nodes]

    def _compute(self, nodes: tuple[int, ...]) -> np.ndarray:
        idx = np.array(nodes, dtype=np.int64)
        subset = self._subset[np.ix_(idx, idx)]
        np.fill_diagonal(subset, False)
        equal_before = subset & subset.T & (idx[:, np.newaxis] > idx)
        is_child = ((subset & ~subset.T) | equal_before).any(axis=1)
        parents = idx[~is_child]
        inner = {p: self._inner_sequence(p, idx[subset[:, i]]) for i, p in zip(np.flatnonzero(~is_child), parents)}

        size, shared = self._size[parents], self._shared[np.ix_(parents, parents)]
        edges = self._edges[np.ix_(parents, parents)]
        paths = heaviest_paths(size - shared, edges, size, max_expansions=self._max_expansions, deadline=self._deadline)

        placed = np.zeros(self._kept.shape[1], dtype=bool)
        sequence: list[np.ndarray] = []
        nobody = np.zeros(self._kept.shape[1], dtype=bool)
        for path in paths:
            rows = [nobody, *(self._kept[parents[node]] for node in path), nobody]
            for node, before, after in zip(path, rows, rows[2:]):
                own = inner[parents[node]]
                in_before, in_after = before[own], after[own]
                for part in (own[in_before], own[~in_before & ~in_after], own[in_after]):
                    fresh = part[~placed[part]]
                    placed[fresh] = True
                    sequence.append(fresh)
        return np.concatenate(sequence) if sequence else np.zeros(0, dtype=np.int64)

    def _inner_sequence(self, parent: int, children: np.ndarray) -> np.ndarray:
        """Order of a node's own columns: its sub-nodes' sequence, then the others as the access lists them."""
        if len(children) == 0:
            return np.sort(self._members[parent])
        inner = self.sequence(tuple(children.tolist()))
        others = self._members[parent]
        return np.concatenate([inner, others[~np.isin(others, inner)]])
