"""The width problem as a factor graph: variables, tables of loss and time over at most two of them, and sums.

A variable is the width of a block, or the running sum of a concatenation. Works that read the same concatenation, or
one that begins in another, share the sums. So the sums of a dense network form a chain.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from problems.widths.problem import WidthProblem

Scope = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Factor:
    """Loss and time that depend on some variables.

    Attributes
    ----------
    scope
        Variables, ascending.
    loss, time
        Units of loss and nanoseconds; int64, one axis per variable.
    """

    scope: Scope
    loss: np.ndarray
    time: np.ndarray


@dataclass(frozen=True)
class Sum:
    """The equation ``total = first_weight * first + second_weight * second`` of three variables."""

    total: int
    first: int
    second: int
    first_weight: int = 1
    second_weight: int = 1

    @property
    def scope(self) -> Scope:
        """Its variables, ascending."""
        return tuple(sorted((self.total, self.first, self.second)))

    def others(self, variable: int) -> Scope:
        """The two other variables, ascending."""
        return tuple(own for own in self.scope if own != variable)

    def places(self, variable: int, values: tuple[np.ndarray, ...]) -> np.ndarray:
        """Place of the one value of a variable that the two others leave it; -1 if it has no such value.

        Parameters
        ----------
        variable
            One of the three.
        values
            Values of all variables of the graph.

        Returns
        -------
            int64, shape (values of the first of `others`, values of the second).
        """
        weights = {self.first: self.first_weight, self.second: self.second_weight, self.total: -1}
        a, b = self.others(variable)
        needed = -(weights[a] * values[a][:, None] + weights[b] * values[b][None, :])
        quotient, remainder = np.divmod(needed, weights[variable])
        own = values[variable]
        places = np.searchsorted(own, quotient).clip(max=len(own) - 1)
        return np.where((remainder == 0) & (own[places] == quotient), places, -1)


@dataclass(frozen=True, eq=False)
class Graph:
    """A width problem as variables and factors; the fixed time is left out.

    Attributes
    ----------
    values
        Per variable its values in channels; int64, ascending, at least one. The first variables are the blocks.
    num_blocks
        How many variables are blocks.
    factors
        At most one per scope, and one for every single variable.
    sums
        Equations between variables.
    copied
        Per copy of a variable that `relaxing` made, the variable it was copied from. Empty: the graph is exact.
    """

    values: tuple[np.ndarray, ...]
    num_blocks: int
    factors: tuple[Factor, ...]
    sums: tuple[Sum, ...]
    copied: dict[int, int]

    @property
    def exact(self) -> bool:
        """Whether its assignments are exactly the choices of the problem."""
        return not self.copied

    def kept(self, keep: list[np.ndarray]) -> Graph:
        """The graph with fewer values.

        Parameters
        ----------
        keep
            Per variable which values stay; Boolean, at least one.
        """
        if all(own.all() for own in keep):
            return self
        factors = []
        for factor in self.factors:
            index = np.ix_(*(keep[v] for v in factor.scope))
            factors.append(Factor(factor.scope, factor.loss[index], factor.time[index]))
        values = tuple(own[mask] for own, mask in zip(self.values, keep))
        return replace(self, values=values, factors=tuple(factors))


def totals_of(graph: Graph, places: list[int]) -> tuple[int, int]:
    """Loss and time of an assignment, without the fixed time."""
    entries = [(factor, tuple(places[v] for v in factor.scope)) for factor in graph.factors]
    return sum(int(f.loss[entry]) for f, entry in entries), sum(int(f.time[entry]) for f, entry in entries)


def graph_of(problem: WidthProblem) -> Graph:
    """The factor graph of a width problem."""
    builder = _Builder(problem)
    for v, block in enumerate(problem.blocks):
        builder.add((v,), loss=np.array(block.losses, dtype=np.int64))
    sides = {_items(side) for work in problem.works for side in (work.inputs, work.outputs)}
    for side in sorted(sides, key=lambda own: (len(own), own)):
        builder.make(side)
    for work in problem.works:
        builder.add_work(work.inputs, work.outputs, work.table)
    factors = tuple(Factor(scope, *parts) for scope, parts in sorted(builder.parts.items()))
    return Graph(tuple(builder.values), problem.num_blocks, factors, tuple(builder.sums), {})


Items = tuple[tuple[int, int], ...]
"""Blocks of a concatenation in ascending order, each with how often it occurs."""


def _items(side: tuple[int, ...]) -> Items:
    return tuple(sorted(Counter(side).items()))


class _Builder:
    def __init__(self, problem: WidthProblem) -> None:
        self._problem = problem
        self.values = [np.array(block.widths, dtype=np.int64) for block in problem.blocks]
        self.sums: list[Sum] = []
        self.parts: dict[Scope, tuple[np.ndarray, np.ndarray]] = {}
        self._of_items: dict[Items, tuple[int, int]] = {}

    def make(self, side: Items) -> None:
        """Make a variable of a concatenation, beginning with the largest part of it that has one already.

        `_of_items` says of a concatenation which variable it is, and how often its value counts.
        """
        if not side:
            return
        if len(side) == 1:
            self._of_items[side] = side[0]
            return
        wanted = set(side)
        begun = max(
            (own for own in self._of_items if set(own) <= wanted), key=lambda own: (len(own), own), default=side[:1]
        )
        self._of_items.setdefault(begun, begun[0])
        for item in sorted(wanted - set(begun)):
            longer = tuple(sorted((*begun, item)))
            (first, first_weight), (second, second_weight) = self._of_items[begun], item
            totals = first_weight * self.values[first][:, None] + second_weight * self.values[second]
            total = len(self.values)
            self.values.append(np.unique(totals))
            self.add((total,))
            self.sums.append(Sum(total, first, second, first_weight, second_weight))
            self._of_items[longer] = (total, 1)
            begun = longer

    def add_work(self, inputs: tuple[int, ...], outputs: tuple[int, ...], table: int) -> None:
        """Add the time of a work, as a factor over the variables of its two sides."""
        own = self._problem.tables[table]
        ticks = (np.array(own.input_widths), np.array(own.output_widths))
        variables: list[int | None] = []
        places = []
        for side, known in zip((inputs, outputs), ticks):
            if not side:
                variables.append(None)
                places.append(np.searchsorted(known, [0]))
                continue
            variable, weight = self._of_items[_items(side)]
            variables.append(variable)
            places.append(np.searchsorted(known, weight * self.values[variable]))
        time = own.nanoseconds[np.ix_(*places)]
        a, b = variables
        if a is not None and a == b:
            return self.add((a,), time=np.diagonal(time))
        if a is not None and b is not None and a > b:
            a, b, time = b, a, time.T
        scope = tuple(v for v in (a, b) if v is not None)
        return self.add(scope, time=time.reshape(tuple(len(self.values[v]) for v in scope)))

    def add(self, scope: Scope, *, loss: np.ndarray | None = None, time: np.ndarray | None = None) -> None:
        """Add loss or time to the factor of a scope."""
        shape = tuple(len(self.values[v]) for v in scope)
        if scope not in self.parts:
            self.parts[scope] = (np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64))
        for own, more in zip(self.parts[scope], (loss, time)):
            if more is not None:
                own += more
