"""Constraints on orders: channels with fixed places, and channels that must stand before others of their block.

Constrained channels are no longer interchangeable with others, so each is a signature class of its own. Which solvers
keep constraints is said by `solvers.dispatch`; the others refuse such problems.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems.conversions import whole_number
from problems.errors import ProblemError
from problems.showing.reprs import shown


@dataclass(frozen=True)
class Constraint(ABC):
    """What fixed places and precedences have in common. Use one of these two."""

    block: int

    @property
    @abstractmethod
    def channels(self) -> tuple[int, ...]:
        """The channels it is about, by their original indices."""

    @abstractmethod
    def with_channels(self, channels: Sequence[int]) -> Constraint:
        """The same for other channels, which correspond to `channels`."""

    @abstractmethod
    def kept_by(self, order: np.ndarray) -> bool:
        """Whether an order of the stored channels of its block keeps it."""


@shown
@dataclass(frozen=True)
class FixedPlace(Constraint):
    """A channel stands at a given place of its block.

    Parameters
    ----------
    block
        Index of the block.
    channel
        The channel, by its original index.
    place
        Position among the stored channels, from 0; from the end if it is negative: -1 is the last place.
    """

    block: int
    channel: int
    place: int

    def __post_init__(self) -> None:
        _require_whole(self, block=0, channel=0, place=None)

    @property
    def channels(self) -> tuple[int, ...]:
        """The channel."""
        return (self.channel,)

    def with_channels(self, channels: Sequence[int]) -> FixedPlace:
        """The same place for another channel."""
        return FixedPlace(self.block, channels[0], self.place)

    def kept_by(self, order: np.ndarray) -> bool:
        """Whether the channel stands there."""
        return bool(order[self.place] == self.channel)

    def __str__(self) -> str:
        return f"channel {self.channel} of block {self.block} at place {self.place}"


@shown
@dataclass(frozen=True)
class Precedence(Constraint):
    """A channel stands somewhere before another one of the same block.

    Parameters
    ----------
    block
        Index of the block.
    first, later
        The channels, by their original indices.
    """

    block: int
    first: int
    later: int

    def __post_init__(self) -> None:
        _require_whole(self, block=0, first=0, later=0)
        if self.first == self.later:
            raise ProblemError(f"channel {self.first} cannot stand before itself; give two channels")

    @property
    def channels(self) -> tuple[int, ...]:
        """The earlier and the later channel."""
        return (self.first, self.later)

    def with_channels(self, channels: Sequence[int]) -> Precedence:
        """The same for two other channels."""
        return Precedence(self.block, channels[0], channels[1])

    def kept_by(self, order: np.ndarray) -> bool:
        """Whether the one stands before the other."""
        return bool(np.flatnonzero(order == self.first)[0] < np.flatnonzero(order == self.later)[0])

    def __str__(self) -> str:
        return f"channel {self.first} of block {self.block} before channel {self.later}"


def first_broken(constraints: Sequence[Constraint], orders: Sequence[np.ndarray]) -> Constraint | None:
    """The first constraint that orders of blocks do not keep; None if they keep all.

    Examples
    --------
    >>> both = [FixedPlace(0, 2, -1), Precedence(0, 1, 0)]
    >>> print(first_broken(both, [np.array([1, 0, 2])]), first_broken(both, [np.array([0, 1, 2])]))
    None channel 1 of block 0 before channel 0
    """
    return next((own for own in constraints if not own.kept_by(orders[own.block])), None)


def order_that_keeps(constraints: Sequence[Constraint], stored: np.ndarray) -> np.ndarray | None:
    """An order of the stored channels of one block that keeps constraints on it; None if there is none.

    It is exact: every channel has an earliest and a latest place; of those that may stand at the next place, one with
    the earliest latest place is taken (Lawler, *Management Science* 19, 1973; unit tasks on one machine). The original
    order breaks ties.

    Parameters
    ----------
    constraints
        All on one block.
    stored
        Its stored channels, ascending.

    Examples
    --------
    >>> order_that_keeps([FixedPlace(0, 4, 1), Precedence(0, 3, 0)], np.array([0, 2, 3, 4])).tolist()
    [3, 4, 0, 2]
    """
    size = len(stored)
    index = {channel: i for i, channel in enumerate(stored.tolist())}
    earliest, latest = [0] * size, [size - 1] * size
    after: list[set[int]] = [set() for _ in range(size)]
    for constraint in constraints:
        own = [index[channel] for channel in constraint.channels]
        if isinstance(constraint, FixedPlace):
            place = constraint.place % size
            earliest[own[0]], latest[own[0]] = max(earliest[own[0]], place), min(latest[own[0]], place)
        else:
            after[own[0]].add(own[1])
    sequence = _topological(after)
    if sequence is None:
        return None
    for i in sequence:
        for j in after[i]:
            earliest[j] = max(earliest[j], earliest[i] + 1)
    for i in reversed(sequence):
        latest[i] = min([latest[i], *(latest[j] - 1 for j in after[i])])
    waiting = sorted(range(size), key=lambda i: earliest[i], reverse=True)
    ready: list[tuple[int, int]] = []
    order = []
    for place in range(size):
        while waiting and earliest[waiting[-1]] <= place:
            own_index = waiting.pop()
            heapq.heappush(ready, (latest[own_index], own_index))
        if not ready or ready[0][0] < place:
            return None
        order.append(heapq.heappop(ready)[1])
    return stored[order]


def _topological(after: Sequence[set[int]]) -> list[int] | None:
    """Every node before those after it; None if there is a circle."""
    before = [0] * len(after)
    for nodes in after:
        for node in nodes:
            before[node] += 1
    free = [node for node, number in enumerate(before) if number == 0]
    sequence = []
    while free:
        sequence.append(free.pop())
        for node in after[sequence[-1]]:
            before[node] -= 1
            if before[node] == 0:
                free.append(node)
    return sequence if len(sequence) == len(after) else None


def _require_whole(constraint: Constraint, **least: int | None) -> None:
    for name, lowest in least.items():
        value = whole_number(getattr(constraint, name), f"a constraint: {name}", least=lowest)
        object.__setattr__(constraint, name, value)
