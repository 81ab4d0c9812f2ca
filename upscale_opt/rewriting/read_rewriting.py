"""How an export hands a consumer its channels: selections in front of it, and the weights to match.

Where nobody else uses what stands in front of the consumer (`upscale_opt.tracing.prologues`), the selection is made at
the far end of that: inside the concat, if there is one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx, nn

from problems.objectives import COPY, PIECES
from upscale_opt.errors import PlanError
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.modules.gather_convolution import GatherConv2d
from upscale_opt.modules.matrix_convolution import MatrixConv2d, is_pointwise
from upscale_opt.modules.selections import Gather
from upscale_opt.planning.plans import Plan
from upscale_opt.planning.reading import ALIGNMENT, GATHERING, MATMUL
from upscale_opt.rewriting.exports import ParameterSlice
from upscale_opt.rewriting.fx_editing import Editor, runs_of
from upscale_opt.rewriting.stored_layouts import entries, stored_channels
from upscale_opt.tracing.graphs import Graph, Read, TensorLayout
from upscale_opt.tracing.prologues import Prologue, prologues_of


def positions_read(plan: Plan, access: str, kept: np.ndarray) -> np.ndarray:
    """Which stored channels an access reads: those it keeps, or a range around them, as wide as the plan says.

    Parameters
    ----------
    plan
        What is carried out.
    access
        Its name.
    kept
        bool per stored channel, in their order; at least one is True.

    Returns
    -------
    ndarray
        int64 positions, ascending.
    """
    positions = np.flatnonzero(kept)
    reading = plan.readings[access]
    if reading.mode in (COPY, PIECES):
        return positions
    first, behind = int(positions[0]), int(positions[-1]) + 1
    width = min(max(behind - first, reading.width or 0), len(kept))
    latest = min(first, len(kept) - width)
    aligned = latest - latest % ALIGNMENT
    start = aligned if width > behind - first and aligned + width >= behind else latest
    return np.arange(start, start + width)


class ReadRewriter:
    """Inserts the selections of all reads of a plan.

    Parameters
    ----------
    graph, plan, masked
        What is carried out.
    editor
        The module under construction.
    slices
        Parameter name to slice; completed in place.

    Attributes
    ----------
    selectable
        Read name to what its channels can be selected in front of, besides the consumer itself.
    prologues
        Read name to what its channels are selected in front of, for the reads that the plan says so.
    widths
        Module path to number of channels, for normalisations that read fewer than their tensor stores.
    """

    def __init__(
        self, graph: Graph, plan: Plan, masked: MaskedGraph, editor: Editor, slices: dict[str, ParameterSlice]
    ) -> None:
        self.graph, self.plan, self.masked, self.editor, self.slices = graph, plan, masked, editor, slices
        self.selectable = prologues_of(graph)
        self.prologues = {name: own for name, own in self.selectable.items() if not plan.readings[name].late}
        self.widths: dict[str, int] = {}
        self.memory = graph.memory
        self._original = {node.name: node for node in graph.module.graph.nodes}

    def insert(self, read: Read) -> None:
        """Hand a consumer its channels, and slice its weight to match."""
        original = stored_channels(self.graph, self.plan, read.input)
        kept = self.masked.kept(read)[original]
        positions = positions_read(self.plan, read.name, kept)
        if len(positions) < len(kept) or self.plan.readings[read.name].mode == COPY:
            self._select(read, positions)
            self._slice_prologue(read, original[positions])
        if self.plan.readings[read.name].kernel == MATMUL:
            self._multiply(read)
        self._slice_weight(read, entries(original[positions], read.input.size))

    def _slice_weight(self, read: Read, columns: np.ndarray) -> None:
        """The input channels of a weight; its other dimension is sliced as any parameter's."""
        own: dict[int, np.ndarray] = {
            dim: entries(stored_channels(self.graph, self.plan, layout), layout.size)
            for dim, layout in self.graph.parameters.get(read.weight, {}).items()
        }
        self.slices[read.weight] = ParameterSlice({**own, read.input_axis: columns}, self.input_mask(read))

    def input_mask(self, read: Read) -> dict[int, np.ndarray]:
        """What is zero in a consumer's weight, by dimension."""
        return {read.input_axis: self.plan.masks[read.weight]} if read.weight in self.plan.masks else {}

    def _select(self, read: Read, positions: np.ndarray) -> None:
        """Put the selection in front of the consumer, or of its prologue."""
        node, prologue = self.editor.nodes[read.node], self.prologues.get(read.name, Prologue((), None))
        first = self.editor.nodes[prologue.nodes[0]] if prologue.nodes else node
        source: Any = first.args[0]
        before: Any = self._original[prologue.nodes[0]].args[0] if prologue.nodes else self._original[read.source]
        if prologue.concat is None:
            with self.editor.module.graph.inserting_before(first):
                first.update_arg(0, self._selected(read, source, before, read.input, positions))
            return
        with self.editor.module.graph.inserting_before(source):
            pieces = self._pieces_of_operands(read, prologue.concat, positions)
            first.update_arg(0, self.editor.concat(pieces, read.input.axis))
        self.editor.module.graph.erase_node(source)

    def _selected(
        self, read: Read, source: Any, original: fx.Node, layout: TensorLayout, positions: np.ndarray
    ) -> fx.Node:
        """Some channels of a tensor: gathered, or the runs of them one after the other.

        `source` is what computes the tensor now, `original` the node that did.
        """
        if self.plan.readings[read.name].mode == COPY:
            path = f"{read.name.replace('#', '_')}_gather"
            index = entries(positions, layout.size)
            written = self.memory.is_overwritten_after(original, original)
            # Without gradients where the tensor is made, there are none where it is read.
            inside = self.graph.regions[original.name] == self.graph.regions[read.node]
            return self.editor.gather(source, path, index, layout.axis, shared=inside and not written)
        return self.editor.concat(self._runs(source, layout, positions), layout.axis)

    def _runs(self, source: Any, layout: TensorLayout, positions: np.ndarray) -> list[fx.Node]:
        """The runs of some channels of a tensor, as slices."""
        return [
            self.editor.narrow(source, layout.axis, int(run[0]) * layout.size, len(run) * layout.size)
            for run in runs_of(positions)
        ]

    def _pieces_of_operands(self, read: Read, concat: str, positions: np.ndarray) -> list[fx.Node]:
        """What a concat's operands contribute to the chosen channels, whole operands as they are."""
        original = self._original[concat]
        pieces: list[fx.Node] = []
        start = 0
        for operand, now in zip(original.args[0], self.editor.nodes[concat].args[0], strict=True):
            layout = self.graph.layouts[operand.name]
            width = len(stored_channels(self.graph, self.plan, layout))
            own = positions[(positions >= start) & (positions < start + width)] - start
            start += width
            if len(own) == width:
                pieces.append(now)
            elif self.plan.readings[read.name].mode == COPY and len(runs_of(own)) > 1:
                pieces.append(self._selected(read, now, operand, layout, own))
            else:
                pieces += self._runs(now, layout, own)
            if len(own) == len(positions) and len(pieces) == 1 and self.memory.is_overwritten_after(operand, original):
                # What is left of the concat is a view, and a concat is a copy.
                pieces = [self.editor.module.graph.call_method("clone", (pieces[0],))]
        return pieces

    def _slice_prologue(self, read: Read, channels: np.ndarray) -> None:
        """Normalisations in front of the consumer see the chosen channels only."""
        for name in self.prologues.get(read.name, Prologue((), None)).nodes:
            node = self.editor.nodes[name]
            if node.op != "call_module":
                continue
            path = str(node.target)
            if path in self.graph.features:
                self.widths[path] = len(channels) * self.graph.features[path].size
            for parameter, dimensions in self.graph.parameters.items():
                if parameter.rpartition(".")[0] == path:
                    chosen = {dim: entries(channels, layout.size) for dim, layout in dimensions.items()}
                    self.slices[parameter] = replace(self.slices[parameter], indices=chosen)

    def fuse(self) -> None:
        """Let the consumers that the plan says so gather by themselves; their weights are sliced by now."""
        for read in self.graph.reads:
            if self.plan.readings[read.name].kernel != GATHERING:
                continue
            node, module = self.editor.nodes[read.node], self.editor.module
            gather: Any = node.args[0]
            own = module.get_submodule(str(node.target)) if node.op == "call_module" else None
            gathers = module.get_submodule(str(gather.target)) if gather.op == "call_module" else None
            once = self.graph.calls[str(node.target)] == 1
            if not isinstance(gathers, Gather) or not isinstance(own, nn.Conv2d) or not once:
                raise PlanError(
                    f"the plan lets {read.name!r} gather by itself, but it is no convolution module that is called "
                    "once, with read mode 'copy'"
                )
            module.add_submodule(str(node.target), GatherConv2d.from_convolution(own, gathers.index))
            node.update_arg(0, gather.args[0])
            if not gather.users:
                module.graph.erase_node(gather)
                module.delete_submodule(str(gather.target))

    def _multiply(self, read: Read) -> None:
        """Compute a convolution as a matrix product."""
        node, module = self.editor.nodes[read.node], self.editor.module
        if node.op != "call_module" or not is_pointwise(module.get_submodule(str(node.target))):
            raise PlanError(f"the plan computes {read.name!r} as a matrix product, but it is no 1x1 convolution module")
        own: Any = module.get_submodule(str(node.target))
        if type(own) is not MatrixConv2d:
            module.add_submodule(str(node.target), MatrixConv2d.of(own))
