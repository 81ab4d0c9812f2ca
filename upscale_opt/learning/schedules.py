"""The schedule of GaP: which partition is dense in each step, and a log of the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One step of a schedule: the partition that is dense while the network (or a copy of it) is trained.

    Attributes
    ----------
    index, round
        Index of the step, and of its round. Both start at 0.
    dense
        Index of the dense partition. None in the fine-tuning, where no partition is dense.
    kept
        Weight name to the number of input channels that it keeps during the step.
    """

    index: int
    round: int
    dense: int | None
    kept: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The step as plain values."""
        return asdict(self)


def dense_partitions(num_partitions: int, rounds: int) -> tuple[int, ...]:
    """The dense partition of each step: all partitions in order, repeated for every round.

    Examples
    --------
    >>> dense_partitions(3, 2)
    (0, 1, 2, 0, 1, 2)
    """
    return tuple(range(num_partitions)) * rounds
