"""Masks: which input channels each consumer keeps, as Boolean arrays keyed by weight name.

``masks["layer1.0.conv1.weight"]`` has one entry per input channel (input feature for a linear layer), True = kept.
`l2_masks` makes the masks of the paper, and `importance_masks` makes masks by other scores. `normalise_masks` accepts
other formats. `effective_masks` completes the masks: it drops channels whose weights are already zero, and rounds. See
docs/masks.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from upscale_opt.arguments.entrance import entrance
from upscale_opt.arguments.mask_arrays import named_masks, pruned_pairs
from upscale_opt.importance import LARGEST, column_norms, num_inputs
from upscale_opt.masking.importance_masks import importance_masks
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.rounding import kept_channels_report, rounded_mask
from upscale_opt.models.network_checks import require_values
from upscale_opt.tracing.consumer_names import consumer_named
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.graphs import Graph

Masks = dict[str, np.ndarray]


@entrance()
def l2_masks(
    graph: Graph,
    amount: float | str = 0.5,
    *,
    ignore: Iterable[str] = (),
    output_masks: Mapping[str, np.ndarray] | None = None,
) -> Masks:
    """Per-consumer L2 masks: the unconstrained input-side pruning of UPSCALE (Wan et al., ICML 2023, section 4).

    Every convolution that does not read the network input removes its input channels with the smallest L2 norm.
    Depthwise convolutions and linear layers are not masked. A convolution with several groups removes the same channels
    of every group.

    Parameters
    ----------
    graph
        The traced model.
    amount
        Share of channels to remove, in [0, 1); see `upscale_opt.arguments.amounts.num_removed`.
    ignore
        Names of weights or modules that are not masked, wildcards allowed (``layer4.*``).
    output_masks
        Masks of producers' output channels. Channels that these masks make zero are removed first. Default: none.

    Raises
    ------
    MaskError
        If the amount is outside [0, 1), or a name to ignore matches nothing.
    """
    return importance_masks(graph, "l2", amount, ignore=ignore, output_masks=output_masks)


@entrance()
def normalise_masks(graph: Graph, masks: Mapping[str, Any] | Iterable[tuple[str, int]]) -> Masks:
    """Convert masks from other formats to Boolean arrays by weight name.

    Parameters
    ----------
    graph
        The traced model.
    masks
        One of three formats: a mapping from weight names or module names to Boolean arrays or tensors, or to lists of
        *kept* indices; UPSCALE's iterable of (parameter name, *pruned* channel) pairs; or `upscale_opt.PruningMasks`
        that drop input channels only.

    Returns
    -------
    dict
        Weight name to Boolean array, only for the consumers that the masks name.

    Raises
    ------
    MaskError
        If a name is not a consumer of the network; the message lists near matches. Also if a length or index is wrong,
        or if two names of one weight have different masks.
    """

    def of_name(name: str) -> tuple[str, int]:
        weight = consumer_named(graph, name)
        return weight, num_inputs(graph, weight)

    return named_masks(masks, of_name) if isinstance(masks, Mapping) else pruned_pairs(masks, of_name)


@entrance()
def effective_masks(
    graph: Graph,
    masks: Mapping[str, Any] | Iterable[tuple[str, int]] | None = None,
    *,
    round_to: int = 1,
    min_channels: int = 1,
) -> MaskedGraph:
    """Complete the masks: one mask for every consumer, without input channels whose weights are all zero, and rounded.

    If a mask would keep nothing, the consumer keeps its channel with the largest L2 norm (the first on ties). A message
    reports it.

    Parameters
    ----------
    graph
        The traced model.
    masks
        In the formats of `normalise_masks`. Default: none.
    round_to, min_channels
        Every consumer keeps a multiple of `round_to` channels and at least `min_channels`. If it reads fewer, it keeps
        all. Its strongest dropped channels come back (`upscale_opt.masking.rounding.rounded_mask`). To round
        constrained masks, use the arguments of `upscale_opt.constrained_masks`. Here every consumer is rounded alone,
        and the masks would no longer agree.

    Raises
    ------
    MaskError
        If `round_to` or `min_channels` is below 1, or if `normalise_masks` rejects the masks.
    ModelError
        If a weight is NaN or infinite.
    """
    require_values(graph.module)
    require_finite(graph)
    given = normalise_masks(graph, masks or {})
    result: Masks = {}
    messages = []
    for name in graph.consumers:
        used = column_norms(graph, name, order=LARGEST) != 0
        mask = given.get(name, np.ones(len(used), dtype=bool)) & used
        if not mask.any():
            best = int(column_norms(graph, name).argmax())
            mask = np.zeros(len(used), dtype=bool)
            mask[best] = True
            messages.append(f"the mask of {name} keeps nothing; its strongest channel, {best}, is kept")
        result[name] = rounded_mask(graph, name, mask, round_to=round_to, min_channels=min_channels)
    report = kept_channels_report(graph, given, result)
    return MaskedGraph(graph, result, messages=tuple(messages), report=report)
