"""Certificates of bounds, and a checker that shares nothing with the solvers.

A certificate is a pair of weights and a bound. Let m be the least of ``loss_weight * loss + time_weight * time`` over
all choices. A choice within the budget has ``loss_weight * loss >= m - time_weight * budget``. Losses are whole, so no
choice within the budget has a loss below that number divided by ``loss_weight`` and rounded up. The checker computes m
by itself, in Python's own whole numbers or in int64 that cannot overflow.

The checker goes through the blocks one by one and keeps, for every state, the least cost so far. A state consists of
the partial totals of all works that have begun and are not complete. (The solvers eliminate variables of a factor graph
instead.)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from problems.conversions import of_kind, whole_number
from problems.errors import ProblemError
from problems.showing.reprs import shown
from problems.widths.problem import WidthProblem

MAX_STATES = 2**24  # states: at once
_MAX_COST = 2**60  # cost: of any choice

_Key = tuple[tuple[int, int], ...]
"""Blocks of a side that have their widths already, each with how often it occurs."""


@shown
@dataclass(frozen=True)
class BoundCertificate:
    """Why no choice within the budget has a smaller loss.

    Attributes
    ----------
    loss_weight, time_weight
        Whole weights, at least 1 and at least 0. Their quotient is the multiplier: units of loss per nanosecond.
    bound
        Units of loss.
    """

    loss_weight: int
    time_weight: int
    bound: int

    def __post_init__(self) -> None:
        whole_number(self.loss_weight, "the weight of the loss", least=1)
        whole_number(self.time_weight, "the weight of the time", least=0)
        whole_number(self.bound, "the bound", least=0)


def check_certificate(problem: WidthProblem, certificate: BoundCertificate) -> int:
    """The bound that the certificate's weights prove, if it is at least the one it states.

    Raises
    ------
    ProblemError
        If the weights prove less than the certificate states, are too large, or the states are too many to be checked.
    """
    of_kind(certificate, BoundCertificate, "the certificate")
    least = least_cost(problem, certificate.loss_weight, certificate.time_weight)
    proven = max(0, -((certificate.time_weight * problem.budget - least) // certificate.loss_weight))
    if proven < certificate.bound:
        raise ProblemError(
            f"the certificate states that no loss is below {certificate.bound}, but its weights prove {proven} only; "
            "do not trust it"
        )
    return proven


def least_cost(problem: WidthProblem, loss_weight: int, time_weight: int) -> int:
    """The least of ``loss_weight * loss + time_weight * time`` over all choices; the fixed time counts.

    Raises
    ------
    ProblemError
        If the weights are so large that int64 could overflow, or there are more than `MAX_STATES` states.
    """
    of_kind(problem, WidthProblem, "the problem")
    worst = loss_weight * sum(max(block.losses) for block in problem.blocks) + time_weight * sum(
        int(problem.tables[work.table].nanoseconds.max()) for work in problem.works
    )
    if worst > _MAX_COST:
        raise ProblemError(f"the weights make costs of up to {worst}; give smaller weights, below {_MAX_COST} in all")
    sweep = _Sweep(problem, loss_weight, time_weight)
    while sweep.waiting:
        sweep.add(sweep.cheapest_next())
    return sweep.constant + int(sweep.costs.min()) + time_weight * problem.fixed


def _blocks(sides: tuple[_Key, ...]) -> set[int]:
    return {b for side in sides for b, _ in side}


class _Sweep:
    """States after some blocks: one column per distinct partial total, one row per combination of them."""

    def __init__(self, problem: WidthProblem, loss_weight: int, time_weight: int) -> None:
        self._problem = problem
        self._weights = (loss_weight, time_weight)
        self.waiting = set(range(problem.num_blocks))
        self._open = []
        self.constant = 0
        for work in problem.works:
            sides = tuple(tuple(sorted(Counter(side).items())) for side in (work.inputs, work.outputs))
            if any(sides):
                self._open.append((sides, problem.tables[work.table]))
            else:
                self.constant += time_weight * int(problem.tables[work.table].nanoseconds[0, 0])
        self._keys: list[_Key] = []
        self._totals = np.zeros((1, 0), dtype=np.int64)
        self.costs = np.zeros(1, dtype=np.int64)

    def _begun(self, sides: tuple[_Key, ...], waiting: set[int]) -> list[_Key]:
        """Per side the part that has its widths."""
        return [tuple(item for item in side if item[0] not in waiting) for side in sides]

    def _keys_after(self, waiting: set[int]) -> list[_Key]:
        """Partial totals that open works need once only `waiting` is left; works that are complete need none."""
        keys = set()
        for sides, _ in self._open:
            if any(b in waiting for side in sides for b, _ in side):
                keys |= {key for key in self._begun(sides, waiting) if key}
        return sorted(keys)

    def cheapest_next(self) -> int:
        """A block that an open work waits for, after which the fewest states can exist; of equal ones the first."""
        begun = {b for key in self._keys for b, _ in key}
        near = {b for sides, _ in self._open if any(own in begun for own in _blocks(sides)) for b in _blocks(sides)}

        def price(b: int) -> tuple[float, int]:
            keys = self._keys_after(self.waiting - {b})
            return sum(float(np.log(self._most_totals(key))) for key in keys), b

        return min(near & self.waiting or self.waiting, key=price)

    def _most_totals(self, key: _Key) -> int:
        """At most so many totals can these blocks have."""
        spread = 1 + sum(times * (self._problem.blocks[b].full - self._problem.blocks[b].widths[0]) for b, times in key)
        choices = 1
        for b, _ in key:
            choices = min(spread, choices * len(self._problem.blocks[b].widths))
        return choices

    def add(self, b: int) -> None:
        """Give a block each of its widths; complete the works that wait for it, and merge states."""
        block = self._problem.blocks[b]
        num_states, num_widths = len(self.costs), len(block.widths)
        if num_states * num_widths > MAX_STATES:
            raise ProblemError(
                f"checking needs {num_states * num_widths} states, more than {MAX_STATES}; use coarser widths"
            )
        own = np.tile(np.array(block.widths, dtype=np.int64), num_states)
        before = {key: np.repeat(self._totals[:, k], num_widths) for k, key in enumerate(self._keys)}
        costs = np.repeat(self.costs, num_widths) + np.tile(
            self._weights[0] * np.array(block.losses, dtype=np.int64), num_states
        )
        waiting = self.waiting - {b}

        def total(key: _Key) -> np.ndarray:
            """Totals of some blocks that have their widths now."""
            times = dict(key).get(b, 0)
            old = tuple(item for item in key if item[0] != b)
            return (before[old] if old else 0) + times * own

        still = []
        for sides, table in self._open:
            if any(block in waiting for side in sides for block, _ in side):
                still.append((sides, table))
                continue
            row, column = (
                np.searchsorted(ticks, total(side)) if side else 0
                for side, ticks in zip(sides, (table.input_widths, table.output_widths))
            )
            costs += self._weights[1] * table.nanoseconds[row, column]
        keys = self._keys_after(waiting)
        totals = np.stack([total(key) for key in keys], axis=1) if keys else np.zeros((len(costs), 0), dtype=np.int64)
        self._open, self._keys, self.waiting = still, keys, waiting
        self._merge(totals, costs)

    def _merge(self, totals: np.ndarray, costs: np.ndarray) -> None:
        """Of states with the same totals keep the cheapest."""
        if not totals.shape[1]:
            self._totals, self.costs = totals[:1], costs.min(keepdims=True)
            return
        order = np.lexsort((costs, *totals.T))
        sorted_totals = totals[order]
        first = np.concatenate([[True], (sorted_totals[1:] != sorted_totals[:-1]).any(axis=1)])
        self._totals, self.costs = sorted_totals[first], costs[order][first]
