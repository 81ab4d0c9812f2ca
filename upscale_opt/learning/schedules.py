"""The schedule of GaP: which partition is dense when, and the record of what was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One step of a schedule: what is dense while the network, or a copy of it, is trained.

    Attributes
    ----------
    index, round
        Of the step, and of the round it is in; from 0 on.
    dense
        Index of the partition that is dense; None in the fine-tuning, where none is.
    kept
        Weight name to the number of input channels it keeps during the step.
    """

    index: int
    round: int
    dense: int | None
    kept: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def dense_partitions(num_partitions: int, rounds: int) -> tuple[int, ...]:
    """The partition that is dense in each step: one after the other, round after round.

    Examples
    --------
    >>> dense_partitions(3, 2)
    (0, 1, 2, 0, 1, 2)
    """
    return tuple(range(num_partitions)) * rounds
