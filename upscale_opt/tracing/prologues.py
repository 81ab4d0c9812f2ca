"""Prologues: nodes in front of a consumer that only this consumer uses.

A prologue has elementwise operators, normalisations, and perhaps the concat that they read. It need not compute
channels that the consumer does not keep. An export selects the kept channels at the start of the prologue, inside the
concat if there is one (read mode `slices`). In DenseNet, for example, each convolution has its own normalisation of a
concat of up to 32 tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from upscale_opt.capture.shared_memory import written_by
from upscale_opt.operators.table import CONCATS, ELEMENTWISE_MODULES
from upscale_opt.tracing.graphs import Graph, Read

_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_FUNCTIONS = (torch.relu, torch.sigmoid, torch.tanh, nn.functional.relu, nn.functional.gelu, nn.functional.silu)


@dataclass(frozen=True)
class Prologue:
    """The nodes that only one call of one consumer uses.

    Attributes
    ----------
    nodes
        Names of the nodes in execution order, without the consumer. Each has the layout that the consumer reads. Empty
        is possible if there is a concat.
    concat
        Name of the concat that the first of these nodes (or the consumer) reads. None if they read a tensor that
        other nodes use, too.
    """

    nodes: tuple[str, ...]
    concat: str | None


def prologues_of(graph: Graph) -> dict[str, Prologue]:
    """Return the prologues by the names of their reads. A read without a prologue is not listed.

    The search goes from the consumer backwards. It stops at a tensor with other users, and at the border of a region
    without gradients or with autocast. If it stops at a tensor that is neither a concat nor used by other nodes, there
    is no prologue. The nodes before that tensor can be pruned themselves, so a selection would save nothing.
    """
    nodes = {node.name: node for node in graph.module.graph.nodes}
    found = {}
    for read in graph.reads:
        prologue = _prologue(graph, read, nodes)
        if prologue is not None:
            found[read.name] = prologue
    return found


def _prologue(graph: Graph, read: Read, nodes: Mapping[str, fx.Node]) -> Prologue | None:
    chain: list[fx.Node] = []
    source = nodes[read.source]
    while len(source.users) == 1 and _may_pass(graph, read, source):
        chain.insert(0, source)
        source = next(x for x in source.all_input_nodes if x.name in graph.layouts)
    is_concat = len(source.users) == 1 and _is_concat(graph, read, source)
    while chain and not _is_fresh(graph, chain[0]):
        # An in-place node must not get a view of a tensor that other nodes use.
        chain.pop(0)
        is_concat = False
    if is_concat:
        return Prologue(tuple(node.name for node in chain), source.name)
    shared = chain and len(next(x for x in chain[0].all_input_nodes if x.name in graph.layouts).users) > 1
    return Prologue(tuple(node.name for node in chain), None) if shared else None


def _may_pass(graph: Graph, read: Read, node: fx.Node) -> bool:
    """Whether a node computes every channel independently, with the same axis and blocks as the consumer's input."""
    if graph.regions[node.name] != graph.regions[read.node]:
        return False
    tensors = [x for x in node.all_input_nodes if x.name in graph.layouts]
    if graph.layouts.get(node.name) != read.input or len(tensors) != 1 or len(node.all_input_nodes) != 1:
        return False
    if graph.layouts[tensors[0].name] != read.input or not node.args or node.args[0] is not tensors[0]:
        return False
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        known = type(module) in (*_NORMALISATIONS, *ELEMENTWISE_MODULES)
        return known and graph.calls[str(node.target)] == 1 and graph.is_private(str(node.target))
    if node.op == "call_method":
        return node.target in ("relu", "sigmoid", "tanh")
    return node.op == "call_function" and node.target in _FUNCTIONS


def _is_concat(graph: Graph, read: Read, node: fx.Node) -> bool:
    """Whether a node is a concat of tensors with known channels along their channel axes."""
    if node.op != "call_function" or node.target not in CONCATS or graph.layouts.get(node.name) != read.input:
        return False
    if not node.args or not isinstance(node.args[0], (tuple, list)) or read.input.size != 1:
        return False
    if graph.regions[node.name] != graph.regions[read.node]:
        return False
    operands = [graph.layouts.get(getattr(x, "name", "")) for x in node.args[0]]
    if any(own is None or own.axis != read.input.axis or own.size != 1 for own in operands):
        return False
    return sum((own.blocks for own in operands if own is not None), ()) == read.input.blocks


def _is_fresh(graph: Graph, node: fx.Node) -> bool:
    """Whether a node computes a new tensor. It must not change its input in place, or return its input."""
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        if isinstance(module, (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)):
            return False
    return not written_by(graph.module, node)
