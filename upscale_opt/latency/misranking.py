"""Compares two orders that the predictions rank wrongly, access by access.

An access may be far from its table, but by the same amount in all orders. Then it causes no wrong ranking. The cause is
a *difference* between two orders that the tables do not predict.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """How much longer an access takes in the slower of two orders.

    Attributes
    ----------
    name
        Name of the access.
    expected, measured
        Seconds in the slower order minus seconds in the faster one.
    """

    name: str
    expected: float
    measured: float

    @property
    def unexpected(self) -> float:
        """Seconds of the difference that the tables do not predict."""
        return self.measured - self.expected

    def __str__(self) -> str:
        return f"{self.name}: expected {1e6 * self.expected:+.0f} us, measured {1e6 * self.measured:+.0f} us"


@dataclass(frozen=True)
class Misranking:
    """The two orders with the worst ranking error (`upscale_opt.latency.agreement.worst_ranked_pair`).

    Attributes
    ----------
    faster, slower
        Names of the orders, as measured.
    model
        The difference between passes of the whole model.
    accesses
        The differences between accesses, the least expected ones first.
    """

    faster: str
    slower: str
    model: Difference
    accesses: tuple[Difference, ...]

    @property
    def all_accesses(self) -> Difference:
        """The sum over the accesses. The rest of the model's difference is outside the accesses."""
        expected = sum(own.expected for own in self.accesses)
        return Difference("all accesses", expected, sum(own.measured for own in self.accesses))

    def lines(self, most: int = 10) -> list[str]:
        """The comparison as text, with at most `most` accesses."""
        listed = (self.model, self.all_accesses, *self.accesses[:most])
        what = f"{self.slower} is slower than {self.faster}, which was predicted to be no faster"
        return [f"rank furthest off: {what}", *(f"  {own}" for own in listed)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "faster": self.faster,
            "slower": self.slower,
            "model": asdict(self.model),
            "all_accesses": asdict(self.all_accesses),
            "accesses": [asdict(own) for own in self.accesses],
        }
