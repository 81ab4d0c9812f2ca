"""From a model to a `Graph`: an fx graph whose every tensor is known to be a concatenation of blocks.

`trace` runs torch.fx, gets shapes from meta tensors (`upscale_opt.shapes`, no real forward pass) and sends every node
through the rule of its operator (`upscale_opt.operators`). An operator without a rule pins the channels it touches, and
`Graph.pins` says so: an export is always right, at worst not faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph_module import _CodeOnlyModule

from upscale_opt.argument_names import normalise
from upscale_opt.channels import Scattered
from upscale_opt.constants import renew_changed
from upscale_opt.custom_functions import CustomFunction, CustomFunctions, attached
from upscale_opt.errors import ModelError
from upscale_opt.findings import Value, channels_in
from upscale_opt.flow import Flow, UnknownArguments
from upscale_opt.graphs import NETWORK_INPUT, NETWORK_OUTPUT, Graph, build
from upscale_opt.hooks import called_whole, forward_of, has_backward_hooks, hooks_of, require_traceable_hooks
from upscale_opt.matrix_convolution import MatrixConv2d
from upscale_opt.operators.elementwise import elementwise
from upscale_opt.operators.sizes import pin_counted
from upscale_opt.operators.table import rule_of
from upscale_opt.proxies import Proxy, Untraceable
from upscale_opt.regions import Regions, enter, leave
from upscale_opt.selections import Gather
from upscale_opt.shapes import first_line, shapes_of

REASON = "why it is not traced into"
"""Key of a node's ``meta``."""


def trace(model: nn.Module, example_inputs: torch.Tensor | Sequence[Any]) -> Graph:
    """Trace a model into channel layouts. The model is not changed and not run.

    Parameters
    ----------
    model
        Any module torch.fx can trace, in eval mode.
    example_inputs
        A tensor or the tuple of positional inputs; only shapes and dtypes matter.

    Raises
    ------
    ModelError
        If the model is in training mode, cannot be traced, or rejects the shape of the inputs.
    """
    inputs = as_tuple(example_inputs)
    if model.training:
        raise ModelError("the model is in training mode; call model.eval() first")
    require_traceable_hooks(model)
    attributes = set(vars(model))
    try:
        tracer = _Tracer()
        graph_of_nodes = tracer.trace(model)
        with attached(model, tracer.functions.modules):
            traced = fx.GraphModule(model, graph_of_nodes)
    except ModelError:
        raise
    except Untraceable as error:
        raise ModelError(
            f"{type(model).__name__} cannot be traced: {error}; move that into a module of its own, which is left alone"
        ) from error
    except Exception as error:
        raise ModelError(
            f"torch.fx cannot trace {type(model).__name__} ({first_line(error)}); "
            "move data-dependent control flow into a module that torch.fx treats as a leaf"
        ) from error
    finally:
        # torch.fx leaves the tensors it finds in the code as attributes of the model; the GraphModule has its own.
        for name in set(vars(model)) - attributes:
            delattr(model, name)
    normalise(traced)
    renew_changed(traced, model)
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


class _Tracer(fx.Tracer):
    """torch.fx's tracer: in-place operators stay in place, and what cannot be traced is not traced into."""

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """As torch.fx does, but regions and autograd functions are kept; see `upscale_opt.regions`."""
        self.regions = Regions(self)
        self.functions = CustomFunctions(self, self.regions)
        with self.regions.recorded(), self.functions.recorded():
            return super().trace(root, concrete_args)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """The network is called with its hooks."""
        if not is_module or isinstance(self.root, _CodeOnlyModule):
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        forward, inputs = super().create_args_for_root(forward_of(self.root, root_fn), True, concrete_args)
        return called_whole(forward), inputs

    def create_node(self, *arguments: Any, **named: Any) -> fx.Node:
        """Every node is in the regions that were entered."""
        self.regions.require_known()
        return super().create_node(*arguments, **named)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Proxy(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Modules that cannot be traced become leaves: operators without a rule."""
        last = next(iter(reversed(self.graph.nodes)))
        try:
            with self.regions.restored():
                return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            for node in reversed(self.graph.nodes):
                if node is last:
                    break
                self.graph.erase_node(node)
            leaf = self.create_proxy("call_module", self.path_of_module(m), args, kwargs)
            if isinstance(error, Untraceable):
                leaf.node.meta[REASON] = f"{type(m).__name__} with {error}"
            return leaf

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = isinstance(m, (Gather, MatrixConv2d, CustomFunction)) or has_backward_hooks(m)
        return own or super().is_leaf_module(m, module_qualified_name)


def _same_shape(flow: Flow, first: fx.Node, second: Any) -> bool:
    return flow.is_tensor(second) and flow.shape(first) == flow.shape(second)


def _apply_rule(flow: Flow, node: fx.Node) -> Value:
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
        return flow.unknown(node, node.meta.get(REASON)) if flow.is_tensor(node) else flow.computed(node)
    if node.kwargs.get("out") is not None and not (rule is elementwise and _same_shape(flow, node, node.kwargs["out"])):
        return flow.unknown(node, f"{flow.operator(node)} with out=")
    if rule is not elementwise and not (node.args and isinstance(node.args[0], (fx.Node, list, tuple))):
        return flow.unknown(node)
    try:
        return rule(flow, node)
    except UnknownArguments:
        return flow.unknown(node, f"{flow.operator(node)}, called in a way that cannot be read")
