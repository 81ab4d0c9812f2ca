"""Carries out a plan on a traced model: inserts selections, rewrites slices, reorders and shrinks parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.capture.shared_memory import kind_of
from upscale_opt.channels.findings import ChannelPad, ChannelSlice
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.attributes import copy_with, named_tensors
from upscale_opt.planning.plans import Plan
from upscale_opt.rewriting.exports import Exported, ParameterSlice
from upscale_opt.rewriting.fx_editing import Editor
from upscale_opt.rewriting.read_rewriting import ReadRewriter
from upscale_opt.rewriting.resizing import resize
from upscale_opt.rewriting.stored_layouts import stored_positions
from upscale_opt.rewriting.write_rewriting import WriteRewriter
from upscale_opt.tracing.graphs import Graph, InOrder, Pick, Read, Selection, TensorLayout


def rewrite(graph: Graph, plan: Plan) -> Exported:
    """Export a traced model. The plan must fit; this is not checked (`upscale_opt.planning.plans.require_fitting`)."""
    return _Rewriter(graph, plan).run()


class _Rewriter:
    """Builds one export. The methods are the steps, in order."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.masked = MaskedGraph(graph, plan.masks, plan.output_masks, plan.padding)
        self.slices: dict[str, ParameterSlice] = {}
        # Until `_fill`, parameters are the graph's own, so no parameter is copied whole and then cut down.
        self.module = copy_with(graph.module, lambda _, tensor: tensor.detach())
        self.editor = Editor(self.module)
        self.nodes = self.editor.nodes
        self._original = {node.name: node for node in graph.module.graph.nodes}
        self.readings = ReadRewriter(graph, plan, self.masked, self.editor, self.slices)
        self.writes = WriteRewriter(graph, plan, self.masked, self.editor, self.slices)

    def run(self) -> Exported:
        """Run all steps."""
        for name, dimensions in self.graph.parameters.items():
            self.slices[name] = ParameterSlice({dim: self._entries(layout) for dim, layout in dimensions.items()})
        for pick in self.graph.picks:
            self._insert_pick(pick)
        for ordered in self.graph.in_order:
            self._restore_order(ordered)
        for read in self.graph.reads:
            self.readings.insert(read)
        for read in self.graph.grouped:
            self._slice_whole(read)
        for write in self.masked.writes.values():
            self.writes.insert(write)
        for channel_slice in self.graph.slices:
            self._rewrite_slice(channel_slice)
        for pad in self.graph.pads:
            self._rewrite_pad(pad)
        for roll in self.graph.rolls:
            entries = self._entries(self.graph.layouts[roll.source])
            self.nodes[roll.node].update_arg(1, int((entries >= roll.start).sum()))
        for name, lengths in self.graph.factors.items():
            self._rewrite_factors(name, lengths)
        for name, position in self.graph.lengths.items():
            self._rewrite_length(name, position)
        for selection in self.graph.selections:
            self._replace(selection)
        self._fill()
        self._resize()
        self.readings.fuse()
        forms = self.writes.settle()
        self.module.graph.lint()
        self.module.recompile()
        nowhere = [name for name in self.plan.readings if name not in self.readings.selectable]
        plan = replace(self.plan.with_readings(nowhere, late=False), fixed=self.graph.fixed)
        return Exported(self.module, plan, self.graph, self.slices, writes=forms)

    def _entries(self, layout: TensorLayout) -> np.ndarray:
        return stored_positions(self.graph, self.plan, layout)

    def _parameter_indices(self, name: str) -> Mapping[int, np.ndarray]:
        return {dim: self._entries(layout) for dim, layout in self.graph.parameters.get(name, {}).items()}

    def _insert_pick(self, pick: Pick) -> None:
        """Give a user the stored channels of a tensor that does not depend on the network's input."""
        user, source, index = self.nodes[pick.user], self.nodes[pick.node], self._entries(pick.layout)
        if np.array_equal(index, np.arange(self.graph.shapes[pick.node][pick.layout.axis])):
            return
        original = self._original[pick.node]
        written = self.readings.memory.is_overwritten_after(original, original)
        with self.module.graph.inserting_before(user):
            selected = self.editor.gather(source, f"{pick.node}_pick", index, pick.layout.axis, shared=not written)
        user.replace_input_with(source, selected)

    def _restore_order(self, ordered: InOrder) -> None:
        """Give a node its channels in the original order, and select the stored ones of its output."""
        node, axis = self.nodes[ordered.node], ordered.input.axis
        original, stored = np.argsort(self._entries(ordered.input)), self._entries(ordered.output)
        if not np.array_equal(original, np.arange(len(original))):
            source = node.args[0]
            with self.module.graph.inserting_before(node):
                given = self.editor.gather(source, f"{ordered.node}_in_order", original, axis)
            node.update_arg(0, given)
        if not np.array_equal(stored, np.arange(self.graph.shapes[ordered.node][axis])):
            with self.module.graph.inserting_after(node):
                chosen = self.editor.gather(node, f"{ordered.node}_stored", stored, axis)
            node.replace_all_uses_with(chosen, delete_user_cb=lambda user: user is not chosen)
            self.nodes[ordered.node] = chosen

    def _slice_whole(self, read: Read) -> None:
        """Slice a consumer that reads all stored channels: a recurrent layer, or a convolution with several groups.

        A convolution reads equally many channels of each group.
        """
        if read.groups == 1:
            indices = {**self._parameter_indices(read.weight), read.input_axis: self._entries(read.input)}
            self.slices[read.weight] = ParameterSlice(indices, self.readings.input_mask(read))
            return
        width = sum(self.graph.blocks[b].size for b in read.input.blocks) * read.input.size // read.groups
        columns = self._entries(read.input).reshape(read.groups, -1) % width
        rows = self._parameter_indices(read.weight)
        self.slices[read.weight] = ParameterSlice(rows, self.readings.input_mask(read), columns)

    def _rewrite_slice(self, channel_slice: ChannelSlice) -> None:
        """Move the bounds of a channel slice to the new positions of its blocks."""
        node, source = self.nodes[channel_slice.node], self.nodes[channel_slice.source]
        layout = self.graph.layouts[channel_slice.source]
        # Bounds are borders of blocks. So the new bound is the number of stored entries that were originally before it.
        entries = self._entries(layout)
        first, last = (int((entries < bound).sum()) for bound in (channel_slice.start, channel_slice.stop))
        if channel_slice.entry is not None:
            index = node.args[1]
            bounds = list(index) if isinstance(index, tuple) else [index]
            bounds[channel_slice.entry] = slice(first, last)
            node.update_arg(1, tuple(bounds))
            return
        with self.module.graph.inserting_before(node):
            piece = self.editor.narrow(source, channel_slice.axis, first, last - first)
        self.editor.substitute(node, piece, self.graph.layouts)

    def _rewrite_pad(self, pad: ChannelPad) -> None:
        """Pad a channel axis with as many entries as are stored."""
        node, entries = self.nodes[pad.node], self._entries(self.graph.layouts[pad.node])
        behind = self.graph.shapes[pad.node][pad.axis] - pad.behind
        amounts = list(node.args[1])
        place = 2 * (len(self.graph.shapes[pad.node]) - 1 - pad.axis)
        amounts[place : place + 2] = int((entries < pad.before).sum()), int((entries >= behind).sum())
        node.update_arg(1, tuple(amounts))

    def _rewrite_factors(self, name: str, factors: Mapping[int, int]) -> None:
        """Let lengths of a reshape that are computed from numbers of channels be the constants that they were."""
        node = self.nodes[name]
        given = list(node.args[1:])
        nested = len(given) == 1 and isinstance(given[0], (tuple, list))
        lengths: list[Any] = list(given[0]) if nested else given
        for position, length in factors.items():
            lengths[position] = length
        node.args = (node.args[0], tuple(lengths)) if nested else (node.args[0], *lengths)

    def _rewrite_length(self, name: str, position: int) -> None:
        """Rewrite the length that a reshape has for the channel axis."""
        node = self.nodes[name]
        if kind_of(node) in ("unflatten", torch.unflatten):
            dim = node.args[1] % len(self.graph.shapes[node.args[0].name])
            sizes = list(node.args[2])
            sizes[position - dim] = len(self._entries(self.graph.layouts[name]))
            node.update_arg(2, tuple(sizes))
            return
        given = list(node.args[1:])
        nested = len(given) == 1 and isinstance(given[0], (tuple, list))
        lengths: list[Any] = list(given[0]) if nested else given
        inferred = any(type(length) is int and length == -1 for length in lengths) or node.target == "expand"
        fixed = inferred or type(lengths[position]) is int
        lengths[position] = len(self._entries(self.graph.layouts[name])) if fixed else -1
        node.args = (node.args[0], tuple(lengths)) if nested else (node.args[0], *lengths)

    def _replace(self, selection: Selection) -> None:
        """Select the channels in the order that the consumers of the selection need."""
        node, source = self.nodes[selection.node], self.nodes[selection.source]
        stored = self._entries(selection.input)
        place = np.full(int(stored.max()) + 1, -1)
        place[stored] = np.arange(len(stored))
        index = place[selection.index[self._entries(selection.output)]]
        with self.module.graph.inserting_before(node):
            if np.array_equal(index, np.arange(len(stored))):
                own = self._original[selection.source], self._original[selection.node]
                written = self.readings.memory.is_overwritten_after(*own)
                # In a region, the node's tensor may have no gradient although its source has one.
                copied = written or self.graph.regions[selection.node]
                selected = self.module.graph.call_method("clone", (source,)) if copied else source
            else:
                selected = self.editor.gather(source, selection.node, index, selection.input.axis)
        self.editor.substitute(node, selected, self.graph.layouts)

    def _fill(self) -> None:
        """Replace parameters and buffers by their slices or copies. Tensors that two modules share stay shared."""
        names: dict[int, list[str]] = {}
        tensors = named_tensors(self.module)
        for name, tensor in tensors:
            names.setdefault(id(tensor), []).append(name)
        by_name = dict(tensors)
        for sharing in names.values():
            old = by_name[sharing[0]]
            piece = next((self.slices[name] for name in sharing if name in self.slices), None)
            new = old.detach().clone() if piece is None else piece.of(old)
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad)
            for name in sharing:
                path, _, attribute = name.rpartition(".")
                setattr(self.module.get_submodule(path), attribute, new)
                if piece is not None:
                    self.slices[name] = piece

    def _resize(self) -> None:
        """Update the sizes that modules store as attributes."""
        widths = {path: len(self._entries(layout)) for path, layout in self.graph.features.items()}
        changed = {**self.readings.widths, **self.writes.widths}
        resize(self.module, {**widths, **{path: width for path, width in changed.items() if path in widths}})
