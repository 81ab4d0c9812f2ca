"""Counts for reports: how many channels of a network may move, how many may not, and which operators pin them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upscale_opt.tracing.graphs import NETWORK_INPUT, NETWORK_OUTPUT, Graph


@dataclass(frozen=True)
class Census:
    """Numbers of channels of a network, by what may be done with them.

    Attributes
    ----------
    free
        Channels that may move and may be removed.
    not_removable
        Channels that may only move, for example because a LayerNorm or a softmax reads all of them.
    pinned
        Channels that keep their positions.
    by_operator
        Reason for the pin to the number of channels, largest number first. The numbers add up to `pinned`. If a channel
        has several reasons, it counts for the network's input or output, or else for the first operator in execution
        order.
    """

    free: int
    not_removable: int
    pinned: int
    by_operator: Mapping[str, int]

    @property
    def total(self) -> int:
        """The number of all channels."""
        return self.free + self.not_removable + self.pinned

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a JSON object."""
        return {
            "total": self.total,
            "free": self.free,
            "not_removable": self.not_removable,
            "pinned": self.pinned,
            "by_operator": dict(self.by_operator),
        }

    def __str__(self) -> str:
        shares = [f"{number / max(1, self.total):.1%}" for number in (self.free, self.not_removable, self.pinned)]
        holders = ", ".join(f"{reason} {number}" for reason, number in self.by_operator.items())
        return f"{self.total} channels: {shares[0]} free, {shares[1]} not removable, {shares[2]} pinned" + (
            f" ({holders})" if holders else ""
        )


def census(graph: Graph) -> Census:
    """Count the channels of a traced network.

    Parameters
    ----------
    graph
        The trace.
    """
    free = not_removable = 0
    by_operator: dict[str, int] = {}
    for block, reasons in zip(graph.blocks, graph.reasons, strict=True):
        if block.pinned:
            reason = _first(reasons)
            by_operator[reason] = by_operator.get(reason, 0) + block.size
        elif block.removable:
            free += block.size
        else:
            not_removable += block.size
    largest_first = dict(sorted(by_operator.items(), key=lambda entry: -entry[1]))
    return Census(free, not_removable, sum(by_operator.values()), largest_first)


def _first(reasons: tuple[str, ...]) -> str:
    for reason in (NETWORK_INPUT, NETWORK_OUTPUT):
        if reason in reasons:
            return reason
    return reasons[0]
