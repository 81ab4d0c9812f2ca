"""Which operators a block's stored width makes faster or slower: its producers, its readers, and work in between.

Widths are chosen block by block (`upscale_opt.latency.stored_widths`), so an operator counts where its own time depends
on one block's width: convolutions that compute it, BatchNorm, activations, additions and depthwise convolutions on it,
and consumers that read it and nothing else. Operators on a concat of several blocks are left out.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.latency.specimens import PROLOGUE_FUNCTIONS
from upscale_opt.latency.width_tables import KEEP, PRODUCE, READ, WORK, WidthWork
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.operators.table import ELEMENTWISE_MODULES
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.workloads import layer_of, operator_name
from upscale_opt.tracing.graphs import Graph, Read

ADD, DEPTHWISE = "add", "depthwise"
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def works_by_block(masked: MaskedGraph) -> dict[str, Counter[WidthWork]]:
    """Block name to the operators whose time depends on its stored width, with how often each occurs."""
    graph = masked.graph
    found: dict[str, Counter[WidthWork]] = {block.name: Counter() for block in graph.blocks}
    for b, work in (*_of_reads(masked), *_of_nodes(graph)):
        found[graph.blocks[b].name][work] += 1
    return found


def _of_reads(masked: MaskedGraph) -> Iterator[tuple[int, WidthWork]]:
    """What computes and what reads each block; the numbers of the blocks."""
    graph = masked.graph
    for read in graph.reads:
        layer = layer_of(masked, read, 1, {})
        if layer is None or layer.channel_size != 1:
            continue
        kept = int(masked.kept(read).sum())
        if len(read.input.blocks) == 1:
            outputs = _stored(masked, read)
            yield read.input.blocks[0], WidthWork(READ, replace(layer, outputs=outputs), kept)
        for b in dict.fromkeys(read.output.blocks):
            if read.output.size == 1 and read.output.blocks.count(b) == 1:
                own = int(masked.stored[graph.offsets[b] : graph.offsets[b + 1]].sum())
                yield b, WidthWork(PRODUCE, layer, kept, _stored(masked, read) - own)


def works_by_consumer(masked: MaskedGraph) -> dict[str, Counter[WidthWork]]:
    """Weight name to the calls of a consumer, as operators over the number of channels that it keeps.

    Left out are consumers that cannot be measured: functions, transposed convolutions, convolutions with several
    groups, consumers behind a flatten, and consumers without a mask, which keep everything.
    """
    found: dict[str, Counter[WidthWork]] = {}
    left_out = {read.weight for read in masked.graph.grouped}
    for read in masked.graph.reads:
        layer = layer_of(masked, read, _stored(masked, read), {})
        if layer is None or layer.channel_size != 1:
            left_out.add(read.weight)
        else:
            found.setdefault(read.weight, Counter())[WidthWork(KEEP, layer)] += 1
    return {weight: works for weight, works in found.items() if weight in masked.masks and weight not in left_out}


def _stored(masked: MaskedGraph, read: Read) -> int:
    """Channels that are stored of what a consumer computes."""
    return int(masked.stored[masked.graph.numbers(read.output)].sum())


def _of_nodes(graph: Graph) -> Iterator[tuple[int, WidthWork]]:
    """What works on each block channel by channel; the numbers of the blocks."""
    for node in graph.module.graph.nodes:
        layout, shape = graph.layouts.get(node.name), graph.shapes.get(node.name)
        if layout is None or len(layout.blocks) != 1 or layout.size != 1 or not isinstance(shape, tuple):
            continue
        layer = _layer_of_node(graph, node, layout.axis)
        if layer is not None:
            yield layout.blocks[0], WidthWork(WORK, layer)


def _layer_of_node(graph: Graph, node: fx.Node, axis: int) -> Layer | None:
    """The shape of an operator that works channel by channel; None for others."""
    sources = [x for x in node.all_input_nodes if x.name in graph.layouts]
    if not sources or graph.layouts[sources[0].name] != graph.layouts[node.name]:
        return None
    given = tuple(graph.shapes[sources[0].name])
    if node.op == "call_module":
        module: Any = graph.module.get_submodule(str(node.target))
        if type(module) is nn.Conv2d and module.groups == module.in_channels == module.out_channels and axis == 1:
            return _depthwise(module, given)
        if type(module) in (*_NORMALISATIONS, *ELEMENTWISE_MODULES):
            return Layer(type(module).__name__, given, axis, 1, 1)
        return None
    if node.op == "call_function" and node.target in _ADDITIONS and len(sources) == 2:
        return Layer(ADD, given, axis, 1, 1)
    name = operator_name(graph, node)
    return Layer(name, given, axis, 1, 1) if name in PROLOGUE_FUNCTIONS and len(node.all_input_nodes) == 1 else None


def _depthwise(module: nn.Conv2d, given: tuple[int, ...]) -> Layer | None:
    if module.padding_mode != "zeros" or not isinstance(module.padding, tuple):
        return None
    own: Mapping[str, Any] = {
        "kernel": tuple(module.kernel_size),
        "stride": tuple(module.stride),
        "padding": tuple(module.padding),
        "dilation": tuple(module.dilation),
    }
    return Layer(DEPTHWISE, given, 1, 1, 1, **own, bias=module.bias is not None)
