"""Specimens of operator groups: a group cut out of its network, with only the first channels of its blocks.

The specimen's modules are those of the network, with sliced parameters. So it does what the exported network will do,
whatever the operators are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from upscale_opt.models.attributes import copied, copy_with, named_tensors
from upscale_opt.rewriting.exports import ParameterSlice
from upscale_opt.rewriting.resizing import resize
from upscale_opt.tracing.graphs import Graph, TensorLayout
from upscale_opt.widths.operator_groups import OperatorGroup

_COUNTS = ("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_parameters", "groups")
"""Attributes of modules that count channels."""


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """Widths of blocks that add up to a total, in proportion to the blocks' sizes.

    Examples
    --------
    >>> shares((64, 32, 32), 64), shares((8, 8), 9)
    ([32, 16, 16], [4, 5])
    """
    bounds = np.cumsum([0, *sizes], dtype=np.int64) * total // max(1, sum(sizes))
    return [int(width) for width in np.diff(bounds)]


class GroupSpecimens:
    """Makes specimens of the groups of one network.

    Parameters
    ----------
    graph
        The traced network. Its parameters are not changed and not shared.
    free
        Numbers of the blocks whose widths may be chosen. The others have all their channels.
    """

    def __init__(self, graph: Graph, free: frozenset[int]) -> None:
        self.graph = graph
        self.free = free
        self.nodes = {node.name: node for node in graph.module.graph.nodes}
        self.read_of = {read.weight: read for read in (*graph.grouped, *graph.reads)}

    def sizes(self, group: OperatorGroup) -> tuple[int, int]:
        """The full widths of both sides of a group; 0 for a side that is not there."""
        first, second = (sum(self.graph.blocks[b].size for b in side) for side in (group.inputs, group.outputs))
        return first, second

    def widths(self, group: OperatorGroup, totals: tuple[int, int]) -> dict[int, int]:
        """Block number to width, for the totals of both sides."""
        found: dict[int, int] = {}
        for side, total in zip((group.inputs, group.outputs), totals, strict=True):
            size = {b: self.graph.blocks[b].size for b in side}
            whole = sum(size[b] for b in side if b not in self.free)
            chosen = [b for b in side if b in self.free]
            found |= {b: size[b] for b in side}
            found |= dict(zip(chosen, shares([size[b] for b in chosen], total - whole), strict=True))
        return found

    def make(self, group: OperatorGroup, totals: tuple[int, int]) -> fx.GraphModule:
        """A module that computes a group at the given widths, in eval mode. Its inputs are `inputs_of`."""
        widths = self.widths(group, totals)
        root, graph = nn.Module(), fx.Graph()
        made: dict[str, fx.Node] = {name: graph.placeholder(name) for name in group.sources}
        features: dict[str, int] = {}

        def copy_of(node: fx.Node) -> fx.Node:
            if node.name not in made:
                if node.op == "call_module":
                    self._adopt(root, str(node.target), widths, features)
                elif node.op == "get_attr":
                    tensor = self._sliced(str(node.target), widths)
                    root.register_buffer(node.name, tensor)
                    made[node.name] = graph.get_attr(node.name)
                    return made[node.name]
                for x in node.all_input_nodes:
                    copy_of(x)
                made[node.name] = graph.node_copy(node, lambda x: made[x.name])
            return made[node.name]

        for name in group.nodes:
            copy_of(self.nodes[name])
        inside = set(group.nodes)
        results = [
            made[name]
            for name in group.nodes
            if any(user.name not in inside for user in self.nodes[name].users) or not self.nodes[name].users
        ]
        graph.output(results[0] if len(results) == 1 else tuple(results))
        resize(root, features)
        return fx.GraphModule(root, graph).eval()

    def inputs_of(
        self,
        group: OperatorGroup,
        totals: tuple[int, int],
        *,
        dtype: torch.dtype,
        device: torch.device,
        memory_format: torch.memory_format,
    ) -> tuple[torch.Tensor, ...]:
        """Random inputs of a specimen."""
        widths, made = self.widths(group, totals), []
        for name in group.sources:
            shape = list(self.graph.shapes[name])
            layout = self.graph.layouts.get(name)
            if layout is not None:
                shape[layout.axis] = len(self._entries(layout, widths))
            x = torch.randn(shape, device=device).to(dtype)
            made.append(x.contiguous(memory_format=memory_format) if x.ndim == 4 else x)
        return tuple(made)

    def signature(self, group: OperatorGroup) -> str:
        """What a group is, in one line: groups with the same signature take the same time at the same widths.

        The widths of both sides are not part of it.
        """
        symbols = self._symbols(group)
        numbers = {name: f"x{i}" for i, name in enumerate((*group.sources, *group.nodes))}

        def written(value: Any) -> str:
            if isinstance(value, fx.Node):
                return numbers.get(value.name) or f"({self._text(value, written, symbols)})"
            if isinstance(value, (tuple, list)):
                return f"[{', '.join(map(written, value))}]"
            if isinstance(value, Mapping):
                return f"{{{', '.join(f'{key}: {written(own)}' for key, own in value.items())}}}"
            return str(value)

        sources = [self._shape_text(name, group) for name in group.sources]
        texts = (self._text(self.nodes[name], written, symbols) for name in group.nodes)
        return "; ".join([f"takes {' and '.join(sources)}", *texts])

    def _symbols(self, group: OperatorGroup) -> dict[int, str]:
        """Full widths of both sides, with what stands for them in a signature."""
        sizes = zip(("in", "out"), self.sizes(group), (group.inputs, group.outputs), strict=True)
        return {size: symbol for symbol, size, side in sizes if self.free & set(side)}

    def _shape_text(self, name: str, group: OperatorGroup) -> str:
        shape, layout = list(map(str, self.graph.shapes[name])), self.graph.layouts.get(name)
        if layout is not None and self.free & group.blocks & set(layout.blocks):
            side, own = ("in", group.inputs) if set(layout.blocks) <= set(group.inputs) else ("out", group.outputs)
            shape[layout.axis] = ("" if set(layout.blocks) == set(own) else "part of ") + side
            shape[layout.axis] += f"*{layout.size}" if layout.size > 1 else ""
        return "x".join(shape)

    def _module_text(self, module: nn.Module, symbols: Mapping[int, str]) -> str:
        """The class and settings of a module, where channel counts that follow a side's width are its symbol."""
        own: Any = copy.copy(module)
        counts = {name: value for name in _COUNTS if type(value := getattr(module, name, None)) is int}
        for name, value in counts.items():
            setattr(own, name, symbols.get(value, value))
        groups = counts.get("groups", 1)
        if isinstance(module, _ConvNd):
            own.groups = "depthwise" if groups == module.in_channels and groups > 1 else groups
        return f"{type(module).__name__}({own.extra_repr()})"

    def _text(self, node: fx.Node, written: Any, symbols: Mapping[int, str]) -> str:
        arguments = ", ".join([*map(written, node.args), *(f"{k}={written(v)}" for k, v in node.kwargs.items())])
        if node.op == "call_module":
            called = self._module_text(self.graph.module.get_submodule(str(node.target)), symbols)
        elif node.op == "get_attr":
            tensor: Any = dict(named_tensors(self.graph.module)).get(str(node.target))
            return f"tensor {'' if tensor is None else [symbols.get(n, n) for n in tensor.shape]}"
        else:
            called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        return f"{called}({arguments})"

    def _adopt(self, root: nn.Module, path: str, widths: Mapping[int, int], features: dict[str, int]) -> None:
        """Put a sliced copy of a module into a specimen, at its own path."""
        module = self.graph.module.get_submodule(path)
        own = copy_with(module, lambda name, _: self._sliced(f"{path}.{name}", widths))
        parent, _, last = path.rpartition(".")
        here = root
        for part in parent.split(".") if parent else ():
            if not hasattr(here, part):
                here.add_module(part, nn.Module())
            here = here.get_submodule(part)
        here.add_module(last, own)
        for name, layout in self.graph.features.items():
            if name == path or name.startswith(f"{path}."):
                features[name] = len(self._entries(layout, widths))

    def _sliced(self, name: str, widths: Mapping[int, int]) -> torch.Tensor:
        """A parameter, buffer or constant with the first channels of its blocks only; a new tensor."""
        name = self.graph.aliases.get(name, name)
        path, _, attribute = name.rpartition(".")
        tensor = getattr(self.graph.module.get_submodule(path), attribute)
        layouts = dict(self.graph.parameters.get(name, {}))
        read = self.read_of.get(name)
        if read is not None and read.groups == 1:
            layouts[read.input_axis] = read.input
        indices = {dim: self._entries(layout, widths) for dim, layout in layouts.items()}
        return ParameterSlice(indices).of(tensor).clone()

    def _entries(self, layout: TensorLayout, widths: Mapping[int, int]) -> np.ndarray:
        """The entries of an axis that belong to the first channels of every block; int64, ascending."""
        starts = np.cumsum([0, *(self.graph.blocks[b].size for b in layout.blocks)])
        kept = [
            np.arange(start, start + widths.get(b, self.graph.blocks[b].size))
            for b, start in zip(layout.blocks, starts, strict=False)
        ]
        channels = np.concatenate(kept)
        entries: np.ndarray = (channels[:, None] * layout.size + np.arange(layout.size)).reshape(-1)
        return entries


def independent(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a specimen whose weights lie elsewhere in memory."""
    return copied(module)
