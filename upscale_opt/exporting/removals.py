"""Checks whether an export removes anything, and warns if it does not."""

from __future__ import annotations

import warnings

from upscale_opt.errors import UpscaleWarning
from upscale_opt.masking.output_masks import zero_row_messages
from upscale_opt.rewriting.exports import Exported
from upscale_opt.tracing.skipped import grouped


def nothing_removed(exported: Exported) -> str | None:
    """Why an export still has all the parameters of its model, in one sentence. None if it has fewer."""
    before = sum(parameter.numel() for parameter in exported.graph.module.parameters())
    after = sum(parameter.numel() for parameter in exported.module.parameters())
    if after < before:
        return None
    plan, graph = exported.plan, exported.graph
    if not graph.consumers:
        reason = "no convolution or linear layer was found whose channels can be followed"
    elif all(mask.all() for mask in (*plan.masks.values(), *plan.output_masks.values())):
        reason = "the masks keep every channel"
    else:
        reason = "every channel that a mask drops is pinned, or read by a layer that keeps it"
    besides = (*grouped(graph.skipped), *zero_row_messages(graph, plan.output_masks))
    said = "".join(f"; {line}" for line in besides)
    return f"the export removes nothing, it has all {before:,} parameters: {reason}{said}"


def warn_if_nothing_removed(exported: Exported) -> None:
    """Warn if an export removes nothing.

    Warns
    -----
    UpscaleWarning
        The message says why.
    """
    message = nothing_removed(exported)
    if message is not None:
        warnings.warn(message, UpscaleWarning, stacklevel=4)
