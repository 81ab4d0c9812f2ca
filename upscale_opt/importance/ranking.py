"""Masks by a criterion: score every layer, then drop the weakest channels, per layer or over all layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from upscale_opt.arguments.amounts import num_removed, round_up
from upscale_opt.errors import MaskError
from upscale_opt.importance.criteria import GLOBAL, Criterion
from upscale_opt.importance.norms import num_channels
from upscale_opt.importance.registry import importance_named
from upscale_opt.tracing.consumer_names import consumers_matching
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.graphs import Graph


def scores_of(graph: Graph, weights: Iterable[str], side: str, criterion: Criterion) -> dict[str, np.ndarray]:
    """The scores of the channels of these weights: float64, shape (channels,). The weakest channel scores lowest.

    Raises
    ------
    MaskError
        If the importance has no data, cannot score a layer, or does not return one number per channel.
    ModelError
        If a weight is NaN or infinite.
    """
    require_finite(graph)
    names = list(weights)
    importance = importance_named(criterion.importance)
    evidence = criterion.evidence(graph, names, side)
    scores = {}
    for weight in names:
        found = np.asarray(importance.function(evidence, weight), dtype=np.float64)
        length = num_channels(graph, weight, side)
        if found.shape != (length,):
            raise MaskError(
                f"the importance {importance.name} gives {weight} scores of shape {found.shape}; "
                f"it must return one number for each of the {length} channels"
            )
        if np.isnan(found).any():
            raise MaskError(
                f"the importance {importance.name} gives {int(np.isnan(found).sum())} of the {length} channels of "
                f"{weight} the score NaN; look at the data and the loss, or choose another importance"
            )
        scores[weight] = found
    return scores


def ranked_masks(
    graph: Graph,
    weights: Iterable[str],
    side: str,
    criterion: Criterion,
    *,
    first: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Masks that drop the weakest channels of these weights. Each layer has its own mask.

    Parameters
    ----------
    graph
        The traced model.
    weights
        Names of the weights. If channels of several layers have equal scores, those of earlier layers are dropped
        first.
    side
        ``input`` or ``output``.
    criterion
        Which channels to drop.
    first
        Weight name to Boolean array: channels to drop before all others. Default: none.

    Returns
    -------
    dict
        Weight name to Boolean array, True = kept. With a local amount, the number dropped from every layer is exactly
        what the amount says. With a global amount, this holds for all layers that share the threshold together. Every
        layer keeps its strongest channel. If a global amount then asks for more channels than there are candidates, all
        candidates are dropped. Rounding brings back the strongest dropped channels.
    """
    scores = scores_of(graph, weights, side, criterion)
    for weight, columns in (first or {}).items():
        if weight in scores:
            scores[weight] = np.where(columns, -np.inf, scores[weight])
    orders = {weight: np.argsort(score, kind="stable") for weight, score in scores.items()}
    masks = {}
    for weight, number in _numbers(graph, scores, orders, criterion).items():
        size = len(orders[weight])
        kept = round_up(size - number, size, round_to=criterion.round_to, min_channels=criterion.min_channels)
        masks[weight] = np.ones(size, dtype=bool)
        masks[weight][orders[weight][: size - kept]] = False
    return masks


def require_reached(
    graph: Graph, masks: Mapping[str, np.ndarray], amount: float | str, own: Mapping[str, float | str]
) -> None:
    """Raise an error if a global amount is not reached. Every layer keeps one channel, so it may be unreachable.

    Parameters
    ----------
    graph
        The traced model.
    masks
        Weight name to Boolean array, of the masked layers.
    amount
        Share of channels to drop from all layers together.
    own
        Names of weights or modules (wildcards allowed) that have their own amounts. They do not count.

    Raises
    ------
    MaskError
        If the masks drop fewer channels.
    """
    outside = consumers_matching(graph, own)
    pooled = [mask for name, mask in masks.items() if name not in outside]
    total = sum(mask.size for mask in pooled)
    wanted, gone = num_removed(amount, total), sum(int((~mask).sum()) for mask in pooled)
    if pooled and gone < wanted:
        raise MaskError(
            f"amount {amount} asks for {wanted} of {total} channels to go, but each of {len(pooled)} layers keeps "
            f"one; choose an amount of at most {gone / total:.3f}"
        )


def _numbers(
    graph: Graph, scores: Mapping[str, np.ndarray], orders: Mapping[str, np.ndarray], criterion: Criterion
) -> dict[str, int]:
    """Number of channels to drop from every layer."""
    own = criterion.own_amounts(graph, frozenset(scores))
    numbers = {weight: num_removed(own.get(weight, criterion.amount), len(score)) for weight, score in scores.items()}
    pooled = [weight for weight in scores if weight not in own]
    if criterion.scope == GLOBAL and pooled:
        total = num_removed(criterion.amount, sum(len(scores[weight]) for weight in pooled))
        # The strongest channel of every layer is no candidate. Layers and indices ascend, so the sort must be stable.
        candidates = [np.sort(orders[weight][:-1]) for weight in pooled]
        layer = np.repeat(np.arange(len(pooled)), [len(own) for own in candidates])
        values = np.concatenate([scores[weight][own] for weight, own in zip(pooled, candidates, strict=True)])
        gone = layer[np.argsort(values, kind="stable")[:total]]
        numbers |= dict(zip(pooled, np.bincount(gone, minlength=len(pooled)).tolist(), strict=True))
    return numbers
