"""Specimens of operator groups: a group cut out of its network, with only the first channels of its blocks.

The specimen's modules are those of the network, with sliced parameters. So it does what the exported network will do,
whatever the operators are.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from upscale_opt.models.attributes import attribute_of, copy_with, named_tensors
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
    >>> shares((64, 32, 32), 64), shares((8, 8), 9), shares((2, 64), 8)
    ([32, 16, 16], [4, 5], [1, 7])
    """
    found = _in_proportion(sizes, total)
    if 0 in found and total >= len(sizes):  # no block vanishes
        found = [1 + width for width in _in_proportion([size - 1 for size in sizes], total - len(sizes))]
    return found


def _in_proportion(sizes: Sequence[int], total: int) -> list[int]:
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
        numbers = {name: f"x{i}" for i, name in enumerate((*group.sources, *group.nodes))}

        def written(value: Any) -> str:
            if isinstance(value, fx.Node):
                return numbers.get(value.name) or f"({self._text(value, written, group)})"
            if isinstance(value, (tuple, list)):
                return f"[{', '.join(map(written, value))}]"
            if isinstance(value, Mapping):
                return f"{{{', '.join(f'{key}: {written(own)}' for key, own in value.items())}}}"
            return str(value)

        layouts = self.graph.layouts
        takes = [
            self._shape_text(self.graph.shapes[name], {own.axis: own for own in (layouts.get(name),) if own}, group)
            for name in group.sources
        ]
        texts = (self._text(self.nodes[name], written, group) for name in group.nodes)
        return "; ".join([f"takes {' and '.join(takes) or 'nothing'}", *texts])

    def _shape_text(self, shape: Sequence[int], layouts: Mapping[int, TensorLayout], group: OperatorGroup) -> str:
        """A shape in which symbols stand for the widths of both sides."""
        texts = list(map(str, shape))
        for axis, layout in layouts.items():
            own = Counter(layout.blocks)
            if self.free & group.blocks & own.keys():
                name, side = ("in", group.inputs) if own <= Counter(group.inputs) else ("out", group.outputs)
                part = "" if own == Counter(side) else "part of "
                fixed = sum(self.graph.blocks[b].size for b in layout.blocks if b not in self.free)
                features = f"*{layout.size}" if layout.size > 1 else ""
                texts[axis] = f"{part}{name}{features}" + (f" ({fixed} fixed)" if fixed else "")
        return "x".join(texts)

    def _module_text(self, path: str, group: OperatorGroup) -> str:
        """The class, settings and tensors of a module. Channels are counted by the shapes of the tensors only."""
        module = self.graph.module.get_submodule(path)
        tensors = (
            f"{name} {self._shape_text(tensor.shape, self._layouts(f'{path}.{name}'), group)}"
            for name, tensor in named_tensors(module)
        )
        return f"{_settings(module)}<{', '.join(tensors)}>"

    def _text(self, node: fx.Node, written: Any, group: OperatorGroup) -> str:
        arguments = ", ".join([*map(written, node.args), *(f"{k}={written(v)}" for k, v in node.kwargs.items())])
        if node.op == "call_module":
            called = self._module_text(str(node.target), group)
        elif node.op == "get_attr":
            name = str(node.target)
            tensor: Any = dict(named_tensors(self.graph.module)).get(name)
            return "tensor " + ("" if tensor is None else self._shape_text(tensor.shape, self._layouts(name), group))
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

    def _layouts(self, name: str) -> dict[int, TensorLayout]:
        """The layouts of all dimensions of a parameter, buffer or constant that follow channels."""
        name = self.graph.aliases.get(name, name)
        layouts = dict(self.graph.parameters.get(name, {}))
        read = self.read_of.get(name)
        if read is not None and read.groups == 1:
            layouts[read.input_axis] = read.input
        return layouts

    def _sliced(self, name: str, widths: Mapping[int, int]) -> torch.Tensor:
        """A parameter, buffer or constant with the first channels of its blocks only; a new tensor."""
        tensor = attribute_of(self.graph.module, name)
        indices = {dim: self._entries(layout, widths) for dim, layout in self._layouts(name).items()}
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


def _settings(module: nn.Module) -> str:
    """The class of a module and what it was made with, without numbers of channels."""
    own: Any = copy.copy(module)
    counts = {name: value for name in _COUNTS if type(value := getattr(module, name, None)) is int}
    for name in counts:
        setattr(own, name, -1)
    if "groups" in counts and not 1 < counts["groups"] == counts["in_channels"]:
        own.groups = counts["groups"]
    kind = type(module).__qualname__
    if type(module).__module__.startswith("torch.nn") and not any(module.children()):
        return f"{kind}({own.extra_repr()})"
    plain = (int, float, str, bool, tuple, list, type(None))
    named = [f"{k}={v}" for k, v in vars(own).items() if k[0] != "_" and k != "training" and isinstance(v, plain)]
    return f"{kind}({', '.join([*named, *map(_settings, module.children())])})"
