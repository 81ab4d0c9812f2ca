"""The floor: the pruned network with every selection deleted, what no order can beat. Wrong numbers, right shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from problems import Problem
from upscale_opt.errors import PlanError
from upscale_opt.exporting.exporter import carry_out
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.modules.selections import Gather
from upscale_opt.operators.table import CONCATS
from upscale_opt.planning.extraction import problems_of
from upscale_opt.planning.plans import Plan, baseline_plan
from upscale_opt.planning.reading import KERNELS, MATMUL
from upscale_opt.tracing.trace import as_tuple, trace


@dataclass(frozen=True)
class _MemoryLayout:
    """How a tensor lies in memory.

    Attributes
    ----------
    shape, strides
        As of the tensor.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, x: torch.Tensor) -> _MemoryLayout:
        """That of a tensor."""
        return cls(tuple(x.shape), x.stride())

    @property
    def extent(self) -> int:
        """How many places in memory there are from its first entry to its last; less than entries if they overlap."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


def floor_of(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    masked: MaskedGraph,
    problems: Mapping[str, Problem],
    *,
    kernels: Mapping[str, str] | None = None,
) -> nn.Module:
    """A network of the export's shapes whose consumers find just the channels they keep, contiguous.

    What they read is the beginning of the memory of the tensor they would have selected from: it has just been
    computed, while tensors of their own would lie in slow memory. Where a consumer reads a concat of its own, the
    concat remains, of as many channels of every operand, in one range.

    Parameters
    ----------
    model, example_inputs
        As for `upscale_opt.export`; the floor only works for inputs of these shapes.
    masked, problems
        The trace and its masks, and the problems made of them.
    kernels
        Access name to what computes it in place of the consumer's own operator, as in `Reading.kernel`: the fastest,
        or an export that uses them may be faster than the floor. Default: nothing.
    """
    inputs = as_tuple(example_inputs)
    odd = [kernel for kernel in (kernels or {}).values() if kernel not in KERNELS]
    if odd:
        raise PlanError(f"there is no kernel {odd[0]!r}; choose from {', '.join(KERNELS)}")
    graph = masked.graph
    naive = baseline_plan(problems, masked.masks, output_masks=masked.output_masks)
    chosen = naive.with_readings(late=False)
    for name, kernel in (kernels or {}).items():
        chosen = chosen.with_readings([name], kernel=kernel)
    exported = carry_out(model, inputs, chosen, graph=graph)
    there = {name for name, _ in graph.module.named_modules()}
    shuffles = {selection.node for selection in graph.selections}
    gathers = {
        path: module
        for path, module in exported.module.named_modules()
        if isinstance(module, Gather) and path not in there and path not in shuffles
    }
    layouts: dict[str, tuple[_MemoryLayout, _MemoryLayout]] = {}
    hooks = [module.register_forward_hook(_recorder(layouts, path)) for path, module in gathers.items()]
    with torch.inference_mode():
        exported.module(*inputs)
    for hook in hooks:
        hook.remove()
    for node in [node for node in exported.module.graph.nodes if node.target in layouts]:
        _delete(node, gathers[node.target], *layouts[node.target])
    exported.module.delete_all_unused_submodules()
    exported.module.recompile()
    return exported.module


def floor_of_plan(model: nn.Module, example_inputs: torch.Tensor | Sequence[Any], plan: Plan) -> nn.Module:
    """The floor of a plan's masks; consumers that the plan computes as matrix products are computed so here, too."""
    masked = MaskedGraph(trace(model, example_inputs), plan.masks, plan.output_masks, plan.padding)
    kernels = {name: MATMUL for name, reading in plan.readings.items() if reading.kernel == MATMUL}
    return floor_of(model, example_inputs, masked, problems_of(masked), kernels=kernels)


def _delete(node: fx.Node, gather: Gather, given: _MemoryLayout, selected: _MemoryLayout) -> None:
    """Put the beginning of what it selects from in the place of a selection."""
    graph, source = node.graph, node.args[0]
    with graph.inserting_before(node):
        if all(user.target in CONCATS for user in node.users) or selected.extent > given.extent:
            view = graph.call_method("narrow", (source, gather.axis, 0, len(gather.index)))
        else:
            view = graph.call_method("as_strided", (source, selected.shape, selected.strides))
    node.replace_all_uses_with(view)
    graph.erase_node(node)


def _recorder(found: dict[str, tuple[_MemoryLayout, _MemoryLayout]], path: str) -> Any:
    def hook(_module: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        found[path] = _MemoryLayout.of(inputs[0]), _MemoryLayout.of(output)

    return hook
