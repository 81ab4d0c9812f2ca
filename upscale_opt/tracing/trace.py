"""Traces a model to a `Graph`: an fx graph in which every tensor with channels is a concatenation of blocks.

`trace` runs torch.fx, gets shapes from meta tensors (`upscale_opt.tracing.meta_shapes`, without a real forward pass),
and applies the rule of each node's operator (`upscale_opt.operators`). An operator without a rule pins the channels
that it touches, and `Graph.pins` reports it. An export is therefore always correct. At worst it is not faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.arguments.entrance import entrance
from upscale_opt.arguments.modes import AUTO, EXPORT, FX
from upscale_opt.capture.argument_names import normalise
from upscale_opt.capture.constants import renew_changed
from upscale_opt.capture.decompositions import decompose
from upscale_opt.capture.einops_proxies import support_einops
from upscale_opt.capture.hooks import hooks_of, require_traceable_hooks
from upscale_opt.capture.initial_states import start_from_zero
from upscale_opt.capture.origins import all_tensors
from upscale_opt.capture.regions import enter, leave
from upscale_opt.capture.tracer import REASON, Tracing, traced
from upscale_opt.channels.findings import Value, channels_in
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.lengths import computed
from upscale_opt.channels.nodes import UnknownArguments
from upscale_opt.channels.table import Folded, Scattered
from upscale_opt.channels.whole_uses import buffers_used_whole, pin_shared
from upscale_opt.errors import ModelError
from upscale_opt.lifting.capture import captured
from upscale_opt.models.network_checks import require_call
from upscale_opt.models.preservation import Preservation
from upscale_opt.operators import folding
from upscale_opt.operators.elementwise import elementwise
from upscale_opt.operators.sizes import pin_counted
from upscale_opt.operators.splits import wished
from upscale_opt.operators.table import rule_of
from upscale_opt.tracing.copies import pin_copies
from upscale_opt.tracing.fixed_values import fixed_values
from upscale_opt.tracing.graphs import NETWORK_INPUT, NETWORK_OUTPUT, Graph, build
from upscale_opt.tracing.meta_shapes import NodeFailedError, shapes_of
from upscale_opt.tracing.refusals import RefusedError, captured_instead, explained, unfollowed
from upscale_opt.tracing.settling import guarded, settle


@entrance()
def trace(model: nn.Module, example_inputs: torch.Tensor | Sequence[Any], *, front_end: str = AUTO) -> Graph:
    """Trace a model into channel layouts. The model is not changed and not run.

    Parameters
    ----------
    model
        Any module in eval mode whose forward does not decide on values of its input (submodules may: they are then kept
        whole). Wrapped models are unwrapped (`upscale_opt.unwrapped`).
    example_inputs
        A tensor, or the tuple of positional inputs. They may be nested: lists, tuples, dictionaries, dataclasses. Of
        tensors only shapes and dtypes matter. None, flags and texts become constants, and so do arguments that are left
        out. What Python asks about sizes is answered for these inputs: `Graph.validity` says for which others the trace
        holds.
    front_end
        What captures the forward: ``fx`` (torch.fx), ``export`` (`torch.export`), or ``auto``: torch.fx, and
        `torch.export` if torch.fx refuses the network. `Graph.front_end` says which one it was, and `Graph.refusal` why
        torch.fx has refused.

    Raises
    ------
    ModelError
        If the model is in training mode, cannot be traced, or rejects the shape of the inputs.
    """
    require_call(model, example_inputs)
    inputs = as_tuple(example_inputs)
    if model.training:
        raise ModelError("the model is in training mode; call model.eval() first")
    require_traceable_hooks(model)
    if front_end == EXPORT:
        return _graph_of(model, inputs, captured(model, inputs))
    try:
        return _graph_of(model, inputs)
    except RefusedError as error:
        if front_end == FX or not error.is_of_front_end:
            raise
        return _graph_of(model, inputs, captured_instead(model, inputs, error), error.reason)


def _graph_of(
    model: nn.Module, inputs: tuple[Any, ...], lifted: Tracing | None = None, refusal: str | None = None
) -> Graph:
    """Return the graph of a network that `torch.export` has captured, or that torch.fx captures now."""
    tensors = dict(all_tensors(model))
    with Preservation(model) as state:
        found = _by_fx(model, state, inputs) if lifted is None else lifted
        normalise(found.module)
        decompose(found.module)
        start_from_zero(found.module)
        renew_changed(found.module, model)
        holds = settle(found, inputs)
        run = None if holds is None else holds[1]
        try:
            shapes, batched, doubts = shapes_of(found.module, inputs, found.known, restores=False, run=run)
        except NodeFailedError as error:
            raise unfollowed(error, model, inputs) from error
        later = dict(all_tensors(model))
    constants = frozenset(found.module.state_dict()) - frozenset(model.state_dict())
    fixed = fixed_values(model, found, tensors, later)
    refused: frozenset[str] = frozenset()
    whole: frozenset[int] = frozenset()
    splits: dict[str, int] = {}
    while True:
        flow = Flow(found.module, batched, shapes, refused=refused, whole=whole, splits=splits)
        for node in found.module.graph.nodes:
            flow.values[node.name] = _apply_rule(flow, node, doubts)
        if flow.wishes:
            splits |= flow.wishes
            continue
        if not buffers_used_whole(flow) <= whole:
            whole |= buffers_used_whole(flow)
            continue
        pin_counted(flow)
        pin_copies(flow, inputs, found.known)
        unfit = pin_shared(flow) | _unused_rearrangements(flow)
        graph = build(flow, shapes, constants, fixed, found.used)
        if isinstance(graph, Graph) and not unfit:
            graph = replace(graph, front_end=FX if lifted is None else EXPORT, refusal=refusal)
            return guarded(graph, flow, holds, found, inputs)
        # The results of some rules cannot be used. Start again, and treat these nodes as unknown operators.
        refused |= unfit | (frozenset() if isinstance(graph, Graph) else graph)


def _by_fx(model: nn.Module, state: Preservation, inputs: tuple[Any, ...]) -> Tracing:
    try:
        support_einops()
        return traced(model, state, inputs)
    except ModelError:
        raise
    except Exception as error:
        raise explained(error, model, inputs) from error


def operators_of(model: nn.Module, inputs: tuple[Any, ...] | None, front_end: str = FX) -> fx.Graph:
    """Return the traced graph of a model in its current mode, training or eval, for inputs of these shapes."""
    found = captured(model, inputs) if front_end == EXPORT and inputs is not None else None
    with Preservation(model) as state:
        found = traced(model, state, inputs) if found is None else found
        normalise(found.module)
        decompose(found.module)
        start_from_zero(found.module)
        renew_changed(found.module, model)
    return found.module.graph


def _unused_rearrangements(flow: Flow) -> frozenset[str]:
    """Return the names of unused tensors whose channels are on several axes. No user decides how to treat them."""
    return frozenset(
        node.name
        for node in flow.traced.graph.nodes
        if isinstance(flow.values.get(node.name), Scattered) and not node.users
    )


def as_tuple(example_inputs: torch.Tensor | Sequence[Any]) -> tuple[Any, ...]:
    """Return example inputs as the tuple of positional arguments."""
    return (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)


def _same_shape(flow: Flow, first: fx.Node, second: Any) -> bool:
    return flow.is_tensor(second) and flow.shape(first) == flow.shape(second)


def _apply_rule(flow: Flow, node: fx.Node, doubts: Mapping[str, str]) -> Value:
    if node.op == "placeholder":
        flow.reasons[node.name] = NETWORK_INPUT
        return None
    if node.op == "output":
        for entering in node.all_input_nodes:
            for channels in channels_in(flow.value(entering)):
                flow.table.pin(channels, NETWORK_OUTPUT, node.name)
        return None
    if node.op == "get_attr" or node.target in (enter, leave):
        return None
    if node.name in doubts and (flow.is_tensor(node) or f"{node.name}:parts" in flow.shapes):
        return flow.unknown(node, doubts[node.name])
    if flow.is_tensor(node) and len(flow.given[node.name]) != len(flow.shape(node)):
        return flow.unknown(node, "a number of axes that depends on the batch")
    if node.name in flow.refused:
        return flow.unknown(node, f"{flow.operator(node)}, used in a way that cannot be followed")
    if node.op == "call_module":
        module = flow.module(node)
        hooks = hooks_of(module)
        if hooks is not None:
            return flow.unknown(node, f"{type(module).__name__} with {hooks}")
        if nn.utils.parametrize.is_parametrized(module):
            return flow.unknown(node, f"{type(module).__name__} with parametrisations")
    rule = rule_of(flow, node)
    if rule is None:
        if REASON in node.meta:
            return flow.unknown(node, node.meta[REASON])
        return flow.unknown(node) if flow.is_tensor(node) else computed(flow, node)
    if node.kwargs.get("out") is not None and not (rule is elementwise and _same_shape(flow, node, node.kwargs["out"])):
        return flow.unknown(node, f"{flow.operator(node)} with out=")
    if rule is not elementwise and not (node.args and isinstance(node.args[0], (fx.Node, list, tuple, str))):
        return flow.unknown(node)
    if any(isinstance(flow.value(x), Folded) for x in node.all_input_nodes):
        rule = folding.RULES.get(rule, rule)
    try:
        result = rule(flow, node)
    except UnknownArguments:
        return flow.unknown(node, f"{flow.operator(node)}, called in a way that cannot be read")
    if result is None:
        flow.wishes |= wished(flow, node, rule_of)
    return result
