"""How an export lets masked producers write: it slices their rows, and adds them where they belong.

A producer that is added to a tensor adds its rows to a range of it (`upscale_opt.modules.writes`). At the end it is
decided whether this may happen in place. The first writer of a stream is added to nothing. If the plan has a reading
for it, its rows are computed alone and padded with zeros. Otherwise it is computed whole, with zero parameters.
"""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np
import torch
from torch import fx

from problems.objectives import COPY, PIECES
from upscale_opt.capture.shared_memory import Memory, kind_of
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.modules.selections import Factor
from upscale_opt.modules.writes import RangeAdd, ScatterAdd, padding_of
from upscale_opt.planning.plans import Plan
from upscale_opt.rewriting.exports import ParameterSlice
from upscale_opt.rewriting.fx_editing import Editor
from upscale_opt.rewriting.stored_layouts import stored_positions
from upscale_opt.rewriting.write_forms import IN_COPY, IN_PLACE, LEFT_OUT, PADDED, WHOLE, WriteForm
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.own_memory import computing_nodes, why_not_in_place
from upscale_opt.tracing.writes import Write

_NEGATIONS = ("neg", "negative", torch.neg, torch.negative, operator.neg)
"""Operators that turn the zero of a mask into -0."""


class WriteRewriter:
    """Inserts all writes of a plan.

    Parameters
    ----------
    graph, plan, masked
        The traced model, the plan to carry out, and the masks.
    editor
        The module under construction.
    slices
        Parameter name to slice. Completed in place.

    Attributes
    ----------
    widths
        Module path to number of channels, for normalisations that see fewer channels than are stored.
    """

    def __init__(
        self, graph: Graph, plan: Plan, masked: MaskedGraph, editor: Editor, slices: dict[str, ParameterSlice]
    ) -> None:
        self.graph, self.plan, self.masked, self.editor, self.slices = graph, plan, masked, editor, slices
        self.widths: dict[str, int] = {}
        self._original = {node.name: node for node in graph.module.graph.nodes}
        self._forms: dict[str, WriteForm] = {}
        self._added: dict[str, fx.Node] = {}

    def insert(self, write: Write) -> None:
        """Let a masked producer compute only the rows that it keeps, and add them to the channels they belong to."""
        original = self._stored(write)
        mask = self.plan.output_masks[write.weight]
        written = np.flatnonzero(mask[original])
        reading = self.plan.readings.get(write.name)
        start, stop = (int(written[0]), int(written[-1]) + 1) if len(written) else (0, 0)
        form = WriteForm(write.name, WHOLE, start, stop, len(original))
        self._forms[write.name] = form
        if len(written) == len(original):
            return
        if write.addition is None and reading is not None and len(written):
            write = self.masked.completed(write)
        if write.addition is not None and reading is None:
            self._forms[write.name] = replace(form, form=LEFT_OUT)
            self._drop_addition(write)
            return
        refusal = "" if write.addition is not None else self._why_not_padded(write, len(written) > 0)
        end = self.editor.nodes[write.chain[-1]]
        if reading is None or refusal:
            self._forms[write.name] = replace(form, reason=refusal)
            self._zero_rows(write, mask, end, original)
            return
        by_index = write.addition is not None and reading.mode in (COPY, PIECES)
        positions = written if by_index else np.arange(start, stop)
        if write.addition is None and len(positions) == len(original):
            self._zero_rows(write, mask, end, original)
            return
        if write.mixes:
            end = self._choose_rows(write, positions, len(original))
        else:
            self._slice_rows(write, original[positions])
        self._zero_rows(write, mask, end, original[positions])
        self._forms[write.name] = replace(form, is_range=not by_index)
        if write.addition is None:
            self._pad(write, start, len(original) - stop)
        else:
            self._add(write, positions, len(original), by_index=by_index)

    def settle(self) -> tuple[WriteForm, ...]:
        """Decide for every addition whether it may be in place, when everything else is rewritten. Returns all forms.

        The decision looks at the finished module, because fused kernels read their inputs later than the model did.
        """
        module = self.editor.module
        computing = computing_nodes(module, {read.node for read in (*self.graph.reads, *self.graph.grouped)})
        memory = Memory(module, computing)
        places = {node: i for i, node in enumerate(module.graph.nodes)}
        for name, node in sorted(self._added.items(), key=lambda item: places[item[1]]):
            other, end = (x for x in node.args if isinstance(x, fx.Node))
            reason = why_not_in_place(module, memory, computing, node, other, end)
            added = module.get_submodule(str(node.target))
            assert isinstance(added, (RangeAdd, ScatterAdd))
            added.inplace = not reason
            self._forms[name] = replace(self._forms[name], form=IN_COPY if reason else IN_PLACE, reason=reason)
            if reason:  # this sum has its own memory, so later sums may be written into it
                computing = computing | {node.name}
                memory = Memory(module, computing)
        return tuple(self._forms.values())

    def _why_not_padded(self, write: Write, writes: bool) -> str:
        """Why the first writer of a stream is computed whole although the plan does not ask for it; empty if it may."""
        if not writes:
            return "no channel that it writes is stored"
        if self.plan.readings.get(write.name) is None:
            return "the plan does not pad it"
        if write.mixes:
            return "its chain computes channels from each other"
        last = write.chain.index(write.masked)
        negated = any(kind_of(self._original[name]) in _NEGATIONS for name in write.chain[last + 1 :])
        return "its chain turns the zeros of the mask into -0" if negated else ""

    def _stored(self, write: Write) -> np.ndarray:
        return stored_positions(self.graph, self.plan, write.layout)

    def _pad(self, write: Write, before: int, behind: int) -> None:
        """Put zeros around the channels of a first writer."""
        end, graph = self.editor.nodes[write.chain[-1]], self.editor.module.graph
        sides = padding_of(len(self.graph.shapes[write.chain[-1]]), write.layout.axis, before, behind)
        with graph.inserting_after(end):
            padded = graph.call_function(torch.nn.functional.pad, (end, sides))
        end.replace_all_uses_with(padded, delete_user_cb=lambda user: user is not padded)
        self.editor.nodes[write.chain[-1]] = padded
        self._forms[write.name] = replace(
            self._forms[write.name], form=PADDED, reason="it is the first one to write, so there is nothing to add to"
        )

    def _add(self, write: Write, positions: np.ndarray, stored: int, *, by_index: bool) -> None:
        """Replace an addition by one to the given stored channels."""
        assert write.addition is not None and write.other is not None
        addition, graph, axis = self.editor.nodes[write.addition], self.editor.module.graph, write.layout.axis
        other = self.editor.nodes[write.other]
        end = next(x for x in addition.all_input_nodes if x is not other)
        first, length = int(positions[0]), len(positions)
        added: RangeAdd | ScatterAdd = RangeAdd(axis, first, length, stored - first - length)
        if by_index:
            added = ScatterAdd(self.editor.index(positions), axis)
        kind = "scatter" if by_index else "write"
        path = self.editor.add(f"{write.name.removeprefix('write ')}_{kind}", added)
        with graph.inserting_before(addition):
            total = graph.call_module(path, (other, end))
        self.editor.substitute(addition, total, self.graph.layouts)
        self._added[write.name] = total

    def _drop_addition(self, write: Write) -> None:
        """Replace the sum by the other operand, because no channel that the producer writes is stored."""
        assert write.addition is not None and write.other is not None
        nodes, graph = self.editor.nodes, self.editor.module.graph
        addition = nodes[write.addition]
        with graph.inserting_before(addition):
            same = graph.call_method("clone", (nodes[write.other],))
        self.editor.substitute(addition, same, self.graph.layouts)
        for name in reversed(write.chain):
            if not nodes[name].users:
                graph.erase_node(nodes[name])

    def _choose_rows(self, write: Write, positions: np.ndarray, stored: int) -> fx.Node:
        """Choose the written channels at the end of a chain that needs all rows. Returns the node that does it."""
        end, axis = self.editor.nodes[write.chain[-1]], write.layout.axis
        if len(positions) == stored:
            return end
        with self.editor.module.graph.inserting_after(end):
            if len(positions) == positions[-1] - positions[0] + 1:
                chosen = self.editor.narrow(end, axis, int(positions[0]), len(positions))
            else:
                path = f"{write.name.removeprefix('write ')}_rows"
                chosen = self.editor.gather(end, path, positions, axis)
        end.replace_all_uses_with(chosen, delete_user_cb=lambda user: user is not chosen)
        self.editor.nodes[end.name] = chosen
        return chosen

    def _slice_rows(self, write: Write, channels: np.ndarray) -> None:
        """Give the modules of a producer's chain the parameters of these channels only."""
        for name in self._rows_of_chain(write):
            piece = self.slices[name]
            self.slices[name] = replace(piece, indices={**piece.indices, self._row_axis(name, write): channels})
        for name in write.chain:
            path = str(self._original[name].target)
            if path in self.graph.features:
                self.widths[path] = len(channels) * self.graph.features[path].size

    def _rows_of_chain(self, write: Write) -> list[str]:
        """Parameters and buffers of the chain that have one row per output channel of the producer."""
        modules = {str(node.target) for name in write.chain if (node := self._original[name]).op == "call_module"}
        return [
            name
            for name, dimensions in self.graph.parameters.items()
            if name.rpartition(".")[0] in modules
            and any(own.blocks == write.layout.blocks for own in dimensions.values())
        ]

    def _row_axis(self, name: str, write: Write) -> int:
        dimensions = self.graph.parameters[name]
        return next(dim for dim, own in dimensions.items() if own.blocks == write.layout.blocks)

    def _zero_rows(self, write: Write, mask: np.ndarray, end: fx.Node, original: np.ndarray) -> None:
        """Set channels to zero that the producer computes but its mask drops. Uses its parameters, or else a factor."""
        if mask[original].all():
            return
        if write.keeps_zero:
            for name in self._rows_of_chain(write):
                piece = self.slices[name]
                masks = {**piece.masks, self._row_axis(name, write): mask}
                self.slices[name] = replace(piece, masks=masks)
            return
        shape = [-1 if d == write.layout.axis else 1 for d in range(len(self.graph.shapes[write.chain[-1]]))]
        kept = self.editor.index(mask[original]).reshape(shape)
        path = self.editor.add(f"{write.name.removeprefix('write ')}_mask", Factor(kept))
        graph = self.editor.module.graph
        with graph.inserting_after(end):
            product = graph.call_module(path, (end,))
        end.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)
        self.editor.nodes[write.chain[-1]] = product
