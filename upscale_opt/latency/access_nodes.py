"""The nodes of an export that belong to each access: its consumer, its selection, and the operators only it uses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import fx

from problems.objectives import COPY
from upscale_opt.channels.flow import Flow
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.operators import normalisations
from upscale_opt.operators.elementwise import elementwise, same
from upscale_opt.operators.table import rule_of
from upscale_opt.planning.reading import SELECTING
from upscale_opt.rewriting.exports import Exported
from upscale_opt.rewriting.read_rewriting import positions_read
from upscale_opt.rewriting.stored_layouts import stored_positions
from upscale_opt.tracing.prologues import prologues_of


@dataclass(frozen=True)
class AccessNodes:
    """The nodes of one access, by name.

    Attributes
    ----------
    name, mode
        Name of the access, and its read mode in the plan.
    kept, stored
        Number of channels that it keeps, and that its input stores.
    consumer
        The node of the convolution or linear layer.
    selection
        The nodes that select its channels, with the concat if only this access reads it. The plan says whether they
        come before or after the prologue. Empty if the access reads a whole stored tensor that is not such a concat.
    prologue
        The elementwise operators and normalisations before the consumer whose results only this access uses. Also the
        concat that they read, if nothing else reads it.
    """

    name: str
    mode: str
    kept: int
    stored: int
    consumer: str
    selection: tuple[str, ...]
    prologue: tuple[str, ...]


def nodes_of_accesses(exported: Exported) -> tuple[AccessNodes, ...]:
    """The nodes of all reads of an export, in execution order. Grouped convolutions are not accesses."""
    graph, plan = exported.graph, exported.plan
    masked = MaskedGraph(graph, plan.masks, plan.output_masks, plan.padding)
    pointwise = _pointwise(exported)
    nodes = {node.name: node for node in exported.module.graph.nodes}
    reads = {read.node: read for read in graph.reads if read.node in nodes}
    alone = prologues_of(graph)
    early = {name: own for name, own in alone.items() if not plan.readings[name].late}
    found = []
    for name in (name for name in nodes if name in reads):
        read, consumer = reads[name], nodes[name]
        channels = stored_positions(graph, plan, replace(read.input, size=1))
        kept = masked.kept(read)[channels]
        reading = plan.readings[read.name]
        reads_all = reading.mode != COPY and len(positions_read(plan, read.name, kept)) == len(kept)
        selects = not reads_all and reading.kernel not in SELECTING
        if read.name in early:
            prologue = [nodes[own] for own in early[read.name].nodes if own in nodes]  # some are part of a fused kernel
            selection = _selection([*prologue, consumer][0]) if selects or early[read.name].concat else []
        else:
            selection = _selection(consumer) if selects else []
            prologue = _prologue(consumer, selection, pointwise)
            concat = alone[read.name].concat if read.name in alone else None
            prologue += [nodes[concat]] if concat else []
        found.append(
            AccessNodes(
                read.name,
                reading.mode,
                int(np.count_nonzero(kept)),
                len(channels),
                name,
                tuple(node.name for node in selection),
                tuple(node.name for node in prologue),
            )
        )
    return tuple(found)


def _selection(first: fx.Node) -> list[fx.Node]:
    """The nodes that an export inserts before a node: a gather, a slice, or a concat with such parts."""
    root = _input(first)
    inside = [x for x in root.all_input_nodes if set(x.users) == {root}] if root.target is torch.cat else []
    return [root, *(x for x in inside if x.target == "narrow" or str(x.target).rpartition("_gather")[1])]


def _input(consumer: fx.Node) -> fx.Node:
    source = consumer.args[0]
    assert isinstance(source, fx.Node)
    return source


def _prologue(consumer: fx.Node, selection: list[fx.Node], pointwise: frozenset[str]) -> list[fx.Node]:
    """The pointwise nodes before a consumer that only this consumer uses."""
    inside, prologue = {consumer, *selection}, list[fx.Node]()
    waiting = [source for node in selection for source in node.all_input_nodes] or [_input(consumer)]
    while waiting:
        node = waiting.pop()
        if node in inside or node.name not in pointwise or not set(node.users) <= inside:
            continue
        inside.add(node)
        prologue.append(node)
        waiting += node.all_input_nodes
    return prologue


def _pointwise(exported: Exported) -> frozenset[str]:
    """Nodes of the original model that are elementwise operators or normalisations."""
    graph = exported.graph
    flow = Flow(graph.module, graph.shapes, graph.shapes)
    nodes = [node for node in graph.module.graph.nodes if node.op.startswith("call_") and flow.is_tensor(node)]
    rules = {node.name: rule_of(flow, node) for node in nodes}
    return frozenset(
        name
        for name, rule in rules.items()
        if rule in (elementwise, same) or (rule is not None and rule.__module__ == normalisations.__name__)
    )
