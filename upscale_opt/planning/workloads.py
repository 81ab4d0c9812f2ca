"""The work of consumers per call, from a traced model. Analytic and measuring cost models use it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.attributes import attribute_of
from upscale_opt.planning.cost_model import Workload
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.tracing.graphs import Graph, Read
from upscale_opt.tracing.prologues import Prologue

_MEASURED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def workload(graph: Graph, read: Read, num_outputs: int, layer: Layer | None = None) -> Workload:
    """The work per call of a consumer that stores `num_outputs` of its outputs, by the shapes of the trace."""
    weight = attribute_of(graph.module, read.weight)
    width = sum(graph.blocks[b].size for b in read.input.blocks)
    original = weight.shape[1 - read.input_axis]
    kernel = weight.numel() // original // width
    output_elements = math.prod(read.output_shape) // original * num_outputs
    return Workload(
        input_elements=math.prod(read.input_shape) // width,
        weight_elements=kernel * num_outputs,
        output_elements=output_elements,
        flops=2 * kernel * output_elements,
        element_bytes=weight.element_size(),
        layer=layer,
    )


def writing_workload(graph: Graph, read: Read, *, num_copied: int = 0) -> Workload:
    """The work per call of a producer that adds its rows to another tensor, per channel that it writes.

    Each channel is computed and read again. In the other tensor, it is read and written. The input of the producer is
    fixed. So is the copy of the other tensor, if the addition cannot be in place: `num_copied` is its number of stored
    channels.
    """
    weight = attribute_of(graph.module, read.weight)
    pixels = math.prod(read.output_shape) // weight.shape[1 - read.input_axis]
    per_row = weight.numel() // weight.shape[1 - read.input_axis]
    return Workload(
        input_elements=3 * pixels,
        weight_elements=per_row,
        output_elements=math.prod(read.input_shape) + 2 * num_copied * pixels,
        flops=2 * per_row * pixels,
        element_bytes=weight.element_size(),
    )


def layer_of(masked: MaskedGraph, read: Read, num_outputs: int, prologues: Mapping[str, Prologue]) -> Layer | None:
    """The shape of a call, with its prologue. None if it is not measured: functions and transposed convolutions."""
    graph = masked.graph
    nodes = {node.name: node for node in graph.module.graph.nodes}
    node = nodes[read.node]
    module: Any = graph.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if type(module) not in _MEASURED or getattr(module, "padding_mode", "zeros") != "zeros":
        return None
    convolution: dict[str, Any] = {}
    if not isinstance(module, nn.Linear):
        if not isinstance(module.padding, tuple) or read.input.axis != 1:  # specimens have a batch axis
            return None
        names = {"kernel": "kernel_size", "stride": "stride", "padding": "padding", "dilation": "dilation"}
        convolution = {name: tuple(getattr(module, own)) for name, own in names.items()}
    prologue = prologues.get(read.name, Prologue((), None))
    operands: tuple[int, ...] = ()
    if prologue.concat is not None:
        layouts = [graph.layouts[x.name] for x in nodes[prologue.concat].args[0]]
        operands = tuple(int(masked.stored[graph.numbers(own)].sum()) for own in layouts)
    return Layer(
        type(module).__name__,
        read.input_shape,
        read.input.axis,
        read.input.size,
        num_outputs,
        **convolution,
        bias=module.bias is not None,
        prologue=tuple(operator_name(graph, nodes[name]) for name in prologue.nodes),
        operands=operands,
    )


def operator_name(graph: Graph, node: Any) -> str:
    """Name of a prologue's operator in a layer: the class of a module, or the name of a function or method."""
    if node.op == "call_module":
        return type(graph.module.get_submodule(str(node.target))).__name__
    return str(node.target) if node.op == "call_method" else str(node.target.__name__)
