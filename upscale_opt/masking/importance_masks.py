"""Masks by any importance: choose which channels each layer keeps, by one of many scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from upscale_opt.arguments.checks import whole
from upscale_opt.arguments.entrance import IMPORTANCE, entrance
from upscale_opt.arguments.modes import CONSTRAINED, INPUT, OUTPUT
from upscale_opt.errors import MaskError
from upscale_opt.importance.calibration import Loss
from upscale_opt.importance.criteria import LOCAL, Criterion
from upscale_opt.importance.ranking import ranked_masks, scores_of
from upscale_opt.importance.registry import Importance
from upscale_opt.masking.constrained import shared_masks
from upscale_opt.masking.output_masks import maskable_producers, normalise_output_masks, zero_columns
from upscale_opt.models.network_checks import require_values
from upscale_opt.tracing.consumer_names import consumers_matching
from upscale_opt.tracing.graphs import Graph


@entrance(importance=IMPORTANCE, seed=whole(0, MaskError))
def importance_masks(
    graph: Graph,
    importance: str | Importance = "l2",
    amount: float | str = 0.5,
    *,
    scope: str = LOCAL,
    mode: str = INPUT,
    amounts: Mapping[str, float | str] | None = None,
    ignore: Iterable[str] = (),
    output_masks: Mapping[str, np.ndarray] | None = None,
    data: Any = None,
    loss: Loss | None = None,
    seed: int = 0,
    round_to: int = 1,
    min_channels: int = 1,
) -> dict[str, np.ndarray]:
    """Masks that drop the channels with the lowest importance.

    Parameters
    ----------
    graph
        The traced model.
    importance
        One of `upscale_opt.IMPORTANCES` by name (``l1``, ``l2``, ``lamp``, ``fpgm``, ``hrank``, ``bn-scale``,
        ``taylor``, ``fisher``, ``empirical-fisher``, ``random``), or an `upscale_opt.Importance`.
    amount
        Share of channels to remove, in [0, 1); see `upscale_opt.arguments.amounts.num_removed`.
    scope
        ``local``: every layer removes ``num_removed(amount, n)`` of its n channels, the weakest first. Of channels with
        equal scores, the first is removed first. ``global``: the weakest channels of all layers together are removed,
        ``num_removed(amount, total)`` in all. Of equal channels, the first in the first layer is removed first. The
        strongest channel of every layer always stays, but counts in the total. If there are fewer candidates than
        channels to remove, all candidates are removed. LAMP is made for this scope. Scores of other importances are
        compared across layers without rescaling.
    mode
        ``input``: every convolution that does not read the network input drops its own input channels
        (`upscale_opt.l2_masks`). ``output``: every producer drops its own output channels
        (`upscale_opt.l2_output_masks`). ``constrained``: all consumers of a channel agree, and amounts hold for blocks
        instead of layers (`upscale_opt.constrained_masks`).
    amounts
        Names of weights or modules, wildcards allowed (``layer4.*``), to amounts for these layers. If several names
        match a layer, the last one counts. A global threshold does not include these layers. In constrained mode, the
        smallest amount of a block's consumers counts.
    ignore
        Names of weights or modules that are not masked, wildcards allowed.
    output_masks
        In input mode: masks of producers' output channels. Channels that these masks make zero are removed first.
        Default: none.
    data, loss
        For ``hrank``, ``taylor``, ``fisher`` and ``empirical-fisher``: batches of inputs, with labels at the end, and
        the loss (default: cross-entropy); see `upscale_opt.importance.observation.collect`. ``hrank`` and ``fisher``
        need no labels. There is one pass over the data. The model does not change.
    seed
        Seed of ``random``, and of the labels that ``fisher`` draws; at least 0.
    round_to, min_channels
        The numbers of kept channels are rounded up, see `upscale_opt.arguments.amounts.round_up`. The strongest removed
        channels come back.

    Returns
    -------
    dict
        Weight name to Boolean array, True = kept. In output mode, the names are of producers' weights.

    Raises
    ------
    MaskError
        If a value is invalid, a name matches nothing, data is missing, or a layer cannot be scored.
    """
    require_values(graph.module)
    criterion = Criterion(importance, amount, scope, amounts or {}, data, loss, seed, round_to, min_channels)
    if output_masks and mode != INPUT:
        raise MaskError(f"output_masks= goes with mode {INPUT!r}; leave it out in mode {mode!r}")
    if mode == CONSTRAINED:
        return shared_masks(graph, criterion, ignore=ignore)
    first = zero_columns(graph, normalise_output_masks(graph, output_masks)) if output_masks else None
    return ranked_masks(graph, maskable(graph, mode, ignore=ignore), mode, criterion, first=first)


@entrance(importance=IMPORTANCE)
def importance_scores(
    graph: Graph,
    importance: str | Importance = "l2",
    *,
    mode: str = INPUT,
    ignore: Iterable[str] = (),
    data: Any = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The scores that `importance_masks` ranks by, for the layers that it masks in mode ``input`` or ``output``.

    Parameters
    ----------
    graph, importance, ignore, data, loss, seed
        As for `importance_masks`.
    mode
        ``input`` or ``output``.

    Returns
    -------
    dict
        Weight name to float64 of shape (channels,). The weakest channel scores lowest.

    Raises
    ------
    MaskError
        In the same cases as `importance_masks`.
    """
    require_values(graph.module)
    criterion = Criterion(importance, data=data, loss=loss, seed=seed)
    return scores_of(graph, maskable(graph, mode, ignore=ignore), mode, criterion)


def maskable(graph: Graph, mode: str, *, ignore: Iterable[str] = ()) -> list[str]:
    """Names of the weights that are masked one by one in a mode: ``input`` or ``output``.

    Raises
    ------
    MaskError
        If the mode does not exist, or a name to ignore matches nothing.
    """
    ignored = consumers_matching(graph, ignore)
    if mode == INPUT:
        reads = graph.consumers.items()
        names = [name for name, read in reads if read.is_convolution and not read.reads_network_input]
    elif mode == OUTPUT:
        names = list(maskable_producers(graph))
    else:
        raise MaskError(f"there is no mode {mode!r} for importances; choose {INPUT}, {CONSTRAINED} or {OUTPUT}")
    return [name for name in names if name not in ignored]
