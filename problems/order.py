"""An order: the solution of a problem, one permutation of the stored channels per block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from problems.errors import ProblemError
from problems.problem import Problem


@dataclass(frozen=True, eq=False)
class Order:
    """One permutation per block.

    Parameters
    ----------
    channels
        Per block an int array: ``channels[b][k]`` is the channel (original index) stored at position k of block
        b, as in ``weight[channels[b]]``. Kept as read-only int64 copies.

    Raises
    ------
    ProblemError
        If something is not a whole number. Whether the order fits a problem is for `require_valid`.

    Examples
    --------
    >>> order = Order(([2, 0, 1],))
    >>> order[0].tolist()
    [2, 0, 1]
    """

    channels: tuple[np.ndarray, ...]

    def __init__(self, channels: Iterable[Sequence[int] | np.ndarray]) -> None:
        arrays = []
        for block in channels:
            given = np.asarray(block)
            if given.size and given.dtype.kind not in "iu":
                raise ProblemError(f"an order lists channel numbers, not {given.dtype.name}; give whole numbers")
            array = given.astype(np.int64)
            array.flags.writeable = False
            arrays.append(array)
        object.__setattr__(self, "channels", tuple(arrays))

    def __getitem__(self, block: int) -> np.ndarray:
        return self.channels[block]

    def __len__(self) -> int:
        return len(self.channels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Order):
            return NotImplemented
        return len(self) == len(other) and all(
            np.array_equal(a, b) for a, b in zip(self.channels, other.channels, strict=True)
        )

    def __hash__(self) -> int:
        return hash(tuple(block.tobytes() for block in self.channels))

    def __str__(self) -> str:
        return f"order of {sum(map(len, self.channels))} channels in {len(self)} block{'s' if len(self) != 1 else ''}"

    @classmethod
    def identity(cls, problem: Problem) -> Order:
        """The stored channels in their original order."""
        return cls(problem.stored)

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
        """Raise `ProblemError` unless every block's stored channels are placed once, pinned ones in place."""
        if len(self) != len(problem.blocks):
            raise ProblemError(f"the order has {len(self)} blocks, but the problem has {len(problem.blocks)}")
        for block, stored, channels in zip(problem.blocks, problem.stored, self.channels, strict=True):
            if not np.array_equal(np.sort(channels), stored):
                raise ProblemError(f"block {block.name!r}: the order is not a permutation of the stored channels")
            if block.pinned and not np.array_equal(channels, stored):
                raise ProblemError(f"block {block.name!r} is pinned, but the order moves its channels")
