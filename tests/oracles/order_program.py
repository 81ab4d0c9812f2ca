"""Which class lies before which: the mixed integer program of the solver `milp`.

A linear order of the classes of every block. An unwanted class outside the span of an access lies before all classes
that the access keeps, or behind them all; the others are read along, or the access is copied.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from oracles.linear_rows import LinearRows
from problems import Objective, Order, Problem

_TOLERANCE = 2e-6
"""share: of the largest possible cost that HiGHS may be off: its integers and rows may be off by a millionth."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The order and the bound of a run; None where there is none."""

    order: Order | None
    bound: int | None


class OrderProgram:
    """The program; building it costs nothing, `solve` sets up the rows.

    Parameters
    ----------
    problem, objective
        What to minimise; the objective must not count runs.
    max_single_channels
        If costs are not concave in the span and no more channels may be reordered, single channels are ordered.

    Attributes
    ----------
    minorant
        Costs are replaced by concave ones below, since classes are moved as one where that may not be optimal.
    num_binaries
        After `solve`.
    """

    def __init__(self, problem: Problem, objective: Objective, *, max_single_channels: int) -> None:
        self._problem = problem
        fixed = [_fixed_excess(problem, a) for a in range(len(problem.accesses))]
        self._costs = [_costs_by_excess(problem, objective, a) for a in range(len(problem.accesses))]
        concave = all((np.diff(least[e:], n=2) <= 0).all() for (_, _, least), e in zip(self._costs, fixed))
        movable = sum(len(problem.stored[b]) for b, block in enumerate(problem.blocks) if not block.pinned)
        single = not concave and movable <= max_single_channels
        self.minorant = not concave and not single
        if self.minorant:
            self._costs = [_below(*costs) for costs in self._costs]
        self._units = [_units(problem, b, single=single) for b in range(len(problem.blocks))]
        self.num_binaries = 0

    @property
    def num_units(self) -> int:
        """Classes or single channels, over all blocks."""
        return sum(map(len, self._units))

    @property
    def largest_block(self) -> int:
        """The most units of a block that may be reordered."""
        return max((len(self._units[b]) for b, block in enumerate(self._problem.blocks) if not block.pinned), default=0)

    def solve(self, *, deadline: float) -> Outcome:
        """Run HiGHS until the deadline, a `time.perf_counter` reading."""
        self._rows = LinearRows()
        self._before: dict[int, np.ndarray] = {}
        for b, block in enumerate(self._problem.blocks):
            if not block.pinned and len(self._units[b]) > 1:
                self._before[b] = self._order_units(b)
        unit = math.gcd(*(int(step) for _, _, least in self._costs for step in np.diff(least)))
        most = sum(int(least[-1] - least[0]) for _, _, least in self._costs)
        base = sum(int(least[0]) for _, _, least in self._costs)
        if unit == 0:
            return Outcome(None, base)
        for a in range(len(self._problem.accesses)):
            self._pay(a, unit)
        self.num_binaries = int(np.concatenate(self._rows.integer).sum())
        if time.perf_counter() >= deadline:
            return Outcome(None, None)
        result = self._rows.minimise(deadline - time.perf_counter())
        order = None if result.x is None else self._read(result.x)
        bound = result.mip_dual_bound
        if bound is None or not np.isfinite(bound) or bound > most / unit + 1:
            return Outcome(order, None)
        steps = max(0, math.ceil(bound - _TOLERANCE * (most / unit + 1)))
        return Outcome(order, base + unit * steps)

    def _order_units(self, b: int) -> np.ndarray:
        """before[s, t] + before[t, s] = 1, before[s, t] + before[t, u] + before[u, s] <= 2; twins in their order.

        Returns
        -------
        np.ndarray
            int, shape (units, units): the column of before[s, t].
        """
        num = len(self._units[b])
        first, second = np.triu_indices(num, 1)
        column = np.full((num, num), -1)
        column[first, second] = self._rows.add_columns(len(first), integer=True)
        column[second, first] = self._rows.add_columns(len(first))
        both = np.stack([column[first, second], column[second, first]], axis=1)
        self._rows.add_rows(both, np.ones(2), 1, 1)
        s, t, u = np.nonzero(np.fromfunction(lambda s, t, u: (s < t) & (t < u), (num, num, num)))
        if len(s):
            for x, y, z in ((s, t, u), (s, u, t)):
                self._rows.add_rows(np.stack([column[x, y], column[y, z], column[z, x]], axis=1), np.ones(3), 0, 2)
        bits = self._bits(b)
        twins = np.flatnonzero((bits[1:] == bits[:-1]).all(axis=1))
        if len(twins):
            self._rows.add_rows(column[twins, twins + 1][:, np.newaxis], np.ones(1), 1, 1)
        return column

    def _pay(self, a: int, unit: int) -> None:
        """cost = sum(price[j] * read[j] + slope[j] * over[j]) + copy * copied, exactly one of read[j] and copied.

        first[j] * read[j] <= over[j] <= last[j] * read[j]; sum(over) + max_excess * copied >= excess.
        """
        over_read, copy, least = self._costs[a]
        base, rows = int(least[0]), self._rows
        chosen: list[np.ndarray] = []
        over: list[np.ndarray] = []
        for first, last, slope in _lines(over_read if copy is None else over_read[over_read <= copy]):
            price = (int(over_read[first]) - base - slope * first) / unit
            read = rows.add_columns(1, price=price, integer=True)
            part = rows.add_columns(1, price=slope / unit, upper=last)
            rows.add_rows(np.concatenate([part, read]), np.array([1, -first]), 0, np.inf)
            rows.add_rows(np.concatenate([part, read]), np.array([1, -last]), -np.inf, 0)
            chosen.append(read)
            over.append(part)
        outside, weight, covered = self._outside(a)
        columns, factors = [*over, outside], [np.ones(len(over)), weight]
        if copy is not None:
            chosen.append(rows.add_columns(1, price=(copy - base) / unit, integer=True))
            columns.append(chosen[-1])
            factors.append(np.array([covered]))
        rows.add_rows(np.concatenate(columns), np.concatenate(factors), covered, np.inf)
        rows.add_rows(np.concatenate(chosen), np.ones(len(chosen)), 1, 1)

    def _outside(self, a: int) -> tuple[np.ndarray, np.ndarray, int]:
        """outside <= before[s, t] for all t kept (or before[t, s]): unwanted units s on one side of all kept ones.

        Returns
        -------
        tuple
            Columns, one per unwanted unit and side; their weights; and the excess if all of them are 0.
        """
        columns: list[np.ndarray] = [np.zeros(0, dtype=int)]
        weights: list[np.ndarray] = [np.zeros(0)]
        covered = 0
        for reader, ahead, behind in _occurrences(self._problem, a):
            b = self._problem.readers[reader].block
            kept = self._bits(b)[:, self._problem.readers_of(b).index(reader)]
            weight = np.array([len(own) for own in self._units[b]])
            unwanted = np.flatnonzero(~kept)
            if self._problem.blocks[b].pinned:
                inside = np.flatnonzero(kept)
                begin, end = 0 if ahead else inside[0], len(kept) if behind else inside[-1] + 1
                covered += int(weight[begin:end][~kept[begin:end]].sum())
                continue
            covered += int(weight[unwanted].sum())
            if b not in self._before or not len(unwanted):
                continue
            column, wanted = self._before[b], np.flatnonzero(kept)
            for blocked, before in ((ahead, column), (behind, column.T)):
                if blocked:
                    continue
                sides = self._rows.add_columns(len(unwanted))
                pairs = [np.repeat(sides, len(wanted)), before[np.ix_(unwanted, wanted)].ravel()]
                self._rows.add_rows(np.stack(pairs, axis=1), np.array([1, -1]), -np.inf, 0)
                columns.append(sides)
                weights.append(weight[unwanted])
        return np.concatenate(columns), np.concatenate(weights), covered

    def _bits(self, b: int) -> np.ndarray:
        """Which readers of a block keep each of its units; bool, shape (units, readers of the block)."""
        first = [int(own[0]) for own in self._units[b]]
        reads = [self._problem.reads[r][first] for r in self._problem.readers_of(b)]
        return np.stack(reads, axis=1) if reads else np.zeros((len(first), 0), dtype=bool)

    def _read(self, x: np.ndarray) -> Order:
        """The order of a solution: units by the number of those before them."""
        channels = []
        for b, units in enumerate(self._units):
            place = np.arange(len(units))
            if b in self._before:
                place = np.where(self._before[b] >= 0, x[self._before[b]], 0).round().sum(axis=0)
            channels.append(np.concatenate([units[s] for s in np.argsort(place, kind="stable")]))
        return Order(channels)


def _units(problem: Problem, b: int, *, single: bool) -> list[np.ndarray]:
    """What moves as one in a block: channels kept by the same readers, or single ones, equal ones side by side.

    In a pinned block single channels, in their place.
    """
    stored = problem.stored[b]
    if problem.blocks[b].pinned or not problem.readers_of(b):
        return list(stored[:, np.newaxis]) if problem.blocks[b].pinned else [stored]
    bits = np.stack([problem.reads[r][stored] for r in problem.readers_of(b)])
    _, group = np.unique(bits, axis=1, return_inverse=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")
    cuts = np.arange(1, len(stored)) if single else np.flatnonzero(np.diff(group[order])) + 1
    return np.split(stored[order], cuts)


def _occurrences(problem: Problem, a: int) -> list[tuple[int, bool, bool]]:
    """The readers in which access `a` keeps something, and those between; whether it does ahead of, and behind them."""
    own = [r for r, reader in enumerate(problem.readers) if reader.access == a]
    keeping = [r for r in own if problem.reads[r].any()]
    return [(r, r > keeping[0], r < keeping[-1]) for r in range(keeping[0], keeping[-1] + 1)]


def _fixed_excess(problem: Problem, a: int) -> int:
    """Unwanted channels of whole blocks between, and of pinned blocks, that access `a` reads along in any order."""
    fixed = 0
    for r, ahead, behind in _occurrences(problem, a):
        b = problem.readers[r].block
        kept = problem.reads[r][problem.stored[b]]
        if not problem.blocks[b].pinned and not (ahead and behind):
            continue
        inside = np.flatnonzero(kept)
        begin, end = 0 if ahead else inside[0], len(kept) if behind else inside[-1] + 1
        fixed += int(np.count_nonzero(~kept[begin:end]))
    return fixed


Costs = tuple[np.ndarray, int | None, np.ndarray]


def _costs_by_excess(problem: Problem, objective: Objective, a: int) -> Costs:
    """Costs of over-reading by excess, of a copy (or of the fewest pieces), and the least at every excess.

    An access that joins pieces is taken to have two, so that the costs are no higher than the true ones.
    """
    access = problem.accesses[a]
    most = sum(len(problem.stored[b]) for b in access.blocks) - access.num_kept
    excess = np.arange(most + 1)
    ticks = objective.ticks_of(problem)
    runs = np.where((excess > 0) & (access.num_kept > 1), 2, 1)
    least = objective.costs(access, access.num_kept + excess, runs, ticks=ticks)
    if objective.uses_tables:
        assert access.table is not None
        over_read = access.table.read.ticks(access.num_kept + excess, per_nanosecond=ticks)
    elif objective.alpha is not None:
        over_read = access.channel_size * objective.alpha * excess
    else:
        over_read = least[:1]
    dearer = least[: len(over_read)] < over_read
    flat = len(over_read) <= most or bool(dearer.any())
    return over_read, int(least[-1]) if flat else None, least


def _below(over_read: np.ndarray, copy: int | None, least: np.ndarray) -> Costs:
    """A line below the costs of over-reading, and the same copy: concave together.

    Among the secants from the ends the slope whose line lies highest in sum.
    """
    excess = np.arange(len(over_read))
    rise = over_read - over_read[0]
    slopes = np.unique(rise[1:] // excess[1:]) if len(rise) > 1 else np.zeros(1, dtype=np.int64)
    lines = [slope * excess + (rise - slope * excess).min() for slope in slopes]
    best = over_read[0] + max(lines, key=lambda line: int(line.sum()))
    capped = np.full(len(least), copy) if copy is not None else best.copy()
    capped[: len(best)] = np.minimum(capped[: len(best)], best)
    return best, copy, capped


def _lines(costs: np.ndarray) -> list[tuple[int, int, int]]:
    """The linear pieces of costs by excess: first, last, slope."""
    steps = np.diff(costs)
    starts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(costs) - 1]
    if len(costs) == 1:
        return [(0, 0, 0)]
    return [(first, last, int(steps[first])) for first, last in pairwise(starts)]
