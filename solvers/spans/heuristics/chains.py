"""A heuristic for spans: local search over the order in which rows open from the left and from the right.

Where every two rows share a class, some optimal order has this shape (DESIGN, "Structure worth a theorem"): sets of
open rows grow from both ends, and each class lies at the cheaper of the first sets that contain all its rows.
"""

from __future__ import annotations

import time

import numpy as np

from problems import Order
from solvers.common.incumbent import Incumbent
from solvers.common.rows import class_bits, span_rows
from solvers.common.task import Task

_SWEEPS = 30  # sweeps: of reinsertions in a descent; by hand
_RESTARTS = 3  # starts: random ones beside greedy's; by hand
_ROUNDS = 3  # rounds: of prices from the order found; by hand


def offer_chains(task: Task, incumbent: Incumbent, *, deadline: float) -> None:
    """Improve the incumbent of a span objective by orders made of chains, block by block.

    With copying allowed it repeats the search without the rows of the accesses that the best order copies.

    Parameters
    ----------
    task, incumbent
        The problem and its best order, which is where the search starts.
    deadline
        A `time.perf_counter` reading; the search is short and otherwise ends by itself.
    """
    problem = task.problem
    spans = span_rows(problem)
    rng = np.random.default_rng(task.seed)
    copied = np.zeros(len(problem.accesses), dtype=bool)
    for _ in range(_ROUNDS):
        sequence: list[int] = []
        for b in range(len(problem.blocks)):
            own, rows = problem.classes.of_block(b), spans.of_block(b)
            if rows:
                slope = np.array([problem.accesses[row.access].channel_size * ~copied[row.access] for row in rows])
                search = ChainSearch(
                    problem.classes.weight[own],
                    class_bits(problem, b, (row.reader for row in rows)),
                    slope,
                    np.array([row.left for row in rows], dtype=bool),
                    np.array([row.right for row in rows], dtype=bool),
                )
                position = np.empty(problem.blocks[b].size, dtype=np.int64)
                position[incumbent.order[b]] = np.arange(len(incumbent.order[b]))
                first = np.array([position[problem.classes.members[s]].min() for s in own])
                own = own[search.best(first, rng, deadline)]
            sequence.extend(own)
        order = Order.of_classes(problem, sequence)
        improved = incumbent.offer(order)
        before = copied
        copied = np.array([cost.mode == "copy" for cost in task.costs(order)])
        if time.perf_counter() >= deadline or (copied == before).all() or not (improved or copied.any()):
            return


class ChainSearch:
    """Two chains of one block and their price, an upper bound on the cost of the order they give.

    Parameters
    ----------
    weight
        int, shape (num_classes,).
    bits
        bool, shape (num_classes, num_rows).
    slope
        int, shape (num_rows,).
    left, right
        bool, shape (num_rows,): rows that are open from the start, until the end.
    """

    def __init__(
        self, weight: np.ndarray, bits: np.ndarray, slope: np.ndarray, left: np.ndarray, right: np.ndarray
    ) -> None:
        self._weight, self._bits, self._slope = weight, bits, slope
        self._movable = (np.flatnonzero(~left), np.flatnonzero(~right))

    def best(self, position: np.ndarray, rng: np.random.Generator, deadline: float) -> np.ndarray:
        """The best sequence of classes found, starting from class positions and from random chains."""
        rank = np.where(self._bits, position[:, np.newaxis], np.inf).min(axis=0)
        end = np.where(self._bits, position[:, np.newaxis], -np.inf).max(axis=0)
        starts = [[chain[np.argsort(key[chain])] for chain, key in zip(self._movable, (rank, -end))]]
        starts += [[rng.permutation(chain) for chain in self._movable] for _ in range(_RESTARTS)]
        found = [self._descend(start, deadline) for start in starts]
        _, chains = min(found, key=lambda pair: pair[0])
        return self._sequence(chains)

    def _descend(self, chains: list[np.ndarray], deadline: float) -> tuple[int, list[np.ndarray]]:
        """Move single rows within their chain as long as that helps."""
        sides = [self._prices(chain[np.newaxis])[0] for chain in chains]
        value = int(np.minimum(*sides) @ self._weight)
        for _ in range(_SWEEPS):
            before = value
            for side in (0, 1):
                for row in self._movable[side]:
                    if time.perf_counter() >= deadline:
                        return value, chains
                    rest = chains[side][chains[side] != row]
                    trials = np.array([np.insert(rest, k, row) for k in range(len(rest) + 1)])
                    prices = self._prices(trials)
                    values = np.minimum(prices, sides[1 - side]) @ self._weight
                    least = int(values.argmin())
                    if values[least] < value:
                        value, chains[side], sides[side] = int(values[least]), trials[least], prices[least]
            if value == before:
                break
        return value, chains

    def _depths(self, chains: np.ndarray) -> np.ndarray:
        """How many rows of a chain must be open for each class; shape (num_chains, num_classes)."""
        rank = np.zeros((len(chains), self._bits.shape[1]), dtype=np.int16)
        np.put_along_axis(rank, chains, np.arange(1, chains.shape[1] + 1, dtype=np.int16)[np.newaxis], axis=1)
        return (self._bits * rank[:, np.newaxis]).max(axis=2)

    def _prices(self, chains: np.ndarray) -> np.ndarray:
        """Slope of the open rows where each class would lie; int, shape (num_chains, num_classes)."""
        anchored = self._slope.sum() - self._slope[chains].sum(axis=1, keepdims=True)
        levels = np.concatenate([anchored, anchored + np.cumsum(self._slope[chains], axis=1)], axis=1)
        return np.take_along_axis(levels, self._depths(chains).astype(np.int64), axis=1)

    def _sequence(self, chains: list[np.ndarray]) -> np.ndarray:
        depth = [self._depths(chain[np.newaxis])[0].astype(np.int64) for chain in chains]
        price = [self._prices(chain[np.newaxis])[0] for chain in chains]
        place = np.where(price[0] <= price[1], depth[0] - len(self._slope) - 2, len(self._slope) + 2 - depth[1])
        return np.argsort(place, kind="stable")
