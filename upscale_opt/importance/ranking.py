"""Masks by a criterion: the scores of every layer, and the weakest channels dropped, layer by layer or in all."""

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
    """The scores of the channels of these weights: float64, shape (channels,), the weakest lowest.

    Raises
    ------
    MaskError
        If the importance lacks data, cannot score a layer, or does not return one number per channel.
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
    """Masks that drop the weakest channels of these weights, each layer its own.

    Parameters
    ----------
    graph
        The traced model.
    weights
        Names of the weights, in the order in which equal channels of several layers go.
    side
        ``input`` or ``output``.
    criterion
        Which channels go.
    first
        Weight name to Boolean array: what goes before everything else. Default: nothing.

    Returns
    -------
    dict
        Weight name to Boolean array, True = kept. Exactly so many channels go as the amount says of every layer, or
        of all those that share the global threshold; every layer keeps its strongest channel, and where that leaves
        fewer to go than a global amount asks for, all of these go. Rounding brings back the strongest that go.
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
    """Raise unless a global amount is met: because every layer keeps a channel, it may be out of reach.

    Parameters
    ----------
    graph
        The traced model.
    masks
        Weight name to Boolean array, of the layers that were masked.
    amount
        Share of channels that were to go of all layers together.
    own
        Names of weights or modules, wildcards allowed, with amounts of their own: they do not count.

    Raises
    ------
    MaskError
        If fewer channels go.
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
    """How many channels every layer loses."""
    own = criterion.own_amounts(graph, frozenset(scores))
    numbers = {weight: num_removed(own.get(weight, criterion.amount), len(score)) for weight, score in scores.items()}
    pooled = [weight for weight in scores if weight not in own]
    if criterion.scope == GLOBAL and pooled:
        total = num_removed(criterion.amount, sum(len(scores[weight]) for weight in pooled))
        # Of every layer the strongest channel is no candidate; layers and indices ascend, so that a stable sort is due.
        candidates = [np.sort(orders[weight][:-1]) for weight in pooled]
        layer = np.repeat(np.arange(len(pooled)), [len(own) for own in candidates])
        values = np.concatenate([scores[weight][own] for weight, own in zip(pooled, candidates, strict=True)])
        gone = layer[np.argsort(values, kind="stable")[:total]]
        numbers |= dict(zip(pooled, np.bincount(gone, minlength=len(pooled)).tolist(), strict=True))
    return numbers
