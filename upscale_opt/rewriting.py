"""Carrying a plan out on a traced model: selections inserted, slices rewritten, parameters reordered and shrunk."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from problems.evaluation import COPY, PIECES
from upscale_opt.exports import Exported, ParameterSlice
from upscale_opt.extraction import kept_channels
from upscale_opt.flow import ChannelSlice
from upscale_opt.plans import Plan
from upscale_opt.selections import Gather
from upscale_opt.tracing import Graph, Read, TensorLayout


def rewrite(graph: Graph, plan: Plan) -> Exported:
    """The export of a traced model. Trusts the plan to fit (`upscale_opt.plans.require_fitting`)."""
    return _Rewriter(graph, plan).run()


def stored_positions(graph: Graph, plan: Plan, layout: TensorLayout) -> np.ndarray:
    """Which entries of a tensor's channel axis an export stores, in stored order; int64, in entries."""
    return _features(_stored_channels(graph, plan, layout), layout.size)


class _Rewriter:
    """Builds one export; the methods are the steps, in order."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.slices: dict[str, ParameterSlice] = {}
        self.module = copy.deepcopy(graph.module)
        self.nodes = {node.name: node for node in self.module.graph.nodes}

    def run(self) -> Exported:
        """All steps."""
        for read in self.graph.reads:
            self._insert_selection(read)
        for channel_slice in self.graph.slices.values():
            self._rewrite_slice(channel_slice)
        for path, layout in self.graph.followers.items():
            self._slice_follower(path, layout)
        self._fill()
        self.module.graph.lint()
        self.module.recompile()
        return Exported(self.module, self.plan, self.graph, self.slices)

    def _stored(self, layout: TensorLayout) -> np.ndarray:
        """Original channel at every stored position along a channel axis; int64."""
        return _stored_channels(self.graph, self.plan, layout)

    def _insert_selection(self, read: Read) -> None:
        """Hand the consumer its channels, and slice its weight to match."""
        layout = read.input
        original = self._stored(layout)
        kept = kept_channels(self.graph, read, self.plan.masks)[original]
        positions = np.flatnonzero(kept)
        mode = self.plan.reads[read.name]
        if mode not in (COPY, PIECES):
            positions = np.arange(positions[0], positions[-1] + 1)
        node = self.nodes[read.node]
        with self.module.graph.inserting_before(node):
            if mode == COPY:
                node.update_arg(0, self.module.graph.call_module(self._gather(read, positions), (node.args[0],)))
            elif len(positions) < len(kept):
                node.update_arg(0, self._joined(node.args[0], layout, positions))
        self._slice_consumer(read, original[positions])

    def _gather(self, read: Read, positions: np.ndarray) -> str:
        """Add a `Gather` beside the consumer; its module path."""
        path = f"{read.module}_gather" if read.name == read.module else f"{read.name.replace('#', '_')}_gather"
        index = torch.from_numpy(_features(positions, read.input.size))
        weight = self.module.get_parameter(read.weight)
        self.module.add_submodule(path, Gather(index.to(weight.device), read.input.axis))
        return path

    def _joined(self, source: Any, layout: TensorLayout, positions: np.ndarray) -> fx.Node:
        """The contiguous runs of ascending positions, one after the other; a single one is a view."""
        runs = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
        pieces = [
            self.module.graph.call_function(
                torch.narrow, (source, layout.axis, int(run[0]) * layout.size, len(run) * layout.size)
            )
            for run in runs
        ]
        return pieces[0] if len(pieces) == 1 else self.module.graph.call_function(torch.cat, (pieces, layout.axis))

    def _slice_consumer(self, read: Read, columns: np.ndarray) -> None:
        rows = self._stored(self.graph.produced[read.module])
        mask = self.plan.masks.get(read.weight)
        self.slices[read.weight] = ParameterSlice(rows, _features(columns, read.input.size), mask)
        module: Any = self.module.get_submodule(read.module)
        if module.bias is not None:
            self.slices[f"{read.module}.bias"] = ParameterSlice(rows)
        num_inputs = len(columns) * read.input.size
        if isinstance(module, nn.Linear):
            module.in_features, module.out_features = num_inputs, len(rows)
        else:
            module.in_channels, module.out_channels = num_inputs, len(rows)

    def _slice_follower(self, path: str, layout: TensorLayout) -> None:
        """BatchNorm and depthwise convolutions follow the channels they work on."""
        rows = _features(self._stored(layout), layout.size)
        module: Any = self.module.get_submodule(path)
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.ndim > 0:
                self.slices[f"{path}.{name}"] = ParameterSlice(rows)
        if hasattr(module, "num_features"):
            module.num_features = len(rows)
        else:
            module.in_channels = module.out_channels = module.groups = len(rows)

    def _rewrite_slice(self, channel_slice: ChannelSlice) -> None:
        """Move the bounds of a channel slice to where its blocks are stored now."""
        node = self.nodes[channel_slice.node]
        source = node.args[0]
        layout = self.graph.layouts[source.name]
        sizes = [self.graph.blocks[b].size for b in layout.blocks]
        stored = [len(self.plan.orders[self.graph.blocks[b].name]) for b in layout.blocks]
        before = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        after = np.concatenate([[0], np.cumsum(stored)]).tolist()
        bounds = (channel_slice.start, channel_slice.stop)
        first, last = (after[before.index(bound)] * layout.size for bound in bounds)
        if channel_slice.entry is not None:
            index = node.args[1]
            entries = list(index) if isinstance(index, tuple) else [index]
            entries[channel_slice.entry] = slice(first, last)
            node.update_arg(1, tuple(entries))
        else:
            node.args = (source, layout.axis, first, last - first)
            node.kwargs = {}

    def _fill(self) -> None:
        """Replace parameters and buffers by their slices; what two modules share stays shared."""
        replaced: dict[int, torch.Tensor] = {}
        for name, piece in self.slices.items():
            path, _, attribute = name.rpartition(".")
            module = self.module.get_submodule(path)
            old = getattr(module, attribute)
            if id(old) not in replaced:
                new = piece.of(old)
                if isinstance(old, nn.Parameter):
                    new = nn.Parameter(new, requires_grad=old.requires_grad)
                replaced[id(old)] = new
            setattr(module, attribute, replaced[id(old)])


def _stored_channels(graph: Graph, plan: Plan, layout: TensorLayout) -> np.ndarray:
    sizes = [graph.blocks[b].size for b in layout.blocks]
    offsets = np.cumsum(sizes) - sizes
    orders = [plan.orders[graph.blocks[b].name] for b in layout.blocks]
    return np.concatenate([order + offset for order, offset in zip(orders, offsets, strict=True)])


def _features(channels: np.ndarray, size: int) -> np.ndarray:
    """Entries of the axis that belong to some channels, `size` consecutive ones each."""
    return (channels[:, np.newaxis] * size + np.arange(size)).ravel()
