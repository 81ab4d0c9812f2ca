"""Producers whose single output channels can be pruned: where their masks apply, and which channels become zero.

A producer is followed by a chain of modules (normalisation, activation, depthwise convolution, ...). Its mask
multiplies the output of the last module, just before the tensor is added to another tensor, concatenated or read.
Before an addition, the producer needs to compute only the rows that it keeps. An export adds them to the right channels
of the other tensor. This is a *write access*. Like a read, it is cheapest if its channels are one contiguous range.
Channels that are zero after a mask need not be read. `zero_channels` finds them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.capture.shared_memory import Memory, kind_of, written_by
from upscale_opt.operators.table import CHANNELWISE_MODULES, CONCATS
from upscale_opt.tracing.graphs import Graph, Read, TensorLayout

_KEEP_ZERO_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.PReLU),
    *(nn.Tanh, nn.Tanhshrink, nn.Softsign, nn.Hardshrink, nn.Softshrink, nn.Identity, nn.Flatten),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_KEEP_ZERO_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(torch.relu, torch.tanh, torch.abs, torch.neg, torch.square, torch.flatten, operator.neg),
    *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.selu, functional.gelu),
    *(functional.silu, functional.mish, functional.hardswish, functional.tanh, functional.dropout),
    *(functional.max_pool1d, functional.max_pool2d, functional.avg_pool1d, functional.avg_pool2d),
    *(functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d),
)
_KEEP_ZERO_METHODS = ("relu", "relu_", "tanh", "abs", "neg", "contiguous", "clone", "detach", "mean", "sum", "flatten")
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
SUBTRACTIONS = (operator.sub, operator.isub, torch.sub, "sub", "sub_")
PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")


@dataclass(frozen=True)
class Write:
    """A producer whose single output channels may be pruned.

    Attributes
    ----------
    name
        Name of the access: ``write`` and the producer's name.
    weight
        Name of the producer's weight, the key of its output mask.
    layout
        Layout of the producer's output.
    chain
        Names of the nodes from the producer to the end of its chain.
    masked
        Name of the node whose output the mask multiplies: the last node of the chain that calls a module.
    module
        Path of that module.
    addition
        Name of the node that adds the end of the chain to another tensor. None if there is no such node.
    other
        Name of the node of the other tensor. None if there is no addition.
    keeps_zero
        Whether a row with zero parameters stays zero until the end of the chain.
    mixes
        Whether a module of the chain may compute a channel from others (GroupNorm, softmax). Then all rows must be
        computed, although only some are written.
    """

    name: str
    weight: str
    layout: TensorLayout
    chain: tuple[str, ...]
    masked: str
    module: str
    addition: str | None
    other: str | None
    keeps_zero: bool
    mixes: bool = False


def writes_of(graph: Graph) -> dict[str, Write]:
    """Return the producers that can be masked, by the names of their weights, in execution order.

    Such a producer is a module with one group that is called once. Each entry of its output is one channel, and no
    other module uses its parameters. Pinned producers can be masked, too: all their rows are computed, and some are
    zero.
    """
    nodes, memory = {node.name: node for node in graph.module.graph.nodes}, graph.memory
    reads: dict[str, list[Read]] = {read.weight: [] for read in graph.reads}
    for read in graph.reads:
        reads[read.weight].append(read)
    writes = {}
    for weight, own in reads.items():
        node = nodes[own[0].node]
        single = len(own) == 1 and node.op == "call_module" and graph.calls[str(node.target)] == 1
        if single and own[0].output.size == 1 and graph.is_private(str(node.target)):
            writes[weight] = _write(graph, own[0], nodes, memory)
    return writes


def _write(graph: Graph, read: Read, nodes: Mapping[str, fx.Node], memory: Memory) -> Write:
    chain = [nodes[read.node]]
    masked = 0
    while len(chain[-1].users) == 1:
        user = next(iter(chain[-1].users))
        layout = graph.layouts.get(user.name)
        tensors = [x for x in user.all_input_nodes if x.name in graph.layouts]
        same = layout == read.output and graph.regions[user.name] == graph.regions[read.node]
        if not same or len(tensors) != 1 or user.name in {own.node for own in graph.slices}:
            break
        if user.op == "call_module":
            if graph.calls[str(user.target)] > 1 or user.name in {own.node for own in (*graph.reads, *graph.grouped)}:
                break
            if not graph.is_private(str(user.target)):
                break
            masked = len(chain)
        elif not keeps_zero(graph, user) or (user.op == "call_function" and user.target in CONCATS):
            break
        chain.append(user)
    addition, other = None, None
    users = list(chain[-1].users)
    if len(users) == 1 and kind_of(users[0]) in ADDITIONS and not users[0].kwargs and len(users[0].args) == 2:
        operands = [x for x in users[0].args if x is not chain[-1]]
        if (
            len(operands) == 1
            and isinstance(operands[0], fx.Node)
            and _may_be_written(graph, users[0], chain[-1], memory)
        ):
            addition, other = users[0].name, operands[0].name
    end = chain[masked]
    names = tuple(node.name for node in chain)
    quiet = all(_follows(graph, node) or keeps_zero(graph, node) for node in chain[1:])
    mixes = not all(_is_channelwise(graph, node) for node in chain[1:])
    return Write(
        *(f"write {read.name}", read.weight, read.output, names, end.name, str(end.target)),
        *(addition, other, quiet, mixes),
    )


def _is_channelwise(graph: Graph, node: fx.Node) -> bool:
    """Whether a node of a chain computes every channel from the same channel only. Functions of a chain always do."""
    return node.op != "call_module" or type(graph.module.get_submodule(str(node.target))) in CHANNELWISE_MODULES


def _follows(graph: Graph, node: fx.Node) -> bool:
    """Whether a module computes each channel with separate parameters, so that zero parameters make it zero."""
    if node.op != "call_module":
        return False
    module = graph.module.get_submodule(str(node.target))
    depthwise = isinstance(module, nn.modules.conv._ConvNd) and f"{node.target}.weight" in graph.parameters
    return depthwise or isinstance(module, nn.modules.batchnorm._BatchNorm)


def _may_be_written(graph: Graph, addition: fx.Node, end: fx.Node, memory: Memory) -> bool:
    """Whether both operands have the same blocks and shapes, and no later node sees an in-place change of the other."""
    first, second = addition.args
    layouts = [graph.layouts.get(x.name) for x in (first, second) if isinstance(x, fx.Node)]
    shapes = {graph.shapes.get(x.name) for x in (first, second, addition) if isinstance(x, fx.Node)}
    if len(shapes) != 1 or any(own is None or own.blocks != layouts[0].blocks for own in layouts):  # type: ignore[union-attr]
        return False
    changed = written_by(graph.module, addition)
    return first is end or not any(memory.is_seen_after(x, addition) for x in changed)


def zero_channels(graph: Graph, output_masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Find the channels that are zero for every input, because of the masks of producers.

    Parameters
    ----------
    graph
        The traced model.
    output_masks
        Weight name to the Boolean mask of its output channels, True = kept.

    Returns
    -------
    dict
        Node name to a Boolean array over the channels of its layout, True = zero. Nodes without such channels are not
        listed.
    """
    writes = writes_of(graph)
    masks = {writes[weight].masked: mask for weight, mask in output_masks.items()}
    slices = {own.node: own for own in graph.slices}
    selections = {own.node: own for own in graph.selections}
    zeros: dict[str, np.ndarray] = {}

    memory, nodes = graph.memory, {node.name: node for node in graph.module.graph.nodes}

    def of(node: Any) -> np.ndarray:
        return zeros.get(node.name, np.zeros(_width(graph, node), dtype=bool))

    for node in graph.module.graph.nodes:
        layout = graph.layouts.get(node.name)
        overwritten = overwrites(graph, node)
        if layout is None and not overwritten:
            continue
        found: np.ndarray = np.zeros(_width(graph, node), dtype=bool)
        operands = [x for x in node.all_input_nodes if _width(graph, x) == len(found)]
        kind = kind_of(node)
        if node.name in slices:
            own = slices[node.name]
            source = graph.layouts[own.source]
            before = zeros.get(own.source)
            if before is not None:
                entries = before.repeat(source.size)[own.start : own.stop]
                found = np.logical_and.reduce(entries.reshape(-1, layout.size if layout is not None else 1), axis=1)
        elif node.name in selections:
            chosen = selections[node.name]
            before = zeros.get(chosen.source)
            found = found if before is None or chosen.input.size > 1 else before[chosen.index]
        elif kind in PRODUCTS and operands:
            found = np.logical_or.reduce([of(x) for x in operands])
        elif kind in (*ADDITIONS, *SUBTRACTIONS) and len(operands) == 2 == len(node.all_input_nodes):
            found = of(operands[0]) & of(operands[1])
        elif kind in CONCATS:
            parts = [graph.layouts.get(getattr(x, "name", "")) for x in node.args[0]]
            along = sum((own.blocks for own in parts if own is not None), ())
            if layout is not None and None not in parts and along == layout.blocks:
                found = np.concatenate([of(x) for x in node.args[0]])
            elif None not in parts and all(_width(graph, x) == len(found) for x in node.args[0]):
                found = np.logical_and.reduce([of(x) for x in node.args[0]])  # a concat along another axis
        elif len(operands) == 1 and keeps_zero(graph, node):
            found = of(operands[0])
        if node.name in masks and len(masks[node.name]) == len(found):
            found = found | ~masks[node.name]
        for changed in overwritten:
            # Tensors that share the changed memory may not be zero any more.
            for name in [other for other in zeros if memory.share(nodes[other], changed)]:
                del zeros[name]
        if found.any():
            zeros[node.name] = found
    return zeros


def overwrites(graph: Graph, node: fx.Node) -> list[fx.Node]:
    """Return the tensors that a node changes in place, and in which zeros may become other values."""
    quiet = node.args[0] if node.args and (keeps_zero(graph, node) or kind_of(node) in PRODUCTS) else None
    return [x for x in written_by(graph.module, node) if x is not quiet]


def keeps_zero(graph: Graph, node: fx.Node) -> bool:
    """Whether channels that are zero in a node's first argument are known to be zero in its output, too."""
    if node.op == "call_module":
        return type(graph.module.get_submodule(str(node.target))) in _KEEP_ZERO_MODULES
    kind = kind_of(node)
    named = getattr(kind, "__name__", "") == "stochastic_depth"
    return named or kind in _KEEP_ZERO_FUNCTIONS or kind in _KEEP_ZERO_METHODS


def _width(graph: Graph, node: Any) -> int:
    layout = graph.layouts.get(getattr(node, "name", ""))
    return 0 if layout is None else sum(graph.blocks[b].size for b in layout.blocks)
