"""Least costs of accesses: of each alone, of each that is not a view, and of few together.

These are the checker's own exact methods for small problems. For prices: a dynamic program over the sets of classes
placed so far. For runs and tables: all orders are tried. They share no code with the solvers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice, permutations, product

import numpy as np

from problems.checker.consecutive_ones import Part, can_all_be_views, parts_of
from problems.evaluation import evaluate, evaluate_batch
from problems.objectives import Objective
from problems.order import Order
from problems.problem import Problem

MAX_CLASSES = 16
"""Most classes per block for the dynamic program."""

MAX_STATES = 2**22
"""Most states that it may visit for one problem (some seconds)."""

MAX_VIEW_STATES = 2_000
"""Most states per block for the test whether a set of accesses can be views."""

MAX_ORDERS = 50_000
"""Most orders that are tried."""


@dataclass(frozen=True)
class LeastCost:
    """The least cost of a problem lies between `lower` and `upper`. They are equal if it is known."""

    lower: int
    upper: int


def costs_alone(problem: Problem, objective: Objective) -> list[int]:
    """The least that each access pays: its cost at the smallest span that it could have if it were alone."""
    costs = []
    for a, access in enumerate(problem.accesses):
        if objective.counts_runs:
            pinned = all(problem.blocks[b].pinned for b in access.blocks)
            runs = evaluate(problem, Order.identity(problem), objective).accesses[a].runs if pinned else 1
            costs.append(access.weight * runs)
            continue
        unwanted = parts_of(problem, a)[1]
        costs.append(_cost(problem, objective, a, access.num_kept + unwanted, runs=2 if unwanted else 1))
    return costs


def cost_unless_view(problem: Problem, objective: Objective, a: int) -> int:
    """The least that access `a` pays if it is not a view: then it spans one more channel and has two runs."""
    access = problem.accesses[a]
    width = sum(len(problem.stored[b]) for b in access.blocks)
    return _cost(problem, objective, a, min(access.num_kept + 1, width), runs=2)


def least_cost(problem: Problem, objective: Objective) -> LeastCost:
    """The least cost of a problem; exact if the problem is small.

    Examples
    --------
    >>> from problems import OBJECTIVES, Access, Block
    >>> reads = ([1, 1, 0], [0, 1, 1], [1, 0, 1])
    >>> problem = Problem((Block("x", 3),), tuple(Access(f"a{i}", (0,), np.array(k)) for i, k in enumerate(reads)))
    >>> [least_cost(problem, OBJECTIVES[name]) for name in ("copies", "span")]
    [LeastCost(lower=2, upper=2), LeastCost(lower=1, upper=1)]
    """
    lower = sum(costs_alone(problem, objective))
    upper = evaluate(problem, Order.identity(problem), objective).value
    exact = None
    if not objective.counts_runs and not objective.uses_tables:
        exact = _least_price(problem, objective)
    if exact is None and lower < upper:
        exact = _tried_out(problem, objective)
    return LeastCost(lower, upper) if exact is None else LeastCost(exact, exact)


def _cost(problem: Problem, objective: Objective, a: int, span: int, *, runs: int) -> int:
    ticks = objective.ticks_of(problem)
    return int(objective.costs(problem.accesses[a], np.array([span]), np.array([runs]), ticks=ticks)[0])


def _least_price(problem: Problem, objective: Objective) -> int | None:
    """Try every set of copied accesses; the others read in place. None if that is too much work."""
    accesses = problem.accesses
    taken = [parts_of(problem, a) for a in range(len(accesses))]
    copy = [(objective.gamma or 0) * access.price * access.num_kept for access in accesses]
    best: int | None = None
    left = MAX_STATES
    for copied in _subsets(len(accesses)) if objective.gamma is not None else [()]:
        read = [a for a in range(len(accesses)) if a not in copied]
        total = sum(copy[a] for a in copied)
        left -= 64
        if left < 0:
            return None
        if best is not None and total >= best:
            continue
        if objective.alpha is None:
            left -= MAX_STATES >> 10
            feasible = can_all_be_views(problem, read, max_states=MAX_VIEW_STATES)
            if feasible is None:
                return None
            excess = 0 if feasible else None
        else:
            slope = [objective.alpha * accesses[a].price for a in range(len(accesses))]
            excess = sum(slope[a] * taken[a][1] for a in read)
            for b in range(len(problem.blocks)):
                parts = [(part, slope[a]) for a in read for part in taken[a][0] if part.block == b]
                own = _least_excess(parts)
                left -= 1 << own[0]
                if own[1] is None:
                    return None
                excess += own[1]
        if excess is not None and (best is None or total + excess < best):
            best = total + excess
    return best


def _subsets(num: int) -> Iterator[tuple[int, ...]]:
    return (subset for size in range(num + 1) for subset in combinations(range(num), size))


def _least_excess(parts: list[tuple[Part, int]]) -> tuple[int, int | None]:
    """Number of classes of one block, and the least price of its over-read channels (None if too many classes)."""
    if not parts:
        return 0, 0
    cells, weight = np.unique(np.stack([part.kept for part, _ in parts]), axis=1, return_counts=True)
    num = len(weight)
    if num > MAX_CLASSES:
        return 0, None
    sets = np.arange(1 << num)
    size = sum(sets >> s & 1 for s in range(num))
    price = np.zeros((num, 1 << num), dtype=np.int64)
    for (part, slope), row in zip(parts, cells):
        mask = sum(1 << int(s) for s in np.flatnonzero(row))
        begun = part.from_start | (sets & mask != 0)
        unfinished = part.to_end | (~sets & mask != 0)
        # class s, placed after Z, is over-read by a part that began in Z, continues behind s, and does not keep s
        price[~row] += slope * (begun & unfinished)
    best = np.full(1 << num, np.iinfo(np.int64).max // 2)
    best[0] = 0
    for k in range(num):
        for s in range(num):
            before = sets[(size == k) & (sets >> s & 1 == 0)]
            after = before | 1 << s
            best[after] = np.minimum(best[after], best[before] + weight[s] * price[s, before])
    return num, int(best[-1])


def _tried_out(problem: Problem, objective: Objective) -> int | None:
    """The least cost over all orders; None if there are too many."""
    whole_classes = objective.counts_runs or not objective.uses_tables or _all_concave(problem)
    choices: list[list[np.ndarray]] = []
    count = 1
    for b, block in enumerate(problem.blocks):
        members = [problem.classes.members[s] for s in problem.classes.of_block(b)]
        if block.pinned:
            choices.append([np.concatenate(members)])
            continue
        labels = list(range(len(members))) if whole_classes else np.repeat(range(len(members)), [*map(len, members)])
        count *= math.factorial(len(labels))
        if not whole_classes:
            count //= math.prod(math.factorial(len(own)) for own in members)
        if count > MAX_ORDERS or math.factorial(len(labels)) > 8 * MAX_ORDERS:
            return None
        sequences = set(permutations(int(label) for label in labels))
        choices.append([_laid_out(sequence, members, whole_classes) for sequence in sorted(sequences)])
    best: int | None = None
    orders = product(*choices)
    while chunk := list(islice(orders, 4096)):
        values = evaluate_batch(problem, [np.stack(block) for block in zip(*chunk)], objective)
        best = int(values.min()) if best is None else min(best, int(values.min()))
    return best


def _laid_out(sequence: tuple[int, ...], members: list[np.ndarray], whole_classes: bool) -> np.ndarray:
    """The channels of a sequence of classes, whole or channel by channel."""
    if whole_classes:
        return np.concatenate([members[s] for s in sequence])
    rest = [iter(own) for own in members]
    return np.array([next(rest[s]) for s in sequence])


def _all_concave(problem: Problem) -> bool:
    """Whether every access's cost is a concave function of its span. Then no class must be split (docs/model.md)."""
    tables = [access.table for access in problem.accesses]
    return all(table is not None and table.read.is_concave and table.pieces is None for table in tables)
