"""A masked graph whose consumers keep given numbers of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from upscale_opt.arguments.amounts import round_up
from upscale_opt.errors import MaskError
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.rounding import channels_of, kept_channels_report, resized_mask, share_of_weakest

Masked = TypeVar("Masked", bound=MaskedGraph)


def with_counts(masked: Masked, counts: Mapping[str, int]) -> Masked:
    """The same masked graph, but some consumers keep other numbers of channels. It has no padding.

    The strongest of the removed channels come back, or the weakest of the kept ones go (L2 norm). The report says how
    many.

    Parameters
    ----------
    masked
        The masked graph, with a mask for every consumer to change.
    counts
        Weight name to number of channels, per group.

    Raises
    ------
    MaskError
        If there is no such mask, or a count is below 1 or above the number of channels.
    """
    masks, report = dict(masked.masks), {own.weight: own for own in masked.report}
    for weight, count in counts.items():
        if weight not in masks:
            raise MaskError(f"there is no mask of {weight!r} to round; there are {', '.join(list(masks)[:8])}")
        before = channels_of(masked.graph, weight, masks[weight])
        if not 1 <= count <= len(before):
            raise MaskError(f"{weight} cannot keep {count} channels; give 1 to {len(before)}")
        own = report.get(weight) or kept_channels_report(masked.graph, masks, {weight: masks[weight]})[0]
        dropped = max(0, int(before.sum()) - count)
        share = share_of_weakest(masked.graph, weight, masks[weight], dropped)
        masks[weight] = resized_mask(masked.graph, weight, masks[weight], count)
        report[weight] = replace(
            own, kept=count, dropped=own.dropped + dropped, dropped_share=own.dropped_share + share
        )
    changed: Masked = replace(masked, masks=masks, padding={}, report=tuple(report.values()))
    return changed


def multiples(masked: MaskedGraph, round_to: int, min_channels: int = 1) -> dict[str, int]:
    """Weight name to the next multiple of what a consumer keeps (`upscale_opt.arguments.amounts.round_up`)."""
    kept = {weight: channels_of(masked.graph, weight, mask) for weight, mask in masked.masks.items()}
    return {
        weight: round_up(int(own.sum()), len(own), round_to=round_to, min_channels=min_channels)
        for weight, own in kept.items()
    }
