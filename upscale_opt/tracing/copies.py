"""Copies that an export may lack: ``x.transpose(1, 2).contiguous()`` copies, unless one of the two axes has length one.

So with fewer channels a result may share the memory of its source. If one of them is changed in place later, the other
one changes, too. The channels of such copies are pinned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.known_values import KnownValues
from upscale_opt.capture.shared_memory import Memory, kind_of, written_by
from upscale_opt.channels.findings import channels_in
from upscale_opt.channels.flow import Flow
from upscale_opt.tracing.meta_shapes import run_on

_NAMES = ("contiguous", "reshape", "reshape_as", "flatten", "ravel", "to")
"""Operators that copy only if the memory of their input does not fit."""


def pin_copies(flow: Flow, inputs: tuple[Any, ...], known: KnownValues) -> None:
    """Pin the channels of copies that an export may lack, where the trace needs both tensors and one is overwritten."""
    memory = Memory(flow.traced)
    doubtful = [
        node for node in flow.traced.graph.nodes if _copies_at_need(flow, node) and _matters(flow, memory, node)
    ]
    if not doubtful:
        return
    run, _ = run_on(flow.traced, inputs, known)
    for node in doubtful:
        source = node.all_input_nodes[0]
        own, before = run.values.get(node), run.values.get(source)
        if isinstance(own, torch.Tensor) and isinstance(before, torch.Tensor) and _shares(own, before):
            continue  # no copy for the example inputs
        for channels in channels_in(flow.value(source)):
            flow.table.pin(channels, "a copy that fewer channels may not need, of a tensor that is changed", node.name)


def _copies_at_need(flow: Flow, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(flow.module(node), nn.Flatten)
    kind = kind_of(node)
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return name in _NAMES and bool(node.all_input_nodes)


def _matters(flow: Flow, memory: Memory, copy: fx.Node) -> bool:
    """Whether it matters that the result of `copy` has memory of its own."""
    if not memory.is_overwritten_after(copy, copy):
        return False
    after = {copy}
    before = []
    for node in flow.traced.graph.nodes:
        if node is copy or not memory.share(node, copy):
            continue
        if any(x in after for x in node.all_input_nodes):
            after.add(node)
        else:
            before.append(node)
    needed = any(user is not copy and user not in before for node in before for user in node.users)
    written = any(x in before for node in _following(copy) for x in written_by(flow.traced, node))
    return needed or written or any(not _forgets(flow, x) for x in before if x.name in memory.roots(copy))


def _shares(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.untyped_storage()._cdata == second.untyped_storage()._cdata


def _following(node: fx.Node) -> list[fx.Node]:
    nodes = list(node.graph.nodes)
    return nodes[nodes.index(node) + 1 :]


def _forgets(flow: Flow, node: fx.Node) -> bool:
    """Whether the backward pass of a node is known not to need its result."""
    computing = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)
    return node.op == "call_module" and isinstance(flow.module(node), computing)
