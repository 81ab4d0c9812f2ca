"""From a model to a `Graph`: an fx graph whose every tensor is known to be a concatenation of blocks.

`trace` runs torch.fx, gets shapes from meta tensors (`upscale_opt.shapes`, no real forward pass) and sends every node
through the rule of its operator (`upscale_opt.operators`). An operator without a rule pins the channels it touches, and
`Graph.pins` says so: an export is always right, at worst not faster.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.channels import Scattered
from upscale_opt.entrance import entrance
from upscale_opt.errors import ModelError
from upscale_opt.findings import Value, channels_in
from upscale_opt.flow import Flow
from upscale_opt.graphs import NETWORK_INPUT, NETWORK_OUTPUT, Graph, build
from upscale_opt.matrix_convolution import MatrixConv2d
from upscale_opt.network_checks import require_call
from upscale_opt.operators.elementwise import elementwise
from upscale_opt.operators.sizes import pin_counted
from upscale_opt.operators.table import rule_of
from upscale_opt.selections import Gather
from upscale_opt.shapes import first_line, shapes_of


@entrance()
def trace(model: nn.Module, example_inputs: torch.Tensor | Sequence[Any]) -> Graph:
    """Trace a model into channel layouts. The model is not changed and not run.

    Parameters
    ----------
    model
        Any module torch.fx can trace, in eval mode; wrapped ones are unwrapped (`upscale_opt.unwrapped`).
    example_inputs
        A tensor or the tuple of positional inputs; only shapes and dtypes matter.

    Raises
    ------
    ModelError
        If the model is in training mode, cannot be traced, or rejects the shape of the inputs.
    """
    require_call(model, example_inputs)
    inputs = as_tuple(example_inputs)
    if model.training:
        raise ModelError("the model is in training mode; call model.eval() first")
    attributes = set(vars(model))
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:
        raise ModelError(
            f"torch.fx cannot trace {type(model).__name__} ({first_line(error)}); "
            "move data-dependent control flow into a module that torch.fx treats as a leaf"
        ) from error
    finally:
        # torch.fx leaves the tensors it finds in the code as attributes of the model; the GraphModule has its own.
        for name in set(vars(model)) - attributes:
            delattr(model, name)
    _put_inputs_first(traced)
    shapes, batched = shapes_of(traced, inputs)
    constants = frozenset(traced.state_dict()) - frozenset(model.state_dict())
    refused: frozenset[str] = frozenset()
    while True:
        flow = Flow(traced, batched, shapes, refused)
        for node in traced.graph.nodes:
            flow.values[node.name] = _apply_rule(flow, node)
        pin_counted(flow)
        unfit = flow.pin_shared() | _unused_rearrangements(flow)
        graph = build(flow, shapes, constants)
        if isinstance(graph, Graph) and not unfit:
            return graph
        # What a rule said cannot be carried out: these nodes are treated as unknown operators.
        refused |= unfit | (frozenset() if isinstance(graph, Graph) else graph)


def _unused_rearrangements(flow: Flow) -> frozenset[str]:
    """Tensors whose channels are on several axes and that nobody uses, so that nobody says what they need."""
    return frozenset(
        node.name
        for node in flow.traced.graph.nodes
        if isinstance(flow.values.get(node.name), Scattered) and not node.users
    )


def as_tuple(example_inputs: torch.Tensor | Sequence[Any]) -> tuple[Any, ...]:
    """Example inputs as the tuple of positional arguments."""
    return (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], Any]:
    def method(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


class _Proxy(fx.Proxy):
    """torch.fx turns ``x += y`` into ``x = x + y``, which is another thing if somebody else holds `x`."""

    __iadd__ = _in_place(operator.iadd)
    __isub__ = _in_place(operator.isub)
    __imul__ = _in_place(operator.imul)
    __itruediv__ = _in_place(operator.itruediv)


class _Tracer(fx.Tracer):
    """torch.fx's tracer: in-place operators stay in place, and what cannot be traced is not traced into."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Modules that cannot be traced become leaves: operators without a rule."""
        last = next(iter(reversed(self.graph.nodes)))
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            for node in reversed(self.graph.nodes):
                if node is last:
                    break
                self.graph.erase_node(node)
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (Gather, MatrixConv2d)) or super().is_leaf_module(m, module_qualified_name)


def _put_inputs_first(traced: fx.GraphModule) -> None:
    """``f(input=x)`` becomes ``f(x)``, so that rules find the input where it usually is."""
    for node in traced.graph.nodes:
        if node.op in ("call_function", "call_module") and not node.args and "input" in node.kwargs:
            others = dict(node.kwargs)
            node.args = (others.pop("input"),)
            node.kwargs = others


def _apply_rule(flow: Flow, node: fx.Node) -> Value:
    if node.op == "placeholder":
        flow.reasons[node.name] = NETWORK_INPUT
        return None
    if node.op == "output":
        for entering in node.all_input_nodes:
            for channels in channels_in(flow.value(entering)):
                flow.table.pin(channels, NETWORK_OUTPUT, node.name)
        return None
    if node.op == "get_attr":
        return None
    if flow.is_tensor(node) and len(flow.given[node.name]) != len(flow.shape(node)):
        return flow.unknown(node, "a number of axes that depends on the batch")
    if node.name in flow.refused:
        return flow.unknown(node, f"{flow.operator(node)}, used in a way that cannot be followed")
    if node.op == "call_module":
        module = flow.module(node)
        if module._forward_hooks or module._forward_pre_hooks:
            return flow.unknown(node, f"{type(module).__name__} with forward hooks")
        if nn.utils.parametrize.is_parametrized(module):
            return flow.unknown(node, f"{type(module).__name__} with parametrisations")
    rule = rule_of(flow, node)
    if rule is None:
        return flow.unknown(node) if flow.is_tensor(node) else flow.computed(node)
    if rule is not elementwise and not (node.args and isinstance(node.args[0], (fx.Node, list, tuple))):
        return flow.unknown(node)
    return rule(flow, node)
