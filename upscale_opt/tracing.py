"""From a model to a `Graph`: an fx graph whose every tensor is known to be a concatenation of blocks.

`trace` runs torch.fx, gets shapes from meta tensors (no real forward pass) and sends every node through the rule
of its operator (`upscale_opt.rules`). An operator without a rule pins the channels it touches, and `Graph.pins`
says so: an export is always right, at worst not faster.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from problems import Block
from upscale_opt.channels import Layout, Pin
from upscale_opt.errors import ModelError
from upscale_opt.flow import ChannelSlice, Flow
from upscale_opt.rules import METHOD_RULES, MODULE_RULES, elementwise, rule_of_function

NETWORK_INPUT = "network input"
NETWORK_OUTPUT = "network output"


@dataclass(frozen=True)
class TensorLayout:
    """The channel axis of one tensor: dimension `axis` is the concatenation of `blocks`, `size` entries a channel."""

    axis: int
    blocks: tuple[int, ...]
    size: int = 1


@dataclass(frozen=True)
class Read:
    """One call of a consumer: a groups = 1 convolution or a linear layer.

    Attributes
    ----------
    name
        Module path, with ``#2`` for the second call and so on; the name of the access.
    node
        Name of the fx node.
    module
        Module path.
    input
        Layout of what it reads.
    input_shape, output_shape
        Shapes of what it reads and computes, for the example inputs.
    is_convolution
        Whether it is a convolution; linear layers are not masked by default.
    reads_network_input
        Whether any of its channels comes from a network input.
    """

    name: str
    node: str
    module: str
    input: TensorLayout
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    is_convolution: bool
    reads_network_input: bool

    @property
    def weight(self) -> str:
        """Qualified name of the weight parameter: the key of the consumer's mask."""
        return f"{self.module}.weight"


@dataclass(frozen=True, eq=False)
class Graph:
    """A traced model.

    Attributes
    ----------
    module
        The fx GraphModule; its submodules are the model's own.
    blocks
        All blocks of the network, in order of production.
    producers
        Per block, the module path (or node) that produces its first channel.
    layouts
        Layout per fx node name, for every tensor with channels.
    reads
        The consumers, in execution order.
    slices
        Channel slices by node name.
    followers
        Module path of every BatchNorm and depthwise convolution, with the layout its parameters follow.
    produced
        Module path of every groups = 1 convolution and linear layer, with the layout of its output.
    pins
        What is pinned, and by which operator.
    constants
        Names of tensors that are part of the code (``x + torch.tensor(0.5)``): in the traced module's state_dict, but
        not in the model's.
    """

    module: fx.GraphModule
    blocks: tuple[Block, ...]
    producers: tuple[str, ...]
    layouts: Mapping[str, TensorLayout]
    reads: tuple[Read, ...]
    slices: Mapping[str, ChannelSlice]
    followers: Mapping[str, TensorLayout]
    produced: Mapping[str, TensorLayout]
    pins: tuple[Pin, ...]
    constants: frozenset[str]

    def __str__(self) -> str:
        pinned = sum(block.size for block in self.blocks if block.pinned)
        total = sum(block.size for block in self.blocks)
        return (
            f"{len(self.blocks)} blocks, {total} channels ({pinned} pinned), "
            f"{len(self.reads)} consumers, {len(self.unsupported)} unsupported operators"
        )

    @cached_property
    def consumers(self) -> dict[str, Read]:
        """The first read of every consumer by weight name, in execution order."""
        consumers: dict[str, Read] = {}
        for read in self.reads:
            consumers.setdefault(read.weight, read)
        return consumers

    @property
    def unsupported(self) -> tuple[Pin, ...]:
        """Pins other than those of the network's own inputs and outputs, one per node: what users may look at."""
        by_node = {pin.node: pin for pin in self.pins if pin.reason not in (NETWORK_INPUT, NETWORK_OUTPUT)}
        return tuple(by_node.values())


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
    attributes = set(vars(model))
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:
        raise ModelError(
            f"torch.fx cannot trace {type(model).__name__} ({_first_line(error)}); "
            "move data-dependent control flow into a module that torch.fx treats as a leaf"
        ) from error
    finally:
        # torch.fx leaves the tensors it finds in the code as attributes of the model; the GraphModule has its own.
        for name in set(vars(model)) - attributes:
            delattr(model, name)
    _put_inputs_first(traced)
    flow = Flow(traced, _shapes(traced, inputs))
    constants = frozenset(traced.state_dict()) - frozenset(model.state_dict())
    return _graph(flow, _run_rules(flow), constants)


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
    """torch.fx's tracer, with in-place operators kept in place."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def _put_inputs_first(traced: fx.GraphModule) -> None:
    """``f(input=x)`` becomes ``f(x)``, so that rules find the input where it usually is."""
    for node in traced.graph.nodes:
        if node.op in ("call_function", "call_module") and not node.args and "input" in node.kwargs:
            others = dict(node.kwargs)
            node.args = (others.pop("input"),)
            node.kwargs = others


def _run_rules(flow: Flow) -> list[np.ndarray]:
    """Send every node through its rule; returns the channels of the network's inputs."""
    inputs = []
    for node in flow.traced.graph.nodes:
        layout = _apply_rule(flow, node)
        flow.layouts[node.name] = layout
        if node.op == "placeholder" and layout is not None:
            inputs.append(layout.channels)
    return inputs


def _apply_rule(flow: Flow, node: fx.Node) -> Layout | None:
    if node.op == "placeholder":
        return flow.opaque(node, NETWORK_INPUT)
    if node.op == "output":
        for layout in flow.input_layouts(node):
            flow.table.pin(layout.channels, NETWORK_OUTPUT, node.name)
        return None
    if node.op == "get_attr":
        return None
    if node.op == "call_module":
        module = flow.module(node)
        rule = MODULE_RULES.get(type(module))
        if rule is not None and (module._forward_hooks or module._forward_pre_hooks):
            return flow.unknown(node, f"{type(module).__name__} with forward hooks")
    elif node.op == "call_function":
        rule = rule_of_function(node.target)  # type: ignore[arg-type]
    else:
        rule = METHOD_RULES.get(str(node.target))
    return flow.unknown(node) if rule is None or not (node.args or node.kwargs) else rule(flow, node)


def _graph(flow: Flow, network_inputs: list[np.ndarray], constants: frozenset[str]) -> Graph:
    """Resolve the channels into blocks."""
    resolution = flow.table.resolve()
    sequences: dict[int, tuple[int, ...]] = {}

    def final(layout: Layout) -> TensorLayout:
        key = id(layout.channels)
        if key not in sequences:
            sequences[key] = resolution.sequence(layout.channels)
        return TensorLayout(layout.axis, sequences[key], layout.size)

    inputs = {int(b) for channels in network_inputs for b in resolution.block_of[channels]}
    reads, calls = [], dict[str, int]()
    for node, x in flow.reads:
        module = str(node.target)
        calls[module] = calls.get(module, 0) + 1
        layout = final(x)
        reads.append(
            Read(
                module if calls[module] == 1 else f"{module}#{calls[module]}",
                node.name,
                module,
                layout,
                flow.shape(flow.source(node)),
                flow.shape(node),
                not isinstance(flow.module(node), nn.Linear),
                not inputs.isdisjoint(layout.blocks),
            )
        )
    return Graph(
        flow.traced,
        resolution.blocks,
        resolution.producers,
        {name: final(layout) for name, layout in flow.layouts.items() if layout is not None},
        tuple(reads),
        flow.slices,
        {name: final(layout) for name, layout in flow.followers.items()},
        {name: final(layout) for name, layout in flow.outputs.items()},
        tuple(flow.table.pins),
        constants,
    )


class _ShapeRecorder(nn.Module):
    """Runs a traced module node by node and records the shapes of all tensors."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__()
        self.traced = traced
        self.shapes: dict[str, Any] = {}

    def forward(self, *inputs: Any) -> None:
        recorder = self

        class Recorder(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                result = super().run_node(n)
                recorder.shapes[n.name] = tuple(result.shape) if isinstance(result, torch.Tensor) else None
                return result

            def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                # Meta kernels of normalisations are slow, and what keeps its shape needs none.
                module = self.fetch_attr(str(target))
                if len(args) == 1 and not kwargs and _keeps_shape(module, args[0]):
                    return args[0]
                return super().call_module(target, args, kwargs)

        interpreter = Recorder(self.traced)
        interpreter.extra_traceback = False
        interpreter.run(*inputs)


def _keeps_shape(module: nn.Module, x: Any) -> bool:
    """Whether a module is known to return a tensor of the shape of `x`, and to accept it."""
    rule = MODULE_RULES.get(type(module))
    if not isinstance(x, torch.Tensor) or module._forward_hooks or module._forward_pre_hooks:
        return False
    return rule is elementwise or (
        isinstance(module, nn.BatchNorm2d) and x.ndim == 4 and x.shape[1] == module.num_features
    )


def _shapes(traced: fx.GraphModule, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Shape of every node's output (None where it is no tensor), from meta tensors."""
    recorder = _ShapeRecorder(traced)
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*recorder.named_parameters(), *recorder.named_buffers())
    }
    on_meta = tuple(x.to("meta") if isinstance(x, torch.Tensor) else x for x in inputs)
    try:
        with torch.no_grad():
            torch.func.functional_call(recorder, state, on_meta)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, torch.Tensor))
        raise ModelError(
            f"the network rejects inputs of shape {shapes} ({_first_line(error)}); choose another input shape"
        ) from error
    return recorder.shapes


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
