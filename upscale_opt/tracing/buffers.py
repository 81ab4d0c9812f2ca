"""Buffers of a traced network: which ones a call may change, and which ones are frozen statistics."""

from __future__ import annotations

import torch
from torch import fx
from torch.nn.modules.batchnorm import _BatchNorm

from upscale_opt.capture.shared_memory import written_by
from upscale_opt.models.attributes import named_tensors
from upscale_opt.tracing.graphs import Graph


def changing_buffers(graph: Graph) -> frozenset[str]:
    """Return the names of the buffers that a call of the network may change."""
    memory, changing = graph.memory, set[str]()
    places = {node.name: node for node in graph.module.graph.nodes}
    for node in graph.module.graph.nodes:
        module = graph.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and not type(module).__module__.startswith("torch.nn"):
            changing |= {f"{node.target}.{name}" for name, _ in module.named_buffers(remove_duplicate=False)}
        for written in written_by(graph.module, node):
            roots = [places[name] for name in memory.roots(written)]
            changing |= {str(root.target) for root in roots if root.op == "get_attr"}
    return frozenset(changing)


def frozen_statistics(graph: Graph) -> tuple[str, ...]:
    """Return the names of the floating-point buffers with which the network computes channel by channel.

    Buffers whose values are part of the code (`Graph.used`) and buffers of torch's BatchNorm are not included.
    """
    names = {*graph.parameters, *_read_by_picks(graph)} - set(graph.used) - graph.constants
    buffers = dict(graph.module.named_buffers(remove_duplicate=False))
    return tuple(
        name
        for name, _ in named_tensors(graph.module)
        if name in names and name in buffers and buffers[name].is_floating_point() and not _is_batch_norm(graph, name)
    )


def _read_by_picks(graph: Graph) -> set[str]:
    """Return the names of the parameters and buffers from which the tensors of `Graph.picks` are computed."""
    nodes = {node.name: node for node in graph.module.graph.nodes}
    waiting: list[fx.Node] = [nodes[pick.node] for pick in graph.picks]
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += node.all_input_nodes
    return {str(node.target) for node in seen if node.op == "get_attr"}


def _is_batch_norm(graph: Graph, name: str) -> bool:
    owner: torch.nn.Module = graph.module.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, _BatchNorm)
