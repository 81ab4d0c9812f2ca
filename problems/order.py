"""An order is a solution of a problem: a permutation of the stored channels per block, and of the units per bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from problems.constraints import first_broken
from problems.conversions import items, of_kind, whole_numbers
from problems.errors import ProblemError
from problems.problem import Problem
from problems.showing.reprs import shown


@shown
@dataclass(frozen=True, eq=False)
class Order:
    """One permutation per block, and one per bundle.

    Parameters
    ----------
    channels
        Per block an int array: ``channels[b][k]`` is the channel (original index) stored at position k of block
        b, as in ``weight[channels[b]]``. Kept as read-only int64 copies.
    arrangement
        Per bundle an int array: ``arrangement[i][p]`` is the unit in the place of unit p. Default: empty, which means
        that every unit is in its own place. An arrangement that moves nothing is stored as empty.

    Raises
    ------
    ProblemError
        If an entry is not a whole number. `require_valid` checks whether the order fits a problem.

    Examples
    --------
    >>> order = Order(([2, 0, 1],))
    >>> order[0].tolist()
    [2, 0, 1]
    """

    channels: tuple[np.ndarray, ...]
    arrangement: tuple[np.ndarray, ...] = ()

    def __init__(
        self,
        channels: Iterable[Sequence[int] | np.ndarray],
        arrangement: Iterable[Sequence[int] | np.ndarray] = (),
    ) -> None:
        units = _whole_numbers(arrangement, "unit")
        if any(own.ndim != 1 for own in units):
            raise ProblemError("an order lists unit numbers bundle by bundle; give a list of lists")
        in_place = all(np.array_equal(own, np.arange(len(own))) for own in units)
        object.__setattr__(self, "channels", _whole_numbers(channels, "channel"))
        object.__setattr__(self, "arrangement", () if in_place else units)

    def __getitem__(self, block: int) -> np.ndarray:
        return self.channels[block]

    def __len__(self) -> int:
        return len(self.channels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Order):
            return NotImplemented
        return all(
            len(own) == len(others) and all(np.array_equal(a, b) for a, b in zip(own, others, strict=True))
            for own, others in ((self.channels, other.channels), (self.arrangement, other.arrangement))
        )

    def __hash__(self) -> int:
        return hash(tuple(own.tobytes() for own in (*self.channels, *self.arrangement)))

    def __str__(self) -> str:
        moved = sum(int((own != np.arange(len(own))).sum()) for own in self.arrangement)
        units = f", {moved} units in other places" if moved else ""
        return (
            f"order of {sum(map(len, self.channels))} channels in {len(self)} block{'s' if len(self) != 1 else ''}"
            f"{units}"
        )

    @classmethod
    def identity(cls, problem: Problem) -> Order:
        """The stored channels in their original order, or in one that keeps the problem's constraints."""
        return cls(problem.original_order)

    @classmethod
    def random(cls, problem: Problem, rng: np.random.Generator) -> Order:
        """Every block and every bundle in random order, whatever the constraints; pinned blocks as they were."""
        return cls(
            [
                stored if block.pinned else rng.permutation(stored)
                for block, stored in zip(problem.blocks, problem.stored, strict=True)
            ],
            [rng.permutation(len(bundle.units)) for bundle in problem.bundles],
        )

    @classmethod
    def of_classes(cls, problem: Problem, sequence: Iterable[int]) -> Order:
        """The order that places whole classes one after another.

        Parameters
        ----------
        problem
            The problem whose `classes` the indices refer to.
        sequence
            Every class once; only the relative order within each block matters.
        """
        classes = problem.classes
        parts: list[list[np.ndarray]] = [[] for _ in problem.blocks]
        for s in sequence:
            parts[classes.block[s]].append(classes.members[s])
        return cls([np.concatenate(part) if part else np.zeros(0, dtype=np.int64) for part in parts])

    def require_valid(self, problem: Problem) -> None:
        """Raise `ProblemError` unless all stored channels and all units are placed once, pinned channels in place.

        Constraints must be kept, too.
        """
        of_kind(problem, Problem, "the problem")
        if len(self) != len(problem.blocks):
            raise ProblemError(f"the order has {len(self)} blocks, but the problem has {len(problem.blocks)}")
        for block, stored, channels in zip(problem.blocks, problem.stored, self.channels, strict=True):
            if not np.array_equal(np.sort(channels), stored):
                raise ProblemError(f"block {block.name!r}: the order is not a permutation of the stored channels")
            if block.pinned and not np.array_equal(channels, stored):
                raise ProblemError(f"block {block.name!r} is pinned, but the order moves its channels")
        if (broken := first_broken(problem.constraints, self.channels)) is not None:
            raise ProblemError(f"the order does not keep a constraint: {broken}")
        if self.arrangement and len(self.arrangement) != len(problem.bundles):
            raise ProblemError(
                f"the order arranges {len(self.arrangement)} bundles, but the problem has {len(problem.bundles)}"
            )
        for i, units in enumerate(self.arrangement):
            if not np.array_equal(np.sort(units), np.arange(len(problem.bundles[i].units))):
                raise ProblemError(f"bundle {i}: the order is not a permutation of its units")


def _whole_numbers(given: Iterable[Sequence[int] | np.ndarray], kind: str) -> tuple[np.ndarray, ...]:
    """Read-only int64 copies."""
    arrays = []
    for own in items(given, f"an order of {kind} numbers"):
        array = whole_numbers(own, "an order", f"{kind} numbers")
        array.flags.writeable = False
        arrays.append(array)
    return tuple(arrays)
