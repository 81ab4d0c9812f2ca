"""Small random problems of every kind, and their least costs by trying every order of single channels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np

from problems import OBJECTIVES, Access, Block, CostTable, Curve, Objective, Order, Problem, evaluate_batch

PRICED = [OBJECTIVES["copies"], OBJECTIVES["span"], OBJECTIVES["traffic"], Objective("mixed", alpha=2, gamma=3)]
WITHOUT_TABLES = [*PRICED, OBJECTIVES["runs"]]


def small_problem(seed: int, *, tables: bool = False) -> Problem:
    """One to three blocks of at most four channels (pinned, not removable, read twice), one to four accesses."""
    rng = np.random.default_rng([7, seed])
    blocks = tuple(
        Block(f"b{b}", int(rng.integers(2, 5)), pinned=bool(rng.random() < 0.2), removable=bool(rng.random() < 0.7))
        for b in range(int(rng.integers(1, 4)))
    )
    accesses = []
    for a in range(int(rng.integers(2, 5))):
        reads = tuple(int(b) for b in rng.integers(0, len(blocks), int(rng.integers(1, 3))))
        kept = rng.random(sum(blocks[b].size for b in reads)) < 0.5
        kept[rng.integers(len(kept))] = True
        table = None
        if tables:
            grid = np.array([0, 3, 7, 12])
            read = Curve(grid.tolist(), np.cumsum(rng.integers(0, 20, len(grid))).tolist())
            table = CostTable(read, int(rng.integers(1, 20)), Curve((2, 3), (2, 9)) if rng.random() < 0.5 else None)
        accesses.append(Access(f"a{a}", reads, kept, int(rng.choice([1, 1, 4])), table))
    return Problem(blocks, tuple(accesses), f"small-{seed}")


def least_values(problem: Problem, objective: Objective) -> int:
    """The least value over all orders."""
    return min(int(values.min()) for values in _chunks(problem, objective))


def can_be_views(problem: Problem, accesses: tuple[int, ...]) -> bool:
    """Whether some order makes all of the accesses views: then copying only them costs nothing."""
    part = problem.restricted(accesses)
    return least_values(part, OBJECTIVES["copies"]) == 0


def random_order(problem: Problem, rng: np.random.Generator) -> Order:
    """Any order."""
    return Order(
        stored if block.pinned else rng.permutation(stored)
        for block, stored in zip(problem.blocks, problem.stored, strict=True)
    )


def _chunks(problem: Problem, objective: Objective) -> Iterator[np.ndarray]:
    choices = [
        [tuple(stored)] if block.pinned else list(permutations(stored.tolist()))
        for block, stored in zip(problem.blocks, problem.stored, strict=True)
    ]
    orders = list(product(*choices))
    for first in range(0, len(orders), 4096):
        chunk = orders[first : first + 4096]
        yield evaluate_batch(problem, [np.array(block) for block in zip(*chunk)], objective)
