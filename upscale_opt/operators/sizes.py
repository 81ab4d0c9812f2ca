"""Rules of lengths: ``x.shape`` and values computed from it.

A length that counts channels may be used where it stays correct in an export: as the length of the same axis. Any
other use pins the channels. `pin_counted` does this after the pass over the whole network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import Value, channels_in
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Folded, Layout, Scattered
from upscale_opt.operators.elementwise import same
from upscale_opt.operators.shapes import transposed

HARMLESS = (
    *("dtype", "device", "ndim", "requires_grad", "is_cuda", "layout", "is_floating_point", "is_complex"),
    *("is_nested", "is_sparse", "is_quantized", "is_meta", "is_leaf"),
)

_PARTS = {"values": 0, "indices": 1}
"""Names of results of operators that return several tensors: ``x.max(1).values``."""


def get_attribute(flow: Flow, node: fx.Node) -> Value:
    """``getattr``: ``x.shape``, and attributes that do not depend on the channels. All others are unknown."""
    name = node.args[1]
    if name in HARMLESS:
        return None
    if name == "shape":
        return shape_of(flow, node)
    if name == "data":
        return same(flow, node)
    if name in ("T", "mT"):
        return transposed(flow, node)
    several = flow.value(flow.source(node))
    if isinstance(name, str) and name in _PARTS and isinstance(several, tuple):
        part: Value = several[_PARTS[name]]
        return part
    return flow.unknown(node)


def shape_of(flow: Flow, node: fx.Node) -> Value:
    """``x.shape``, ``x.size()`` and ``x.size(dim)``: remember which length counts which channels."""
    source = flow.source(node)
    value = flow.value(source)
    if not flow.is_tensor(source):
        return flow.unknown(node)
    ndim = len(flow.shape(source))
    counted: list[Any] = [None] * ndim
    if isinstance(value, Layout):
        counted[value.axis] = value.channels
    elif isinstance(value, Folded):
        counted[0] = value.channels
    elif value is not None:
        counted = [np.concatenate(list(channels_in(value)))] * ndim
    dim = flow.argument(node, "dim") if node.op == "call_method" else None
    if dim is not None and type(dim) is not int:
        return flow.unknown(node)
    flow.sizes[node.name] = tuple(counted) if dim is None else counted[dim]
    return None


def number_of_entries(flow: Flow, node: fx.Node) -> Value:
    """``x.numel()`` counts all channels of the tensor."""
    source = flow.source(node)
    if not flow.is_tensor(source):
        return flow.unknown(node)
    counted = list(channels_in(flow.value(source)))
    flow.sizes[node.name] = np.concatenate(counted) if counted else None
    return None


def take_size(flow: Flow, node: fx.Node, source: fx.Node, index: Any) -> Value:
    """Take one length, or a slice of lengths, out of a tuple of lengths."""
    sizes = flow.sizes[source.name]
    if not isinstance(sizes, tuple) or not isinstance(index, (int, slice)):
        return flow.unknown(node)
    try:
        flow.sizes[node.name] = sizes[index]
    except (IndexError, TypeError):
        return flow.unknown(node)
    return None


def counted_by(sizes: Any) -> np.ndarray:
    """Return all channels that a length, or a tuple of lengths, counts."""
    parts = [own for own in (sizes if isinstance(sizes, tuple) else (sizes,)) if own is not None]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def pin_counted(flow: Flow) -> None:
    """Pin channels whose number is used in a way that would be wrong in an export."""
    rearranged = {selection.node for selection in flow.selections}
    dead: dict[str, bool] = {}

    def is_dead(node: fx.Node) -> bool:
        """Whether an export does not need the node, because selections replace all nodes that use it."""
        if node.name not in dead:
            follows = isinstance(flow.values.get(node.name), Scattered)
            dead[node.name] = follows and all(user.name in rearranged or is_dead(user) for user in node.users)
        return dead[node.name]

    def is_harmless(user: fx.Node, node: fx.Node) -> bool:
        if (user.name, node.name) in flow.settled or user.name in rearranged or is_dead(user):
            return True
        if user.name not in flow.sizes:
            return False
        return not len(counted_by(flow.sizes[user.name])) or all(is_harmless(other, user) for other in user.users)

    for node in flow.traced.graph.nodes:
        channels = counted_by(flow.sizes.get(node.name))
        if len(channels) and not all(is_harmless(user, node) for user in node.users):
            flow.table.pin(channels, "its number of channels is used in a computation", node.name)
