"""Differences between training and eval mode: arguments that depend on ``self.training``, and extra operators.

A trace has only eval mode: ``dropout(x, training=self.training)`` becomes ``dropout(x, training=False)``, and
``dropout_p=self.p if self.training else 0`` becomes 0. A second trace, in training mode, shows which arguments differ
and their values in training. Arguments that are equal in both modes stay constants. In an export, each differing
argument becomes a `ModeSwitch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any
from weakref import WeakKeyDictionary

from torch import fx, nn

from upscale_opt.models.attributes import copy_with
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.trace import operators_of

_Place = int | str


class ModeSwitch(nn.Module):
    """Returns one value in training mode and another one in eval mode, for an argument that uses ``self.training``.

    For tracers of torch.fx it is a leaf module, so that the mode can still be switched in the traced module. For
    `upscale_opt.trace` it is the value of the current mode, as in the original network.

    Parameters
    ----------
    in_training, in_eval
        The values in the two modes.
    """

    def __init__(self, in_training: Any, in_eval: Any) -> None:
        super().__init__()
        self.in_training = in_training
        self.in_eval = in_eval

    def forward(self, x: Any) -> Any:
        """Return the value of the current mode. `x` may be any tensor: a proxy shows that a tracer is running."""
        if isinstance(x, fx.Proxy) and not getattr(x.tracer, "looks_behind", False):
            tracer: Any = x.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (x,), {})
        return self.in_training if self.training else self.in_eval

    def extra_repr(self) -> str:
        """Return the text that `print` shows."""
        return f"in_training={self.in_training}, in_eval={self.in_eval}"


@dataclass(frozen=True)
class TrainingMode:
    """The differences of a network in training mode from its trace in eval mode.

    Attributes
    ----------
    arguments
        Node name to a mapping: position or name of an argument to its value in training.
    paths
        Name of such a node to the path of the module whose ``training`` decides the value.
    parts
        Paths of modules that run operators in training that the trace does not have. The path of the network itself
        is empty.
    reason
        Why the differences are unknown: the error of the trace in training mode. None if this trace succeeded.
    """

    arguments: Mapping[str, Mapping[_Place, Any]] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    reason: str | None = None


_known: WeakKeyDictionary[Graph, TrainingMode] = WeakKeyDictionary()


def training_mode_of(model: nn.Module, graph: Graph) -> TrainingMode:
    """Return the differences of a network in training mode from its trace. They are computed once per trace.

    Parameters
    ----------
    model
        The network. A copy of it is traced in training mode.
    graph
        The network's trace in eval mode.
    """
    if graph not in _known:
        _known[graph] = _compared(model, graph)
    return _known[graph]


def follow_training_mode(module: fx.GraphModule, mode: TrainingMode) -> None:
    """Make arguments that depend on the mode follow the mode of the export. The module is changed in place.

    Each argument reads a `ModeSwitch`. The switch is a child of the module whose mode the argument used in the original
    network. So the mode of a part of the network can be changed, too (``module.backbone.eval()``).
    """
    nodes = {node.name: node for node in module.graph.nodes}
    switches: dict[tuple[str, str, str], str] = {}
    for name, values in mode.arguments.items():
        node = nodes.get(name)
        for place, in_training in values.items() if node is not None else ():
            assert node is not None
            in_eval = _argument(node, place)
            key = (mode.paths[name], repr(in_training), repr(in_eval))
            if key not in switches:
                switches[key] = _free(module, f"{mode.paths[name]}.training_switch".removeprefix("."))
                switch = ModeSwitch(in_training, in_eval).train(module.training)
                module.add_submodule(switches[key], switch)
            at_hand = next(iter(node.all_input_nodes), next(iter(module.graph.nodes)))
            with module.graph.inserting_before(node):
                value = module.graph.call_module(switches[key], (at_hand,))
            if isinstance(place, int):
                node.update_arg(place, value)
            else:
                node.update_kwarg(place, value)
    if switches:
        module.recompile()


def _compared(model: nn.Module, graph: Graph) -> TrainingMode:
    here = list(graph.module.graph.nodes)
    try:
        # Buffers are copied, because the forward may change them during the trace.
        copied = copy_with(model, lambda _, own: own.detach() if isinstance(own, nn.Parameter) else own.clone())
        there = list(operators_of(copied.train(), graph.inputs or None, graph.front_end).nodes)
    except Exception as error:  # user code may raise anything
        return TrainingMode(reason=str(error).strip().split("\n")[0] or type(error).__name__)
    keys, others = [_key(node) for node in here], [_key(node) for node in there]
    counts, other_counts = Counter(keys), Counter(others)
    arguments: dict[str, dict[_Place, Any]] = {}
    parts: dict[str, None] = {}
    for kind, first, last, other_first, other_last in SequenceMatcher(None, keys, others, False).get_opcodes():
        if kind != "equal":
            parts |= dict.fromkeys(_path(node) for node in there[other_first:other_last])
            continue
        for node, other in zip(here[first:last], there[other_first:other_last], strict=True):
            found = _differences(node, other)
            if found and counts[_key(node)] != other_counts[_key(node)]:
                parts[_path(node)] = None  # several nodes have the same key, so the right one is unknown
            elif found:
                arguments[node.name] = found
    nodes = {node.name: node for node in here}
    return TrainingMode(arguments, {name: _path(nodes[name]) for name in arguments}, tuple(parts))


def _differences(node: fx.Node, other: fx.Node) -> dict[_Place, Any]:
    """Return the training values of those constant arguments that differ between two nodes.

    Arguments with nodes in them are not compared. The result is empty if the two calls do not have the same arguments.
    """
    if len(node.args) != len(other.args) or node.kwargs.keys() != other.kwargs.keys() or node.op == "output":
        return {}
    places: list[_Place] = [*range(len(node.args)), *node.kwargs]
    return {
        place: _argument(other, place)
        for place in places
        if not _has_node(_argument(node, place))
        and not _has_node(_argument(other, place))
        and repr(_argument(node, place)) != repr(_argument(other, place))
    }


def _argument(node: fx.Node, place: _Place) -> Any:
    return node.args[place] if isinstance(place, int) else node.kwargs[place]


def _has_node(argument: Any) -> bool:
    found: list[fx.Node] = []
    fx.map_arg(argument, found.append)
    return bool(found)


def _key(node: fx.Node) -> tuple[str, str, str]:
    """Return a key that is equal for nodes with the same operator in the same module."""
    target: Any = node.target
    name = target if isinstance(target, str) else f"{target.__module__}.{getattr(target, '__qualname__', target)}"
    return node.op, name, _path(node)


def _path(node: fx.Node) -> str:
    """Return the path of the module that a node calls, or of the module whose forward runs the node."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack")
    return str(next(reversed(stack.values()))[0]) if stack else ""


def _free(module: nn.Module, path: str) -> str:
    """Return the given path, with a number added if a submodule with this path exists."""
    taken = {name for name, _ in module.named_modules(remove_duplicate=False)}
    number = 1
    while (free := path if number == 1 else f"{path}_{number}") in taken:
        number += 1
    return free
