"""What a constraint program is built from: the units it moves, the costs it minimises, and what its bound is worth.

Signature classes may be moved as one where every cost is concave in the span, save for pieces: bringing two parts of a
class together never adds a run (docs/model.md, Theorems 1 and 2). Elsewhere single channels are moved if there are few;
otherwise one program looks for orders and another one, with concave costs below, for a bound. Where there are
constraints, single channels are moved, however many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from problems import Order, Problem
from problems.classes import Classes
from solvers.common.least_costs import is_concave
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.programs.read_modes import ReadModes, concave_minorant, read_modes, small_modes

MAX_SINGLE_CHANNELS = 40
"""channels: stored ones of blocks that may be reordered, up to which single ones are moved; by hand"""

_SCALE = 16  # parts: of a tick in concave costs below others, so that rounding loses little; by hand


@dataclass(frozen=True, eq=False)
class Formulation:
    """Input of a constraint program.

    Attributes
    ----------
    problem
        The problem.
    units
        What moves as one, in the form of signature classes: these, or single channels.
    modes
        The costs of every access, in small numbers; None if runs are counted.
    bounds
        A bound on the program's objective gives one for the problem, see `bound`.
    bases
        What each access pays besides; empty if runs are counted.
    unit
        What a unit of the program's costs is in those of the problem.
    """

    problem: Problem
    units: Classes
    modes: tuple[ReadModes, ...] | None
    bounds: bool = True
    bases: tuple[Fraction | int, ...] = ()
    unit: Fraction | int = 1

    @classmethod
    def of(
        cls, task: Task, units: Classes, modes: Sequence[ReadModes], *, bounds: bool = True, scale: int = 1
    ) -> Formulation:
        """The formulation of costs that are multiplied by `scale`, brought down to small numbers."""
        small = small_modes(modes, scale * task.start_value)
        bases = tuple(Fraction(base, scale) for base in small.bases)
        return cls(task.problem, units, small.modes, bounds, bases, Fraction(small.unit, scale))

    def bound(self, least: int) -> int:
        """The bound for the problem that follows from one on the program's objective."""
        return math.ceil(sum(self.bases, least * self.unit))

    @property
    def single_channels(self) -> bool:
        """Whether units are single channels, some of them interchangeable."""
        return self.units is not self.problem.classes

    @cached_property
    def constrained(self) -> np.ndarray:
        """The units that constraints are about; bool, shape (num_units,)."""
        named = {(own.block, channel) for own in self.problem.constraints for channel in own.channels}
        pairs = zip(self.units.block.tolist(), self.units.members, strict=True)
        return np.array([(b, int(members[0])) in named for b, members in pairs], dtype=bool)

    def order(self, sequences: dict[int, np.ndarray], arrangement: Sequence[np.ndarray] = ()) -> Order:
        """The order that places the units of each block in a sequence (indices within the block); others stay.

        The arrangement is that of bundles, as in `Order`.
        """
        channels = []
        for b in range(len(self.problem.blocks)):
            own = self.units.of_block(b)
            chosen = own[sequences[b]] if b in sequences else own
            channels.append(np.concatenate([self.units.members[s] for s in chosen]))
        return Order(channels, arrangement)

    def positions(self, order: Order, b: int) -> np.ndarray:
        """Position of the first channel of every unit of a block; int64, shape (units of the block,).

        Single channels that the same readers keep are exchanged so that they stand in the order of the units.
        """
        position = np.empty(self.problem.blocks[b].size, dtype=np.int64)
        position[order[b]] = np.arange(len(order[b]))
        own = self.units.of_block(b)
        first = np.array([position[self.units.members[s]].min() for s in own], dtype=np.int64)
        if self.single_channels and not self.problem.blocks[b].pinned:
            differ = (self.units.signature[own[1:]] != self.units.signature[own[:-1]]).any(axis=1)
            starts = np.flatnonzero(differ | self.constrained[own[1:]] | self.constrained[own[:-1]]) + 1
            first = np.concatenate([np.sort(twins) for twins in np.split(first, starts)])
        return first

    def tidied(self, order: Order) -> Order:
        """An order made of whole units, each at the place of its first channel in the given one."""
        free = [b for b, block in enumerate(self.problem.blocks) if not block.pinned]
        return self.order({b: np.argsort(self.positions(order, b), kind="stable") for b in free}, order.arrangement)


def formulations(
    task: Task,
    *,
    counts_pieces: bool,
    max_single_channels: int = MAX_SINGLE_CHANNELS,
) -> tuple[Formulation, ...]:
    """The programs to solve, one after another: a single one where its bound is sharp.

    Parameters
    ----------
    task
        Problem and objective.
    counts_pieces
        The program counts the runs of accesses that may join pieces. Otherwise it takes two for granted, which keeps
        its bound a bound.
    max_single_channels
        Up to how many channels may be moved one by one.
    """
    problem = task.problem
    if task.objective.counts_runs:
        units = single_channels(problem) if problem.constraints else problem.classes
        return (Formulation(problem, units, None),)
    modes = read_modes(problem, task.objective)
    if not counts_pieces:
        modes = tuple(ReadModes(own.least, own.max_excess) if own.pieces is not None else own for own in modes)
    if problem.constraints:
        return (Formulation.of(task, single_channels(problem), modes),)
    # What an access must cover depends on the places of the units it reads.
    fixed = np.zeros(len(modes), dtype=np.int64) if problem.bundles else span_rows(problem).fixed
    if all(is_concave(own.in_one_range[least:]) for own, least in zip(modes, fixed.tolist())):
        return (Formulation.of(task, problem.classes, modes),)
    free = [b for b, block in enumerate(problem.blocks) if not block.pinned]
    if sum(len(problem.stored[b]) for b in free) <= max_single_channels:
        return (Formulation.of(task, single_channels(problem), modes),)
    below = tuple(
        ReadModes(_SCALE * own.least if is_concave(own.least) else concave_minorant(_SCALE * own.least), own.max_excess)
        for own in modes
    )
    return (
        Formulation.of(task, problem.classes, modes, bounds=False),
        Formulation.of(task, problem.classes, below, scale=_SCALE),
    )


def single_channels(problem: Problem) -> Classes:
    """Every channel of an unpinned block as a class of its own, those of one signature class side by side.

    Examples
    --------
    >>> from problems.generators import nested_masks
    >>> problem = nested_masks(6, 2)
    >>> len(problem.classes), single_channels(problem).weight.tolist()
    (2, [1, 1, 1, 1, 1, 1])
    """
    classes = problem.classes
    split = [not problem.blocks[b].pinned for b in classes.block]
    copies = np.where(split, classes.weight, 1)
    members: list[np.ndarray] = []
    for own, apart in zip(classes.members, split):
        members.extend(np.split(own, len(own)) if apart else [own])
    weight = np.array([len(own) for own in members], dtype=np.int64)
    return Classes(
        np.repeat(classes.block, copies), weight, np.repeat(classes.signature, copies, axis=0), tuple(members)
    )
