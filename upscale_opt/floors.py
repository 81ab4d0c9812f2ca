"""The floor: the pruned network with every selection deleted, what no order can beat. Wrong numbers, right shapes."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from problems import Problem
from upscale_opt.exporter import export
from upscale_opt.graphs import Graph
from upscale_opt.operators.table import CONCATS
from upscale_opt.plans import baseline_plan
from upscale_opt.prologues import prologues_of
from upscale_opt.selections import Gather
from upscale_opt.tracing import as_tuple


class Ready(nn.Module):
    """Hands on a tensor that was there before: what a selection would be if it cost nothing.

    Parameters
    ----------
    selected
        The tensor, whatever the input.
    """

    selected: torch.Tensor

    def __init__(self, selected: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("selected", selected, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The tensor."""
        return self.selected


class Leading(nn.Module):
    """The first channels of a tensor, in place: what a selection inside a concat is if an order makes it a view.

    Parameters
    ----------
    width
        How many entries of the axis.
    axis
        The channel axis.
    """

    def __init__(self, width: int, axis: int) -> None:
        super().__init__()
        self.width, self.axis = width, axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A view."""
        return torch.narrow(x, self.axis, 0, self.width)


def floor_of(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    graph: Graph,
    masks: Mapping[str, np.ndarray],
    problems: Mapping[str, Problem],
    *,
    outputs: Mapping[str, np.ndarray] | None = None,
    kernels: Mapping[str, str] | None = None,
) -> nn.Module:
    """A network of the export's shapes whose consumers find just the channels they keep, contiguous.

    Where a consumer reads a concat of its own, the concat remains, of as many channels of every operand, in one range:
    tensors of their own would lie in slow memory, while the operands have just been computed.

    Parameters
    ----------
    model, example_inputs
        As for `upscale_opt.export`; the floor only works for inputs of these shapes.
    graph, masks, problems, outputs
        The trace, the masks, and the problems made of them.
    kernels
        What computes consumers in place of their own operators, as in `Plan.kernels`: the fastest, or an export that
        uses them may be faster than the floor. Default: nothing.
    """
    inputs = as_tuple(example_inputs)
    naive = baseline_plan(problems, masks, outputs=outputs)
    chosen = replace(naive, slices=frozenset(prologues_of(graph)), kernels=dict(kernels or {}))
    exported = export(model, inputs, chosen, verify=False, graph=graph)
    there = {name for name, _ in graph.module.named_modules()}
    shuffles = {selection.node for selection in graph.selections}
    gathers = {
        path: module
        for path, module in exported.module.named_modules()
        if isinstance(module, Gather) and path not in there and path not in shuffles
    }
    for path in _inside_concats(exported.module, gathers):
        exported.module.add_submodule(path, Leading(len(gathers[path].index), gathers[path].axis))
        del gathers[path]
    found: dict[str, torch.Tensor] = {}
    hooks = [module.register_forward_hook(_recorder(found, path)) for path, module in gathers.items()]
    with torch.inference_mode():
        exported.module(*inputs)
    for hook in hooks:
        hook.remove()
    for path, selected in found.items():
        exported.module.add_submodule(path, Ready(selected))
    return exported.module


def _inside_concats(module: fx.GraphModule, paths: Container[str]) -> list[str]:
    """Those of some submodules whose outputs only concats read."""
    return [
        str(node.target)
        for node in module.graph.nodes
        if node.op == "call_module" and str(node.target) in paths and all(user.target in CONCATS for user in node.users)
    ]


def _recorder(found: dict[str, torch.Tensor], path: str) -> Any:
    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        found[path] = output.detach().clone(memory_format=torch.preserve_format)

    return hook
