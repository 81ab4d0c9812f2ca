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
        Names of the nodes outside it whose tensors it takes, also those whose shapes alone it uses.
    inputs, outputs
        Numbers of the blocks whose widths add up to what it takes and to what it makes. `outputs` is empty if its time
        depends on one width only; both are, if it depends on none. Tensors of fixed width do not count.
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
        All groups, in the order of their first operators. Every operator that computes tensors is in one of them.
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
    What takes one of several tensors (of a ``chunk``) joins the operator that makes them, and nothing else does.
    """
    return _Cutter(graph).run()


def is_shape(shape: Any) -> bool:
    """Whether a node computes one tensor."""
    return isinstance(shape, tuple) and all(isinstance(length, int) for length in shape)


def makes_several(graph: Graph, node: fx.Node) -> bool:
    """Whether a node computes several tensors, such as a chunk, an LSTM, or a part of what an LSTM returns."""
    if node.op not in _CALLS or is_shape(graph.shapes.get(node.name)):
        return False
    parts = [user for user in node.users if user.target in (operator.getitem, getattr)]
    return bool(graph.shapes.get(f"{node.name}:parts")) or any(
        is_shape(graph.shapes.get(part.name)) or makes_several(graph, part) for part in parts
    )


def tensor_inputs(graph: Graph, node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors a node takes, other than parameters, buffers and constants."""
    return [x for x in node.all_input_nodes if x.op != "get_attr" and is_shape(graph.shapes.get(x.name))]


def sources_of(graph: Graph, nodes: list[fx.Node]) -> tuple[str, ...]:
    """Names of the nodes outside a group whose tensors it takes, in order, also where it takes sizes only."""
    seen, found = set(nodes), {}
    waiting = list(reversed(nodes))
    while waiting:
        for x in waiting.pop().all_input_nodes:
            if x in seen or x.op == "get_attr":
                continue
            seen.add(x)
            if is_shape(graph.shapes.get(x.name)):
                found[x.name] = x
            else:
                waiting.append(x)
    return tuple(found)


class _Cutter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.heads = {read.node for read in (*graph.reads, *graph.grouped)}
        self.group_of: dict[str, int] = {}
        self.members: list[list[fx.Node]] = []
        self.fixed: dict[int, str] = {}
        self.pinned = {b for b, block in enumerate(graph.blocks) if block.pinned}
        self.several: dict[fx.Node, bool] = {}
        self._settled: set[int] = set()
        self.positions = {node: i for i, node in enumerate(graph.module.graph.nodes)}

    def run(self) -> Partition:
        """Cut."""
        self._fix()
        self._settled = self.pinned | set(self.fixed)
        for node in self.graph.module.graph.nodes:
            if node.op in _CALLS and (is_shape(self.graph.shapes.get(node.name)) or self._makes_several(node)):
                self._place(node)
        groups = []
        for own in filter(None, self.members):
            sides = self._sides(own)
            if sides is None:
                for b in self._blocks(own):
                    self.fixed.setdefault(b, f"{_name(own)} depends on more than two widths")
                sides = ((), ())
            sources = sources_of(self.graph, own)
            groups.append(OperatorGroup(_name(own), tuple(node.name for node in own), sources, *sides))
        unpinned = set(range(len(self.graph.blocks))) - self.pinned
        fixed = {b: self.fixed[b] for b in sorted(unpinned & self.fixed.keys())}
        return Partition(tuple(groups), fixed, frozenset(unpinned - fixed.keys()))

    def _makes_several(self, node: fx.Node) -> bool:
        if node not in self.several:
            self.several[node] = makes_several(self.graph, node)
        return self.several[node]

    def _place(self, node: fx.Node) -> None:
        makers = dict.fromkeys(self.group_of[x.name] for x in node.all_input_nodes if self._makes_several(x))
        if makers:
            place, *others = makers
            for other in others:
                self.group_of |= {own.name: place for own in self.members[other]}
                self.members[place] += self.members[other]
                self.members[other] = []
            self.members[place].append(node)
            self.group_of[node.name] = place
            return
        joined = self._joined(node)
        if joined is not None and self._sides([*self.members[joined], node]) is not None:
            self.members[joined].append(node)
            self.group_of[node.name] = joined
        else:
            self.group_of[node.name] = len(self.members)
            self.members.append([node])

    def _joined(self, node: fx.Node) -> int | None:
        """The group that a node joins; None if it begins one."""
        if node.name in self.heads or self._is_depthwise(node):
            return None
        given = [x for x in tensor_inputs(self.graph, node) if x.name in self.group_of]
        if not given or (len(tensor_inputs(self.graph, node)) > 1 and node.target not in ADDITIONS):
            return None
        last = max(given, key=self.positions.__getitem__)
        place = self.group_of[last.name]
        own = self.members[place]
        alone = len(last.users) == 1 and own[-1] is last and not any(map(self._makes_several, own))
        return place if alone else None

    def _is_depthwise(self, node: fx.Node) -> bool:
        if node.op != "call_module":
            return False
        module = self.graph.module.get_submodule(str(node.target))
        return isinstance(module, _ConvNd) and module.groups > 1

    def _layouts(self, nodes: list[fx.Node]) -> Iterator[tuple[int, ...]]:
        """The blocks of every tensor that a group takes or makes, in order. Operands of concats are left out."""
        for node in nodes:
            own = self.graph.layouts.get(node.name)
            for x in tensor_inputs(self.graph, node):
                given = self.graph.layouts.get(x.name)
                joined = own is not None and given is not None and Counter(given.blocks) < Counter(own.blocks)
                if given is not None and not (joined and node.name not in self.heads):
                    yield given.blocks
            if own is not None:
                yield own.blocks

    def _blocks(self, nodes: list[fx.Node]) -> set[int]:
        """All blocks of what a group takes and makes."""
        taken = (x for node in nodes for x in (*tensor_inputs(self.graph, node), node))
        return {b for x in taken if x.name in self.graph.layouts for b in self.graph.layouts[x.name].blocks}

    def _sides(self, nodes: list[fx.Node]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The blocks that add up to the widths of a group: at most two sides; None if more, or if they overlap.

        Tensors whose blocks all have fixed widths are no sides.
        """
        found = {
            tuple(sorted(blocks)): blocks for blocks in self._layouts(nodes) if not self._settled.issuperset(blocks)
        }
        first, second, *more = (*found.values(), (), ())
        return None if any(more) or set(first) & set(second) - self._settled else (first, second)

    def _fix(self) -> None:
        """Blocks whose widths other rules settle."""
        graph = self.graph
        for read in graph.grouped:
            for b in (*read.input.blocks, *read.output.blocks):
                kind = "a recurrent layer" if read.is_recurrent else f"a convolution with {read.groups} groups"
                self.fixed.setdefault(b, f"{read.name} is {kind}")
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
            if self._makes_several(node):
                for x in (*node.all_input_nodes, *node.users):
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
