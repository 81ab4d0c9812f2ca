"""Finds the shapes of all tensors of a traced model with meta tensors. Only operators that need values are computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.rnn import PackedSequence

from upscale_opt.capture.examples import arguments_by_name, device_of_all
from upscale_opt.capture.known_values import KnownValues
from upscale_opt.capture.node_runs import NodeRun
from upscale_opt.capture.regions import unwound
from upscale_opt.capture.source_lines import PLACE
from upscale_opt.errors import ModelError, first_line
from upscale_opt.models.attributes import attribute_of
from upscale_opt.models.nested import map_tensors, nested_tensors
from upscale_opt.models.snapshots import Snapshot
from upscale_opt.operators.elementwise import elementwise
from upscale_opt.operators.table import MODULE_RULES

Shapes = dict[str, Any]


class NodeFailedError(ModelError):
    """A node of a traced model fails for the inputs. The error of the node is the cause."""


def shapes_of(
    traced: fx.GraphModule,
    inputs: tuple[Any, ...],
    known: KnownValues | None = None,
    *,
    restores: bool = True,
    run: NodeRun | None = None,
) -> tuple[Shapes, Shapes, dict[str, str]]:
    """Return the shapes of all nodes' outputs: first for the given inputs, second for a batch of at least two samples.

    The shape is None if a node computes no tensor. If it computes several tensors, their shapes are under the node's
    name with ``:parts``. With one sample, an axis that is merged with the batch could not be told from another axis.
    With two samples it can. If the network accepts only the given batch, both results are the same.

    The third result names the nodes whose shape is not known without the values of the input, each with the reason.

    Modules that are kept whole may change themselves. With `restores` they are restored. If the traced model has been
    run on these inputs already, give this `run`.

    Raises
    ------
    NodeFailedError
        If a node fails for the inputs.
    """
    failed: tuple[fx.Node, Exception] | None = None
    if run is None:
        run, failed = run_on(traced, inputs, known, restores=restores)
    if failed is not None:
        node, error = failed
        given = ", ".join(str(tuple(x.shape)) for x in nested_tensors(inputs))
        place = node.meta.get(PLACE)
        where = f" in {place}" if place is not None else f" in {node.target}" if node.op == "call_module" else ""
        raise NodeFailedError(
            f"the network rejects inputs of shape {given} ({first_line(error)}{where}); give inputs that it accepts"
        ) from error
    shapes = _shapes(traced, run)
    reasons = {node.name: run.doubtful[node] for node in traced.graph.nodes if node in run.doubtful}
    tensors = list(nested_tensors(inputs))
    if not tensors or any(x.ndim < 1 or x.shape[0] != 1 for x in tensors):
        return shapes, shapes, reasons
    pair = map_tensors(lambda x: x.to("meta").expand(2, *x.shape[1:]), inputs)
    two, failed = run_on(traced, pair, known, restores=restores)
    return (shapes, shapes, reasons) if failed is not None else (shapes, _shapes(traced, two), reasons)


def run_on(
    traced: fx.GraphModule, inputs: tuple[Any, ...], known: KnownValues | None = None, *, restores: bool = True
) -> tuple[NodeRun, tuple[fx.Node, Exception] | None]:
    """Run a traced model on meta tensors. Return the run, and the node that failed with its error, if any.

    Modules that are kept whole may change themselves. With `restores` they are restored.
    """
    before = Snapshot([traced]) if restores and _changes_itself(traced) else None
    on_meta = map_tensors(lambda x: x.to("meta"), inputs)
    run = NodeRun(
        traced.get_submodule, lambda name: attribute_of(traced, name), known, device_of_all(traced, inputs), keeps_shape
    )
    arguments, _ = arguments_by_name(traced, on_meta)
    failed: tuple[fx.Node, Exception] | None = None
    with torch.no_grad(), torch.device("meta"), unwound():
        for node in traced.graph.nodes:
            try:
                run.run(node, arguments)
            except Exception as error:
                failed = (node, error)
                break
    if before is not None and before.changed():
        before.restore()
    return run, failed


def _changes_itself(traced: fx.GraphModule) -> bool:
    """Whether any module that is called may change itself. Most modules of torch.nn do not, and snapshots are slow."""
    called = (traced.get_submodule(str(node.target)) for node in traced.graph.nodes if node.op == "call_module")
    return any(_may_change(own) for module in called for own in module.modules())


def _may_change(module: nn.Module) -> bool:
    foreign = not type(module).__module__.startswith("torch.nn.") or isinstance(module, nn.RNNBase)
    return bool(foreign or module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _shapes(traced: fx.GraphModule, run: NodeRun) -> Shapes:
    shapes: Shapes = {}
    for node in traced.graph.nodes:
        if node not in run.values:
            continue
        result = run.values[node]
        shapes[node.name] = tuple(result.shape) if isinstance(result, torch.Tensor) else None
        parted = isinstance(result, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in result)
        if parted and not isinstance(result, PackedSequence) and node.op != "placeholder":
            shapes[f"{node.name}:parts"] = tuple(tuple(part.shape) for part in result)
    return shapes


def keeps_shape(module: nn.Module, x: Any) -> bool:
    """Whether a module is known to accept `x` and to return a tensor of the same shape. Then it need not run."""
    if not isinstance(x, torch.Tensor) or module._forward_hooks or module._forward_pre_hooks:
        return False
    return MODULE_RULES.get(type(module)) is elementwise or (
        isinstance(module, nn.BatchNorm2d) and x.ndim == 4 and x.shape[1] == module.num_features
    )
