"""Which class each block begins and ends with, so that the fewest runs remain when blocks are concatenated.

A run that reaches the end of one block and goes on in the next counts once: every access saves one where both the
last class of the one and the first class of the other are kept.
"""

from __future__ import annotations

import math

import numpy as np

from problems import Problem
from solvers.common.errors import SolverError


def best_ends(problem: Problem, runs: dict[int, np.ndarray], *, max_combinations: int) -> dict[int, tuple[int, int]]:
    """First and last class of every free block, minimising runs within blocks less the savings between them.

    Parameters
    ----------
    problem
        The problem.
    runs
        Per block that is not pinned, int of shape (n, n): fewest runs by first and last class (indices into
        ``problem.classes.of_block``).
    max_combinations
        Limit on the product of the numbers of end pairs over blocks that touch each other.

    Returns
    -------
    dict
        Per free block the first and the last class.

    Raises
    ------
    SolverError
        If there are more combinations.
    """
    pairs = {b: _end_pairs(table) for b, table in runs.items()}
    savings = _savings(problem, pairs)
    ends: dict[int, tuple[int, int]] = {}
    for group in _touching(list(runs), savings):
        count = math.prod(len(pairs[b]) for b in group)
        if count > max_combinations:
            raise SolverError(
                f"placed-sets: {len(group)} blocks of {problem.name} have {count:.3g} combinations of end classes, "
                f"more than {max_combinations}; use 'cp-sat' or raise max_combinations"
            )
        total = np.zeros((1,) * len(group), dtype=np.int64)
        for i, b in enumerate(group):
            own = runs[b][pairs[b][:, 0], pairs[b][:, 1]]
            total = total + own.reshape([-1 if k == i else 1 for k in range(len(group))])
        for (b, c), saved in savings.items():
            if b not in group:
                continue
            i, j = group.index(b), group.index(c)
            shape = [1] * len(group)
            shape[i] = len(pairs[b])
            if i == j:
                total = total - np.diagonal(saved).reshape(shape)
                continue
            shape[j] = len(pairs[c])
            total = total - (saved if i < j else saved.T).reshape(shape)
        picks = np.unravel_index(int(total.argmin()), total.shape)
        for b, pick in zip(group, picks):
            ends[b] = (int(pairs[b][pick, 0]), int(pairs[b][pick, 1]))
    return ends


def _end_pairs(table: np.ndarray) -> np.ndarray:
    """Possible (first, last) pairs: different classes, unless there is one only."""
    num = len(table)
    return np.argwhere(~np.eye(num, dtype=bool)) if num > 1 else np.zeros((1, 2), dtype=np.int64)


def _savings(problem: Problem, pairs: dict[int, np.ndarray]) -> dict[tuple[int, int], np.ndarray]:
    """For blocks b, c in direct succession, the runs saved by each of b's end pairs with each of c's.

    Keys hold free blocks only; a saving next to a pinned block depends on one block and has the key (b, b), on the
    diagonal. Savings between two pinned blocks are constant and left out.
    """
    savings: dict[tuple[int, int], np.ndarray] = {}
    for r, (reader, following) in enumerate(zip(problem.readers, problem.readers[1:])):
        if reader.access != following.access:
            continue
        b, c = reader.block, following.block
        last = _kept_at_end(problem, r, b, pairs, 1)
        first = _kept_at_end(problem, r + 1, c, pairs, 0)
        saved = (last[:, np.newaxis] & first).astype(np.int64)
        if b in pairs and c in pairs:
            key = (b, c)
        elif b in pairs:
            key, saved = (b, b), np.diag(saved[:, 0])
        elif c in pairs:
            key, saved = (c, c), np.diag(saved[0])
        else:
            continue
        savings[key] = savings.get(key, np.int64(0)) + saved
    return savings


def _kept_at_end(problem: Problem, r: int, block: int, pairs: dict[int, np.ndarray], side: int) -> np.ndarray:
    """Whether reader r keeps the first (side 0) or last (side 1) class, per end pair; one entry if pinned."""
    signature = problem.classes.signature[problem.classes.of_block(block), r]
    if block in pairs:
        return signature[pairs[block][:, side]]
    return signature[[0, -1][side]][np.newaxis]


def _touching(blocks: list[int], savings: dict[tuple[int, int], np.ndarray]) -> list[list[int]]:
    """Groups of blocks that are connected by savings."""
    group = {b: {b} for b in blocks}
    for b, c in savings:
        if group[b] is not group[c]:
            group[b] |= group[c]
            for other in group[c]:
                group[other] = group[b]
    return [sorted(members) for members in {id(own): own for own in group.values()}.values()]
