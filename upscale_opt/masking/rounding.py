"""Rounding of kept counts to suit the hardware (multiples, a minimum), and the report of asked and kept channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from upscale_opt.arguments.amounts import round_up
from upscale_opt.importance import column_norms
from upscale_opt.tracing.graphs import Graph


@dataclass(frozen=True)
class KeptChannels:
    """How many input channels a consumer should keep by its given mask, and how many it keeps.

    Attributes
    ----------
    weight
        Name of its weight.
    inputs
        Number of channels it reads, per group. After a flatten, a channel is several input features.
    asked
        Number of channels that the amount or the given mask keeps.
    kept
        Number of channels kept in the end: without channels whose weights are all zero, and rounded.
    dropped
        Number of channels dropped to reach a rounder count, although the mask keeps them.
    dropped_share
        Their share of the squared L2 norm of all channels that the mask keeps.
    """

    weight: str
    inputs: int
    asked: int
    kept: int
    dropped: int = 0
    dropped_share: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. What was dropped is left out if it is nothing."""
        values = asdict(self)
        return values if self.dropped else {name: own for name, own in values.items() if "dropped" not in name}


def rounded_mask(
    graph: Graph, weight: str, mask: np.ndarray, *, round_to: int = 1, min_channels: int = 1
) -> np.ndarray:
    """A mask that keeps a rounded number of channels (`upscale_opt.arguments.amounts.round_up`).

    The strongest removed channels come back, by L2 norm and then by index. After a flatten, whole channels are counted
    and come back. In a convolution with several groups, the channels of one group are counted.

    Parameters
    ----------
    graph
        The traced model.
    weight
        Name of the consumer's weight.
    mask
        bool, of the length of the weight's input dimension.
    round_to, min_channels
        At least 1.
    """
    kept = channels_of(graph, weight, mask)
    wanted = round_up(int(kept.sum()), len(kept), round_to=round_to, min_channels=min_channels)
    return resized_mask(graph, weight, mask, wanted)


def resized_mask(graph: Graph, weight: str, mask: np.ndarray, count: int) -> np.ndarray:
    """A mask that keeps a given number of channels: the strongest removed ones come back, or the weakest kept ones go.

    Parameters
    ----------
    graph
        The traced model.
    weight
        Name of the consumer's weight.
    mask
        bool, of the length of the weight's input dimension.
    count
        Number of channels to keep, from 1 to the number that the consumer reads.
    """
    kept = channels_of(graph, weight, mask)
    more = count - int(kept.sum())
    if not more:
        return mask
    candidates = np.flatnonzero(~kept if more > 0 else kept)
    ascending = candidates[np.argsort(_norms(graph, weight, mask)[candidates], kind="stable")]
    result = mask.reshape(len(kept), -1).copy()
    result[ascending[-more:] if more > 0 else ascending[:-more]] = more > 0
    return result.reshape(-1)


def share_of_weakest(graph: Graph, weight: str, mask: np.ndarray, number: int) -> float:
    """Share of the weakest kept channels in the squared L2 norm of all kept channels of a consumer."""
    squares = np.sort(_norms(graph, weight, mask)[channels_of(graph, weight, mask)] ** 2)
    return float(squares[:number].sum() / squares.sum()) if number else 0.0


def _norms(graph: Graph, weight: str, mask: np.ndarray) -> np.ndarray:
    """L2 norm of the weights of every channel that a mask counts."""
    norms: np.ndarray = np.linalg.norm(column_norms(graph, weight).reshape(-1, _features(graph, weight, mask)), axis=1)
    return norms


def channels_of(graph: Graph, weight: str, mask: np.ndarray) -> np.ndarray:
    """The channels that a mask keeps: those with any kept feature; bool, shape (channels,)."""
    kept: np.ndarray = np.logical_or.reduce(mask.reshape(-1, _features(graph, weight, mask)), axis=1)
    return kept


def _features(graph: Graph, weight: str, mask: np.ndarray) -> int:
    """Entries of a mask per channel. It is 1 if a channel lies in several groups of a convolution."""
    size = graph.consumers[weight].input.size
    return size if len(mask) % size == 0 else 1


def kept_channels_report(
    graph: Graph, asked: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]
) -> tuple[KeptChannels, ...]:
    """Asked and kept channels of every consumer. A consumer without a given mask should keep everything."""
    report = []
    for weight, mask in masks.items():
        kept = channels_of(graph, weight, mask)
        wanted = channels_of(graph, weight, asked[weight]) if weight in asked else np.ones_like(kept)
        report.append(KeptChannels(weight, len(kept), int(wanted.sum()), int(kept.sum())))
    return tuple(report)


def summary(report: Sequence[KeptChannels], *, round_to: int | str = 1, min_channels: int = 1) -> str:
    """One line that compares the kept channels with the asked ones, and names every consumer that lost some of them.

    Examples
    --------
    >>> report = [KeptChannels("a", 20, 10, 16), KeptChannels("b", 8, 8, 8)]
    >>> summary(report, round_to=8)
    'masks: 24 of 28 input channels kept, 18 asked for; rounding to multiples of 8 raised 1 of 2 consumers'
    >>> summary([KeptChannels("a", 20, 17, 16, 1, 0.004)], round_to="auto-nearest").partition("; ")[2]
    'rounding by measured times raised 0 of 1 consumers, dropped 1 of a (0.4 %)'
    """
    inputs, asked, kept = (sum(getattr(own, name) for own in report) for name in ("inputs", "asked", "kept"))
    text = f"masks: {kept} of {inputs} input channels kept, {asked} asked for"
    if round_to == 1 and min_channels == 1:
        return text
    more = sum(own.kept > own.asked for own in report)
    multiple = f"rounding to multiples of {round_to}" if round_to != 1 else ""
    rule = "rounding by measured times" if isinstance(round_to, str) else multiple
    drops = ", ".join(
        f"{own.dropped} of {own.weight} ({100 * own.dropped_share:.1f} %)" for own in report if own.dropped
    )
    least = f"keeping at least {min_channels}" if min_channels > 1 else ""
    text = f"{text}; {' and '.join(part for part in (rule, least) if part)} raised {more} of {len(report)} consumers"
    return f"{text}, dropped {drops}" if drops else text
