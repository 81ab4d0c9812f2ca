"""Obstructions: three channels of a block of which, whatever the order, some access over-reads one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from problems.conversions import items, objects, text, whole_number
from problems.errors import ProblemError
from problems.showing.reprs import shown


@shown
@dataclass(frozen=True)
class Obstruction:
    """Three channels, each apart from a chain of accesses that joins the other two, and a weight.

    One of the three channels lies between the other two. Some access of the chain that joins these covers it and does
    not keep it. So under every order some access of a chain over-reads the channel that the chain is apart from.

    Parameters
    ----------
    block
        Name of the block.
    channels
        Three different channels of it. -1 stands for the block's start, the block's size for its end: what an access
        keeps that goes on beyond the block.
    chains
        For each channel the names of the accesses of the chain that joins the other two. Each shares a channel of the
        block with the next, and none keeps the channel. For the start and the end it is empty.
    weight
        The part of the costs that pays for this obstruction, not negative.

    Raises
    ------
    ProblemError
        If a field is invalid.
    """

    block: str
    channels: tuple[int, int, int]
    chains: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    weight: Fraction

    def __post_init__(self) -> None:
        text(self.block, "the block of an obstruction")
        channels = items(self.channels, "the channels of an obstruction")
        chains = items(self.chains, "the chains of an obstruction")
        object.__setattr__(self, "channels", tuple(whole_number(c, "a channel of an obstruction") for c in channels))
        object.__setattr__(self, "chains", tuple(objects(own, str, "a chain of an obstruction") for own in chains))
        if len(self.channels) != 3 or len(set(self.channels)) != 3 or len(self.chains) != 3:
            raise ProblemError(
                f"an obstruction has the channels {self.channels} and {len(self.chains)} chains; give three different "
                "channels and three chains"
            )
        try:
            object.__setattr__(self, "weight", Fraction(self.weight))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ProblemError(f"an obstruction has the weight {self.weight!r}; give a fraction") from error
        if self.weight < 0:
            raise ProblemError(f"an obstruction has the weight {self.weight}; none is below 0")
