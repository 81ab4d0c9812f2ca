"""Runs without search: a bound from assigning every class its successor, and an order from joining the cycles.

The assignment relaxes the circuit of `run_model`; its cycles are patched into one, cheapest exchange first (Karp,
"A patching algorithm for the nonsymmetric traveling-salesman problem", SIAM J. Comput. 8, 1979).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from problems import Order, Problem
from solvers.common.rows import class_bits


def assigned_runs(problem: Problem) -> tuple[int, Order]:
    """A bound on the number of runs, and an order made from the assignment behind it.

    Blocks are treated one by one: a run that may have begun in the block before costs nothing at a block's start.

    Examples
    --------
    >>> from problems.generators import disjoint_masks
    >>> bound, order = assigned_runs(disjoint_masks(8, 3))
    >>> bound, sorted(order[0].tolist())
    (3, [0, 1, 2, 3, 4, 5, 6, 7])
    """
    bound = 0
    sequence: list[int] = []
    for b, block in enumerate(problem.blocks):
        own = problem.classes.of_block(b)
        cost = block_arcs(problem, b)
        if block.pinned:
            bound += int(np.diagonal(cost, 1).sum())
            sequence.extend(own)
            continue
        successor = successors(cost)
        bound += int(cost[np.arange(len(cost)), successor].sum())
        sequence.extend(own[_patched(cost, successor) - 1])
    return bound, Order.of_classes(problem, sequence)


def block_arcs(problem: Problem, block: int) -> np.ndarray:
    """Runs that begin at one node when it follows another (row) one.

    Node 0 is the block's border, the others are its classes. What may continue a run of the block before begins none.

    Returns
    -------
    np.ndarray
        int64, shape (num_classes + 1, num_classes + 1); the diagonal is dearer than any tour.
    """
    bits = class_bits(problem, block, problem.readers_of(block)).astype(np.float32)
    continues = [r for r in problem.readers_of(block) if _may_continue(problem, r)]
    cost = np.zeros((len(bits) + 1,) * 2, dtype=np.int64)
    cost[1:, 1:] = (1 - bits) @ bits.T
    cost[0, 1:] = bits.sum(axis=1) - class_bits(problem, block, continues).sum(axis=1)
    np.fill_diagonal(cost, cost.max(initial=0) * (len(cost) + 1) + 1)
    return cost


def successors(cost: np.ndarray) -> np.ndarray:
    """The cheapest choice of a successor for every node, each once; int, shape (num_nodes,)."""
    return linear_sum_assignment(cost)[1]


def _may_continue(problem: Problem, r: int) -> bool:
    """Whether a run of reader r might have begun in the block before it."""
    return problem.readers[r].slot > 0 and bool(problem.reads[r - 1].any())


def _patched(cost: np.ndarray, successor: np.ndarray) -> np.ndarray:
    """Join the cycles of an assignment into one; the nodes that follow node 0, in order."""
    successor = successor.copy()
    cycle = _cycles(successor)
    sizes = np.bincount(cycle)
    for _ in range(len(sizes) - 1):
        smallest = int(np.where(sizes > 0, sizes, len(cycle) + 1).argmin())
        inside, outside = np.flatnonzero(cycle == smallest), np.flatnonzero(cycle != smallest)
        change = (
            cost[np.ix_(inside, successor[outside])]
            + cost[np.ix_(outside, successor[inside])].T
            - cost[inside, successor[inside]][:, np.newaxis]
            - cost[outside, successor[outside]]
        )
        i, j = np.unravel_index(int(change.argmin()), change.shape)
        u, v = inside[i], outside[j]
        successor[[u, v]] = successor[[v, u]]
        sizes[cycle[v]] += sizes[smallest]
        sizes[smallest] = 0
        cycle[inside] = cycle[v]
    nodes = [int(successor[0])]
    while nodes[-1]:
        nodes.append(int(successor[nodes[-1]]))
    return np.array(nodes[:-1], dtype=np.int64)


def _cycles(successor: np.ndarray) -> np.ndarray:
    """Number the cycles of a permutation; int64, the cycle of each node."""
    cycle = np.full(len(successor), -1, dtype=np.int64)
    count = 0
    for node in range(len(successor)):
        if cycle[node] < 0:
            while cycle[node] < 0:
                cycle[node] = count
                node = int(successor[node])
            count += 1
    return cycle
