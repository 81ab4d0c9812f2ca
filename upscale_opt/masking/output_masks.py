"""Masks of producers: which output channels each convolution computes, as Boolean arrays keyed by weight name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from upscale_opt.arguments.checks import described
from upscale_opt.arguments.entrance import OUTPUTS, entrance
from upscale_opt.arguments.mask_arrays import named_masks, pruned_pairs
from upscale_opt.arguments.modes import OUTPUT
from upscale_opt.errors import MaskError
from upscale_opt.importance.criteria import Criterion
from upscale_opt.importance.norms import LARGEST, slice_norms
from upscale_opt.importance.ranking import ranked_masks
from upscale_opt.models.network_checks import require_values
from upscale_opt.models.wrappers import plain_name
from upscale_opt.tracing.consumer_names import consumers_matching
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.writes import Write, writes_of, zero_channels


@entrance()
def l2_output_masks(
    graph: Graph,
    amount: float | str = 0.5,
    *,
    ignore: Iterable[str] = (),
    round_to: int = 1,
    min_channels: int = 1,
) -> dict[str, np.ndarray]:
    """Per-producer L2 masks: unconstrained output-side pruning (Wan et al., ICML 2023, section 4).

    Every convolution whose outputs are not pinned removes its own output channels with the smallest L2 norm. A mask
    multiplies the output of the last module of the convolution's chain (normalisation, activation), see
    `upscale_opt.tracing.writes`. Linear layers, grouped convolutions and modules that are called more than once are not
    masked.

    Parameters
    ----------
    graph
        The traced model.
    amount
        Share of channels to remove, in [0, 1); see `upscale_opt.arguments.amounts.num_removed`.
    ignore
        Names of weights or modules that are not masked, wildcards allowed (``layer4.*``).
    round_to, min_channels
        The numbers of kept channels are rounded up, see `upscale_opt.arguments.amounts.round_up`.

    Raises
    ------
    MaskError
        If the amount is outside [0, 1), a name to ignore matches nothing, or a number is below 1.
    """
    require_values(graph.module)
    ignored = consumers_matching(graph, ignore)
    weights = [weight for weight in maskable_producers(graph) if weight not in ignored]
    criterion = Criterion("l2", amount, round_to=round_to, min_channels=min_channels)
    return ranked_masks(graph, weights, OUTPUT, criterion)


def maskable_producers(graph: Graph) -> dict[str, Write]:
    """The convolutions whose output channels are masked by default: those without pinned output channels."""
    convolutions = {read.weight for read in graph.reads if read.is_convolution}
    return {
        weight: write
        for weight, write in writes_of(graph).items()
        if weight in convolutions and not any(graph.blocks[b].pinned for b in write.layout.blocks)
    }


def zero_row_messages(graph: Graph, output_masks: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """A message about output channels whose weights are all zero and that no output mask drops.

    ``ln_structured(dim=0)`` leaves such rows. The export keeps them: a bias or a normalisation may make them nonzero.
    Parameters
    ----------
    graph
        The traced model.
    output_masks
        Masks of output channels, by the name of the weight.

    Returns
    -------
    tuple
        One sentence, or nothing if there are no such channels. Weights that are completely zero are not counted.
    """
    found: dict[str, int] = {}
    for weight, read in graph.consumers.items():
        if read.is_recurrent:
            continue  # its rows are gates
        zero = slice_norms(graph, weight, OUTPUT, order=LARGEST) == 0
        if zero.any() and not zero.all():
            kept = output_masks.get(weight, np.ones(len(zero), dtype=bool))
            if len(kept) == len(zero) and (zero & kept).any():
                found[weight] = int((zero & kept).sum())
    if not found:
        return ()
    names = ", ".join(list(found)[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return (
        f"{sum(found.values())} output channels (of {names}) have weights that are all zero, as ln_structured(dim=0) "
        "leaves them; they stay, since a bias or a normalisation may make something of them; to drop them give masks "
        "of outputs (output_masks=masks_from_pruning(model), or --output-masks FILE; --mode output drops them first)",
    )


def zero_columns(graph: Graph, output_masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Input channels of consumers that output masks make zero in all calls and in all groups.

    Parameters
    ----------
    graph
        The traced model.
    output_masks
        Weight name to the Boolean mask of its output channels, True = kept.

    Returns
    -------
    dict
        Weight name to a Boolean array of the mask's length. Consumers without such channels are not listed.
    """
    zeros = zero_channels(graph, output_masks)
    found: dict[str, np.ndarray] = {}
    for read in (*graph.reads, *graph.grouped):
        width = sum(graph.blocks[b].size for b in read.input.blocks)
        own = zeros.get(read.source, np.zeros(width, dtype=bool)).repeat(read.input.size)
        columns = np.logical_and.reduce(own.reshape(read.groups, -1), axis=0)
        found[read.weight] = found.get(read.weight, np.ones(len(columns), dtype=bool)) & columns
    return {weight: columns for weight, columns in found.items() if columns.any()}


@entrance(masks=OUTPUTS)
def normalise_output_masks(graph: Graph, masks: Mapping[str, Any] | Iterable[tuple[str, int]]) -> dict[str, np.ndarray]:
    """Convert output masks to Boolean arrays by weight name.

    Parameters
    ----------
    graph
        The traced model.
    masks
        Weight or module names to Boolean arrays or tensors over output channels, True = kept, or to lists of *kept*
        indices. Or pairs of a parameter's name and a *pruned* output channel. Or `upscale_opt.PruningMasks`, of which
        only the output masks (rows) are used.

    Raises
    ------
    MaskError
        If a name is not a producer that can be masked; the message lists near matches. Also if a length or index is
        wrong, or if two names of one weight have different masks.
    """
    writes = writes_of(graph)

    def of_name(name: str) -> tuple[str, int]:
        if not isinstance(name, str):
            raise MaskError(f"an output mask is given for {described(name)}; give masks by the names of weights")
        plain = plain_name(name)
        found = [own for own in (name, f"{name}.weight", plain, f"{plain}.weight") if own in writes]
        if not found:
            near = difflib.get_close_matches(f"{name}.weight", writes, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise MaskError(f"the outputs of {name!r} cannot be masked: it must be one module, called once{hint}")
        return found[0], sum(graph.blocks[b].size for b in writes[found[0]].layout.blocks)

    if isinstance(masks, Mapping):
        result = named_masks(masks, of_name, "output mask")
    else:
        result = pruned_pairs(masks, of_name, "output")
    for weight, mask in result.items():
        if not mask.any():
            raise MaskError(f"the output mask of {weight} keeps nothing; keep at least one channel")
    return result
