"""Operator groups: a network cut into pieces that are timed alone, each over the widths that it depends on.

A group is one layer with the work that serves it alone: BatchNorm, activation and the addition of a residual stream
behind a convolution. Runtimes fuse such work into the layer. All other operators are groups of their own. The time of a
group depends on at most two widths: the channels it takes, and the channels it makes. A width may be the sum of several
blocks' widths, behind a concat.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn.modules.conv import _ConvNd

from upscale_opt.tracing.graphs import Graph

ADDITIONS = (operator.add, operator.iadd, torch.add)
_CALLS = ("call_module", "call_function", "call_method")


@dataclass(frozen=True)
class OperatorGroup:
    """Operators that are timed together.

    Attributes
    ----------
    name
        The module path of its first module, or the name of its first node.
    nodes
        Names of its fx nodes, in execution order.
    sources
        Names of the nodes outside it whose tensors it takes.
    inputs, outputs
        Numbers of the blocks whose widths add up to what it takes and to what it makes. `outputs` is empty if its time
        depends on one width only; both are, if it depends on none.
    """

    name: str
    nodes: tuple[str, ...]
    sources: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def blocks(self) -> frozenset[int]:
        """The blocks on whose widths its time depends."""
        return frozenset((*self.inputs, *self.outputs))


@dataclass(frozen=True)
class Partition:
    """A network's groups, and what stands in the way of free widths.

    Attributes
    ----------
    groups
        All groups, in execution order.
    fixed
        Block number to the reason why its width is not free. Pinned blocks are not listed.
    free
        Numbers of the blocks whose widths may be chosen.
    """

    groups: tuple[OperatorGroup, ...]
    fixed: Mapping[int, str]
    free: frozenset[int]


def partition(graph: Graph) -> Partition:
    """Cut a network into operator groups.

    A consumer and a depthwise convolution begin a group. An operator with one tensor joins the group of that tensor, if
    nothing else uses it. An addition joins the group of the operand that was computed last, if nothing else uses it.
    """
    return _Cutter(graph).run()


def tensor_inputs(graph: Graph, node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors a node takes and that depend on the network's inputs."""
    return [x for x in node.all_input_nodes if x.op != "get_attr" and is_shape(graph.shapes.get(x.name))]


def is_shape(shape: Any) -> bool:
    """Whether a node computes one tensor."""
    return isinstance(shape, tuple) and all(isinstance(length, int) for length in shape)


class _Cutter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.heads = {read.node for read in (*graph.reads, *graph.grouped)}
        self.group_of: dict[str, int] = {}
        self.members: list[list[fx.Node]] = []
        self.fixed: dict[int, str] = {}

    def run(self) -> Partition:
        """Cut."""
        for node in self.graph.module.graph.nodes:
            if node.op in _CALLS and is_shape(self.graph.shapes.get(node.name)):
                self._place(node)
        self._fix()
        groups = []
        for own in self.members:
            sides = self._sides(own)
            if sides is None:
                for b in self._blocks(own):
                    self.fixed.setdefault(b, f"{_name(own)} depends on more than two widths")
                sides = ((), ())
            sources = dict.fromkeys(x.name for node in own for x in tensor_inputs(self.graph, node) if x not in own)
            groups.append(OperatorGroup(_name(own), tuple(node.name for node in own), tuple(sources), *sides))
        pinned = {b for b, block in enumerate(self.graph.blocks) if block.pinned}
        fixed = {b: reason for b, reason in sorted(self.fixed.items()) if b not in pinned}
        free = set(range(len(self.graph.blocks))) - pinned - fixed.keys()
        return Partition(tuple(groups), fixed, frozenset(free))

    def _place(self, node: fx.Node) -> None:
        place = self._joined(node)
        if place is not None and self._sides([*self.members[place], node]) is not None:
            self.members[place].append(node)
        else:
            place = len(self.members)
            self.members.append([node])
        self.group_of[node.name] = place

    def _joined(self, node: fx.Node) -> int | None:
        """The group that a node joins; None if it begins one."""
        if node.name in self.heads or self._is_depthwise(node):
            return None
        given = tensor_inputs(self.graph, node)
        free = [x for x in given if x.name in self.group_of and len(x.users) == 1]
        if not free or (len(given) > 1 and node.target not in ADDITIONS):
            return None
        last = max(self.group_of[x.name] for x in free)
        return last if self.members[last][-1] in free else None

    def _is_depthwise(self, node: fx.Node) -> bool:
        if node.op != "call_module":
            return False
        module = self.graph.module.get_submodule(str(node.target))
        return isinstance(module, _ConvNd) and module.groups > 1

    def _layouts(self, nodes: list[fx.Node]) -> Iterator[tuple[int, ...]]:
        """The blocks of every tensor that a group takes or makes, in order."""
        for node in nodes:
            for x in (*tensor_inputs(self.graph, node), node):
                if x.name in self.graph.layouts:
                    yield self.graph.layouts[x.name].blocks

    def _blocks(self, nodes: list[fx.Node]) -> set[int]:
        return {b for blocks in self._layouts(nodes) for b in blocks}

    def _sides(self, nodes: list[fx.Node]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The blocks that add up to the widths of a group: one or two sides; None if there are more.

        The operands of a concat are no sides: the concat is.
        """
        found: list[tuple[int, ...]] = []
        for blocks in self._layouts(nodes):
            if not any(Counter(blocks) <= Counter(other) for other in found):
                found = [other for other in found if not Counter(other) <= Counter(blocks)]
                found.append(blocks)
        if len(found) > 2 or (len(found) == 2 and set(found[0]) & set(found[1])):
            return None
        first, second = (*found, (), ())[:2]
        return first, second

    def _fix(self) -> None:
        """Blocks whose widths other rules settle."""
        graph = self.graph
        for read in graph.grouped:
            for b in (*read.input.blocks, *read.output.blocks):
                self.fixed.setdefault(b, f"{read.name} is a convolution with {read.groups} groups")
        for selection in graph.selections:
            for b in (*selection.input.blocks, *selection.output.blocks):
                self.fixed.setdefault(b, f"{selection.node} selects channels")
        for cut in graph.slices:
            for b in graph.layouts[cut.source].blocks:
                self.fixed.setdefault(b, f"{cut.node} is a slice of channels")
        for name in graph.lengths:
            for b in graph.layouts[name].blocks:
                self.fixed.setdefault(b, f"{name} names the number of channels")
        for pick in graph.picks:
            for b in pick.layout.blocks:
                self.fixed.setdefault(b, f"{pick.node} does not depend on the input")
        for node in graph.module.graph.nodes:
            if node.op in _CALLS and not is_shape(graph.shapes.get(node.name)) and graph.shapes.get(node.name):
                for x in node.all_input_nodes:
                    for b in graph.layouts[x.name].blocks if x.name in graph.layouts else ():
                        self.fixed.setdefault(b, f"{node.name} makes several tensors")
        read_blocks = {b for read in graph.reads for b in read.input.blocks}
        for b, block in enumerate(graph.blocks):
            if not block.removable:
                self.fixed.setdefault(b, "its channels cannot be removed")
            elif b not in read_blocks:
                self.fixed.setdefault(b, "no consumer reads it")


def _name(nodes: list[fx.Node]) -> str:
    """The path of the first module, or the name of the first node."""
    return next((str(node.target) for node in nodes if node.op == "call_module"), nodes[0].name)
