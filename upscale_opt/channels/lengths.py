"""Lengths that a network computes and passes to operators: the channels that they count, and what exports adapt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import Value, channels_in
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Layout


def computed(flow: Flow, node: fx.Node) -> Value:
    """Rule of arithmetic on lengths and other non-tensors: remember which channels the result counts."""
    counted = [own for x in node.all_input_nodes if (own := flow.sizes.get(x.name)) is not None]
    if any(list(channels_in(flow.value(x))) for x in node.all_input_nodes):
        return flow.unknown(node)
    flat = [own for sizes in counted for own in (sizes if isinstance(sizes, tuple) else (sizes,))]
    flat = [own for own in flat if own is not None]
    flow.sizes[node.name] = np.concatenate(flat) if flat else None
    return None


def with_lengths(flow: Flow, node: fx.Node, result: Layout, given: Sequence[Any]) -> Value:
    """Register the lengths in the arguments of a node whose output is `result`; see `Flow.lengths` and `Flow.settled`.

    A rearrangement needs no lengths, because an export replaces it by a selection.
    """
    if any(own.node == node.name for own in flow.selections):
        return result
    entries = list(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list)) else list(given)
    if len(entries) == 1 and isinstance(entries[0], fx.Node) and len(flow.shape(node)) > 1:
        sizes = flow.sizes.get(entries[0].name)
        if not isinstance(sizes, tuple) or not _counts(sizes[result.axis], result):
            return flow.unknown(node)
        flow.settled.add((node.name, entries[0].name))
        return result
    if len(entries) != len(flow.shape(node)):
        return flow.unknown(node)
    entry = entries[result.axis]
    if isinstance(entry, fx.Node):
        flow.settled.add((node.name, entry.name))
        if entries.count(entry) > 1:
            return flow.unknown(node)
        if not _counts(flow.sizes.get(entry.name), result):
            flow.lengths[node.name] = result.axis
    elif entry != -1:
        flow.lengths[node.name] = result.axis
    return result


def _counts(sizes: Any, result: Layout) -> bool:
    return isinstance(sizes, np.ndarray) and np.array_equal(sizes, result.channels)


def counts_channels(flow: Flow, node: Any) -> bool:
    """Whether a length is computed from numbers of channels and constants only."""
    counted = flow.sizes.get(node.name) if isinstance(node, fx.Node) else None
    if not isinstance(counted, np.ndarray) or not len(counted):
        return False
    source = node.args[0] if node.args else None
    taken = isinstance(source, fx.Node) and (flow.is_tensor(source) or isinstance(flow.sizes.get(source.name), tuple))
    return taken or all(counts_channels(flow, own) for own in node.all_input_nodes)
