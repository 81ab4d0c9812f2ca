"""Repair after channels were dropped: least squares per consumer and new BatchNorm statistics, in one pass.

The dense and the pruned network run side by side over all images, operator by operator. Every consumer is fitted to the
dense network's output from the inputs that it now gets, so it also makes up for what its predecessors lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.models.attributes import copied, copy_with
from upscale_opt.models.preservation import Preservation
from upscale_opt.models.running import device_of, in_modes
from upscale_opt.spdy.least_squares import unfolded
from upscale_opt.tracing.graphs import Graph, Read
from upscale_opt.tracing.writes import writes_of
from upscale_opt.widths.moments import RIDGES, Moments, best_ridge

MOST_ROWS = 2**18
"""Rows per layer, of all images and positions, that least squares uses; more are thinned out evenly."""


def repaired(
    graph: Graph,
    masks: Mapping[str, np.ndarray],
    batches: Sequence[tuple[torch.Tensor, ...]],
    *,
    output_masks: Mapping[str, np.ndarray] | None = None,
    ridge: float | None = None,
    progress: ShowProgress = None,
) -> dict[str, torch.Tensor]:
    """Weights and BatchNorm statistics that make up for dropped channels, as far as a linear fit can.

    Linear layers and two-dimensional convolutions of one group that are called once are fitted: for each,
    ``||Y - X V||^2 + eps ||V - W||^2`` is least, where Y is the dense network's output, X the pruned network's input
    and W the dense weight; its bias, if it has one, is fitted too. A fit that is no better than the dense weights is
    not used. BatchNorms behind the first dropped channel get new statistics. All else keeps its values.

    Parameters
    ----------
    graph
        The traced network. It is not changed, also if its forward changes buffers.
    masks
        Weight name to the mask of its input channels. Consumers that are not listed keep everything.
    batches
        Tuples of the network's inputs. All of them, and the tensors that are alive between two operators, must fit into
        memory.
    output_masks
        Weight name to the mask of a producer's output channels (`upscale_opt.tracing.writes.writes_of`). Rows that it
        drops are zero in the pruned network where they would be added to a stream.
    ridge
        eps relative to the mean of the diagonal of X'X. Default: of `upscale_opt.widths.moments.RIDGES`, for every
        layer the one whose fit to half of the images errs least on the other half.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Returns
    -------
    dict
        The state of the whole network, in its original shapes, under the names of its state_dict.

    Notes
    -----
    Layer-wise least squares on the pruned network's own inputs as in He, Zhang, Sun, "Channel Pruning for Accelerating
    Very Deep Neural Networks", ICCV 2017, section 3; statistics as in `reestimate_batch_norm`.
    """
    return _SideBySide(graph, masks, output_masks or {}, ridge).run(batches, progress=progress)


class _SideBySide:
    def __init__(
        self,
        graph: Graph,
        masks: Mapping[str, np.ndarray],
        output_masks: Mapping[str, np.ndarray],
        ridge: float | None,
    ) -> None:
        self.graph, self.ridge = graph, ridge
        self.dense: fx.GraphModule = graph.module
        self.pruned: fx.GraphModule = copy_with(graph.module, lambda _, tensor: tensor.detach().clone())
        self.kept: dict[str, np.ndarray] = {}
        for weight, read in graph.consumers.items():
            mask = np.asarray(masks.get(weight, np.ones(0, dtype=bool)))
            if mask.size and not mask.all():
                parameter = self.pruned.get_parameter(weight)
                shape = [-1 if dim == read.input_axis else 1 for dim in range(parameter.ndim)]
                with torch.no_grad():
                    parameter.mul_(torch.from_numpy(mask).to(parameter).reshape(shape))
                self.kept[weight] = mask
        self.reads = {read.node: read for read in graph.outer_reads}
        self.masked_calls = {read.node for read in (*graph.reads, *graph.grouped) if read.weight in self.kept}
        writes = writes_of(graph) if output_masks else {}
        self.written = {
            writes[weight].masked: np.asarray(mask)
            for weight, mask in output_masks.items()
            if not np.asarray(mask).all()
        }
        self.differs = False
        self.renewed = set(self.kept)

    def run(self, batches: Sequence[tuple[torch.Tensor, ...]], *, progress: ShowProgress) -> dict[str, torch.Tensor]:
        """Run all nodes on all batches."""
        device = device_of(self.dense)
        inputs = [tuple(x.to(device) for x in batch) for batch in batches]
        nodes = list(self.dense.graph.nodes)
        last_use = {x: node for node in nodes for x in node.all_input_nodes}
        sides = [_Side(self.dense, len(inputs)), _Side(self.pruned, len(inputs))]
        bar = ProgressBar("repair", nodes, unit="operator", progress=progress)
        unchanged = Preservation(self.dense)
        with unchanged, in_modes(self.dense, training=False), in_modes(self.pruned, training=False), torch.no_grad():
            for node in bar:
                targets = sides[0].advance(node, inputs)
                self.differs |= node.name in self.masked_calls
                if not self.differs:
                    pass  # both networks are still the same
                elif node.name in self.reads:
                    self._fit(self.reads[node.name], sides[1].values(node.all_input_nodes[0]), targets)
                elif node.op == "call_module":
                    self._renew(node, sides[1])
                sides[1].advance(node, inputs)
                if node.name in self.written:
                    self.differs = True
                    self._drop_rows(node, sides[1])
                for x in [x for x in (*node.all_input_nodes, node) if last_use.get(x, node) is node]:
                    for side in sides:
                        side.forget(x)
        new = self.pruned.state_dict()
        old = self.dense.state_dict()
        return {name: (new if name in self.renewed else old)[name].detach() for name in old}

    def _fit(self, read: Read, inputs: list[Any], targets: list[Any]) -> None:
        """Fit a consumer to what the dense one computes."""
        path, _, attribute = read.weight.rpartition(".")
        module: Any = self.pruned.get_submodule(path)
        called = self.graph.calls[path] == 1 and self.graph.is_private(path)
        linear = type(module) is nn.Linear
        if not (called and (linear or (type(module) is nn.Conv2d and module.padding_mode == "zeros"))):
            return
        if attribute != "weight" or read.groups > 1:
            return
        kept = self.kept.get(read.weight, np.ones(module.weight.shape[1], dtype=bool))
        columns = torch.from_numpy(np.flatnonzero(kept)).to(module.weight.device)
        dense = self.dense.get_parameter(read.weight).detach()
        halves = [Moments(module.bias is not None) for _ in range(2)]
        left = -(-sum(map(len, inputs)) // 2)  # images that the first half still lacks
        for x, y in zip(inputs, targets, strict=True):
            rows = unfolded(module, x.index_select(-1 if linear else 1, columns))
            wanted = y.reshape(-1, y.shape[-1]) if linear else y.flatten(2).transpose(1, 2).reshape(-1, y.shape[1])
            every = -(-len(rows) * len(inputs) // MOST_ROWS)
            while math.gcd(every, y.shape[-1]) > 1 and not linear:  # else, single columns of the image are used
                every += 1
            half = len(rows) // len(x) * min(left, len(x))  # all rows of an image are in one half
            left = max(0, left - len(x))
            for moments, own in zip(halves, (slice(None, half), slice(half, None)), strict=True):
                moments.add(rows[own][::every].double(), wanted[own][::every].double())
        old = dense[:, columns].flatten(1).double()
        both = all(moments.number for moments in halves)
        ridge = self.ridge if self.ridge is not None else best_ridge(halves, old) if both else RIDGES[-1]
        weight, bias = (halves[0] + halves[1]).solve(old, ridge)
        module.weight.zero_()
        module.weight[:, columns] = weight.reshape(dense[:, columns].shape).to(module.weight)
        if bias is not None:
            module.bias.copy_(bias)
        self.renewed |= {read.weight, f"{path}.bias"}

    def _drop_rows(self, node: fx.Node, side: _Side) -> None:
        """Make the channels zero that a masked producer does not write."""
        mask, layout, values = self.written[node.name], self.graph.layouts[node.name], side.values(node)
        shape = [1] * values[0].ndim
        shape[layout.axis] = -1
        factor = torch.from_numpy(mask.repeat(layout.size)).to(values[0]).reshape(shape)
        side.replace(node, [x * factor for x in values])

    def _renew(self, node: fx.Node, side: _Side) -> None:
        """New statistics of a BatchNorm, from the inputs that it now gets."""
        path = str(node.target)
        module: Any = self.pruned.get_submodule(path)
        if not isinstance(module, _BatchNorm) or module.running_mean is None:
            return
        if self.graph.calls[path] != 1 or not self.graph.is_private(path):
            return
        inputs = [x.double() for x in side.values(node.all_input_nodes[0])]
        axes = [dim for dim in range(inputs[0].ndim) if dim != 1]
        number = sum(x.numel() // x.shape[1] for x in inputs)
        mean = torch.stack([x.sum(axes) for x in inputs]).sum(0) / number
        shape = [1, -1, *[1] * (inputs[0].ndim - 2)]
        squares = torch.stack([(x - mean.reshape(shape)).square().sum(axes) for x in inputs]).sum(0)
        own: Any = module
        own.running_mean.copy_(mean)
        own.running_var.copy_(squares / max(1, number - 1))
        self.renewed |= {f"{path}.running_mean", f"{path}.running_var"}


class _Side:
    """One network that runs operator by operator on several batches."""

    def __init__(self, module: fx.GraphModule, number: int) -> None:
        self.runs = [fx.Interpreter(module, garbage_collect_values=False) for _ in range(number)]
        self.places = {node: i for i, node in enumerate(n for n in module.graph.nodes if n.op == "placeholder")}
        self.own = {node.name: node for node in module.graph.nodes}

    def advance(self, node: fx.Node, inputs: Sequence[tuple[torch.Tensor, ...]]) -> list[Any]:
        """Run a node on all batches; returns its values."""
        own = self.own[node.name]
        for run, given in zip(self.runs, inputs, strict=True):
            if own.op == "placeholder":
                place = self.places[own]
                # A copy, because the network may write into its inputs.
                run.env[own] = given[place].clone() if place < len(given) else (own.args[0] if own.args else None)
            elif own.op != "output":
                run.env[own] = run.run_node(own)
        return self.values(node) if own.op != "output" else []

    def values(self, node: fx.Node) -> list[Any]:
        """The values of a node on all batches."""
        return [run.env[self.own[node.name]] for run in self.runs]

    def replace(self, node: fx.Node, values: list[Any]) -> None:
        """Give a node other values on all batches."""
        for run, own in zip(self.runs, values, strict=True):
            run.env[self.own[node.name]] = own

    def forget(self, node: fx.Node) -> None:
        """Free the values of a node."""
        for run in self.runs:
            run.env.pop(self.own[node.name], None)


def repaired_copy(model: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of a network with a state of `repaired`. Entries that the network does not have are left out."""
    own = copied(model)
    known = own.state_dict()
    own.load_state_dict({name: tensor for name, tensor in state.items() if name in known}, strict=False)
    return own
