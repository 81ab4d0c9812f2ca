"""Two orders whose predictions rank them wrongly, compared access by access.

Accesses that are further from their tables than others may be so in all orders alike, and then rank none wrongly. What
does is a *difference* between two orders that the tables do not expect.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """How much longer something takes in the slower of two orders.

    Attributes
    ----------
    name
        An access.
    expected, measured
        Seconds: in the slower order, less those in the faster one.
    """

    name: str
    expected: float
    measured: float

    @property
    def unexpected(self) -> float:
        """Seconds that the tables do not account for."""
        return self.measured - self.expected

    def __str__(self) -> str:
        return f"{self.name}: expected {1e6 * self.expected:+.0f} us, measured {1e6 * self.measured:+.0f} us"


@dataclass(frozen=True)
class Misranking:
    """The two orders whose rank is furthest off (`upscale_opt.latency.agreement.worst_ranked_pair`).

    Attributes
    ----------
    faster, slower
        As measured.
    model
        The difference between whole passes.
    accesses
        The differences between accesses, those that are least expected first.
    """

    faster: str
    slower: str
    model: Difference
    accesses: tuple[Difference, ...]

    @property
    def all_accesses(self) -> Difference:
        """The sum over the accesses: what is left of the model's difference is outside of them."""
        expected = sum(own.expected for own in self.accesses)
        return Difference("all accesses", expected, sum(own.measured for own in self.accesses))

    def lines(self, most: int = 10) -> list[str]:
        """As text, with so many accesses at most."""
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
