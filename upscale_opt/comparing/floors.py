"""The floor: the pruned network without selections. No order can beat it. Its shapes are right, its outputs wrong."""

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
    """The shape and the strides of a tensor in memory.

    Attributes
    ----------
    shape, strides
        Of the tensor.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, x: torch.Tensor) -> _MemoryLayout:
        """The memory layout of a tensor."""
        return cls(tuple(x.shape), x.stride())

    @property
    def extent(self) -> int:
        """Number of memory positions from the first entry to the last. If entries overlap, there are more entries."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


def floor_of(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    masked: MaskedGraph,
    problems: Mapping[str, Problem],
    *,
    kernels: Mapping[str, str] | None = None,
) -> nn.Module:
    """Make a network with the export's shapes where every consumer finds exactly its kept channels, contiguous.

    Instead of a selection, a consumer reads the beginning of the memory of the source tensor. This tensor was just
    computed. A separate tensor would lie in slow memory. If only this consumer reads a concat, the concat remains, with
    as many channels of every operand as the consumer keeps, in one range.

    Parameters
    ----------
    model, example_inputs
        As for `upscale_opt.export`. The floor works only for inputs of these shapes.
    masked, problems
        The trace with its masks, and the problems made from them.
    kernels
        Access name to the kernel that replaces the consumer's own operator, as in `Reading.kernel`. Give the fastest
        kernels. Otherwise an export that uses them may be faster than the floor. Default: no replacements.
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
    """The floor of a plan's masks. Consumers that the plan computes as matrix products are matrix products here too."""
    masked = MaskedGraph(trace(model, example_inputs), plan.masks, plan.output_masks, plan.padding)
    kernels = {name: MATMUL for name, reading in plan.readings.items() if reading.kernel == MATMUL}
    return floor_of(model, example_inputs, masked, problems_of(masked), kernels=kernels)


def _delete(node: fx.Node, gather: Gather, given: _MemoryLayout, selected: _MemoryLayout) -> None:
    """Replace a selection by the beginning of its source tensor."""
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
