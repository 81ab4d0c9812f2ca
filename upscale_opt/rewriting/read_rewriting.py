"""How an export gives a consumer its channels: it inserts a selection before the consumer, and slices the weight.

If only this consumer uses the operators before it (`upscale_opt.tracing.prologues`), the selection is inserted before
these operators. If they start with a concat, the selection is inserted inside the concat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from problems.objectives import COPY, PIECES
from upscale_opt.errors import PlanError
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.modules.gather_convolution import GatherConv2d
from upscale_opt.modules.matrix_convolution import MatrixConv2d, is_pointwise
from upscale_opt.modules.selections import Gather
from upscale_opt.planning.plans import Plan
from upscale_opt.planning.reading import FUSED, MATMUL, SELECTING, range_start
from upscale_opt.rewriting.exports import ParameterSlice
from upscale_opt.rewriting.fx_editing import Editor, runs_of
from upscale_opt.rewriting.stored_layouts import entries, stored_channels
from upscale_opt.tracing.graphs import Graph, Read, TensorLayout
from upscale_opt.tracing.prologues import Prologue, prologues_of


def positions_read(plan: Plan, access: str, kept: np.ndarray) -> np.ndarray:
    """The stored channels that an access reads: those it keeps, or a range around them, with the width of the plan.

    Parameters
    ----------
    plan
        The plan to carry out.
    access
        Name of the access.
    kept
        bool per stored channel, in stored order. At least one is True.

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
    start = range_start(first, behind - first, width, len(kept))
    return np.arange(start, start + width)


class ReadRewriter:
    """Inserts the selections of all reads of a plan.

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
    selectable
        Read name to the prologue before which its channels can be selected (instead of directly before the consumer).
    prologues
        Read name to the prologue before which its channels are selected, for the reads where the plan chooses this.
    widths
        Module path to number of channels, for normalisations that read fewer channels than their tensor stores.
    """

    def __init__(
        self, graph: Graph, plan: Plan, masked: MaskedGraph, editor: Editor, slices: dict[str, ParameterSlice]
    ) -> None:
        self.graph, self.plan, self.masked, self.editor, self.slices = graph, plan, masked, editor, slices
        self.selectable = prologues_of(graph)
        self.prologues = {
            name: replace(own, concat=None) if plan.readings[name].kernel == FUSED else own
            for name, own in self.selectable.items()
            if not plan.readings[name].late
        }
        self.widths: dict[str, int] = {}
        self.memory = graph.memory
        self._original = {node.name: node for node in graph.module.graph.nodes}

    def insert(self, read: Read) -> None:
        """Give a consumer its channels, and slice its weight accordingly."""
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
        """Slice the input channels of a weight. Its other dimension is sliced like that of any parameter."""
        own: dict[int, np.ndarray] = {
            dim: entries(stored_channels(self.graph, self.plan, layout), layout.size)
            for dim, layout in self.graph.parameters.get(read.weight, {}).items()
        }
        self.slices[read.weight] = ParameterSlice({**own, read.input_axis: columns}, self.input_mask(read))

    def input_mask(self, read: Read) -> dict[int, np.ndarray]:
        """Dimension to mask of a consumer's weight. Dropped channels are zero."""
        return {read.input_axis: self.plan.masks[read.weight]} if read.weight in self.plan.masks else {}

    def _select(self, read: Read, positions: np.ndarray) -> None:
        """Insert the selection before the consumer, or before its prologue."""
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
        """Select channels of a tensor: by a gather, or as a concat of contiguous runs.

        `source` is the node that computes the tensor now, and `original` is the node that originally computed it.
        """
        if self.plan.readings[read.name].mode == COPY:
            path = f"{read.name.replace('#', '_')}_gather"
            index = entries(positions, layout.size)
            written = self.memory.is_overwritten_after(original, original)
            # A copy made in a region without gradients has none, and a read in another region may need them.
            inside = self.graph.regions[original.name] == self.graph.regions[read.node]
            return self.editor.gather(source, path, index, layout.axis, shared=inside and not written)
        return self.editor.concat(self._runs(source, layout, positions), layout.axis)

    def _runs(self, source: Any, layout: TensorLayout, positions: np.ndarray) -> list[fx.Node]:
        """The contiguous runs of the chosen channels of a tensor, as slices."""
        return [
            self.editor.narrow(source, layout.axis, int(run[0]) * layout.size, len(run) * layout.size)
            for run in runs_of(positions)
        ]

    def _pieces_of_operands(self, read: Read, concat: str, positions: np.ndarray) -> list[fx.Node]:
        """The chosen channels of each operand of a concat. Operands with all channels chosen are unchanged."""
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
                # The rest of the concat is a view, but a concat makes a copy. So clone it.
                pieces = [self.editor.module.graph.call_method("clone", (pieces[0],))]
        return pieces

    def _slice_prologue(self, read: Read, channels: np.ndarray) -> None:
        """Slice the normalisations in the prologue, because they now see only the chosen channels."""
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
        """Put the kernels that select channels themselves in place of selections and convolutions.

        The weights are already sliced.
        """
        for read in self.graph.reads:
            kernel = self.plan.readings[read.name].kernel
            if kernel in SELECTING:
                self._fuse(read, with_prologue=kernel == FUSED)

    def _fuse(self, read: Read, *, with_prologue: bool) -> None:
        node, module = self.editor.nodes[read.node], self.editor.module
        chain = [self.editor.nodes[name] for name in self._alone(read)] if with_prologue else []
        gather: Any = (chain[0] if chain else node).args[0]
        own, gathers = self._called(node), self._called(gather)
        once = self.graph.calls[str(node.target)] == 1
        if not isinstance(gathers, Gather) or not isinstance(own, nn.Conv2d) or not once:
            raise PlanError(
                f"the plan lets {read.name!r} gather by itself, but it is no convolution module that is called "
                "once, with read mode 'copy'"
            )
        fused = GatherConv2d.from_convolution(own, gathers.index)
        if with_prologue:
            self._let_prologue_in(fused, read, chain)
        module.add_submodule(str(node.target), fused)
        node.update_arg(0, gather.args[0])
        for erased in reversed(chain):
            module.graph.erase_node(erased)
        if not gather.users:
            module.graph.erase_node(gather)
            module.delete_submodule(str(gather.target))

    def _let_prologue_in(self, fused: GatherConv2d, read: Read, chain: Sequence[fx.Node]) -> None:
        """Let a kernel also do the work of a BatchNorm and a ReLU in front of it."""
        modules: list[Any] = [True if _is_relu(node) else self._called(node) for node in chain]
        last = type(modules[-1]) if modules else None
        if len(modules) > 2 or last not in (nn.BatchNorm2d, nn.ReLU, bool) or type(modules[0]) is not nn.BatchNorm2d:
            raise PlanError(
                f"the plan fuses {read.name!r} with what serves it alone, but that is no BatchNorm2d module, with or "
                "without a ReLU"
            )
        fused.with_prologue(*modules)

    def _alone(self, read: Read) -> tuple[str, ...]:
        """Names of the nodes in front of a consumer that serve it alone, if channels are selected in front of them."""
        return self.prologues[read.name].nodes if read.name in self.prologues else ()

    def _called(self, node: Any) -> nn.Module | None:
        """The module that a node calls."""
        return self.editor.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _multiply(self, read: Read) -> None:
        """Compute a convolution as a matrix product."""
        node, module = self.editor.nodes[read.node], self.editor.module
        if node.op != "call_module" or not is_pointwise(module.get_submodule(str(node.target))):
            raise PlanError(f"the plan computes {read.name!r} as a matrix product, but it is no 1x1 convolution module")
        own: Any = module.get_submodule(str(node.target))
        if type(own) is not MatrixConv2d:
            module.add_submodule(str(node.target), MatrixConv2d.of(own))


def _is_relu(node: fx.Node) -> bool:
    """Whether a node is a ReLU that is no module."""
    return node.target == "relu" if node.op == "call_method" else node.target in (torch.relu, nn.functional.relu)
