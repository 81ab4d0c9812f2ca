"""Layers with parameters that a trace cannot use, neither as consumers nor as producers, each with the reason.

No channels of these layers can be removed. A network with only such layers cannot be pruned. Reports and exports list
them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod

from upscale_opt.models.attributes import named_tensors
from upscale_opt.operators.table import MODULE_RULES

_PLAIN = "make its weight plain (upscale_opt.plain_weights)"
_PARAMETRIZATIONS = ".parametrizations."
SHOWN = 3
"""How many layers a summary names for each reason."""


@dataclass(frozen=True)
class Skipped:
    """A layer with parameters that is neither a consumer nor a producer.

    Attributes
    ----------
    path
        Path of the module; empty for the network itself.
    kind
        Name of the module's class.
    reason
        Why the trace cannot use the layer.
    remedy
        What the user can do; None if there is no advice.
    """

    path: str
    kind: str
    reason: str
    remedy: str | None = None

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.path or 'the network'} ({self.kind}): {self.reason}{remedy}"


def skipped_layers(
    traced: fx.GraphModule, followed: Collection[str], reasons: Mapping[str, str]
) -> dict[str, tuple[Skipped, str]]:
    """Return the layers of which no parameter follows channels, and the node that uses each layer.

    Parameters
    ----------
    traced
        The traced model.
    followed
        Names of parameters that follow channels, and of the weights of consumers.
    reasons
        Node name to the reason why nothing is known about its result.

    Returns
    -------
    dict
        Path to layer and node name, in the order of the modules. The node calls the layer, or a module around it, or
        multiplies by a weight computed from its parameter, or reads its parameter.
    """
    used = {id(tensor) for name, tensor in named_tensors(traced) if name in followed}
    own: dict[str, list[tuple[str, Any]]] = {}
    for name, parameter in traced.named_parameters(remove_duplicate=False):
        path = name.partition(_PARAMETRIZATIONS)[0] if _PARAMETRIZATIONS in name else name.rpartition(".")[0]
        own.setdefault(path, []).append((name, parameter))
    nodes = _nodes_of(traced)
    found = {}
    for path, tensors in own.items():
        if any(id(tensor) in used for _, tensor in tensors):
            continue
        node = next((nodes[name] for name in (path, *(name for name, _ in tensors)) if name in nodes), None)
        node = node if node is not None else next((nodes[outer] for outer in _outer(path) if outer in nodes), None)
        if node is None:
            continue  # the trace does not use the layer
        module = traced.get_submodule(path)
        node = _multiplication(node) or node
        reason, remedy = _reason(traced, module, node, reasons)
        found[path] = Skipped(path, _kind(path, module, node), reason, remedy), node.name
    return found


def grouped(skipped: Iterable[Skipped]) -> list[str]:
    """Summarise layers by reason: one line per reason, with the number of layers and the names of the first ones.

    Examples
    --------
    >>> grouped([Skipped("a", "LSTM", "no rule for LSTM"), Skipped("b", "LSTM", "no rule for LSTM")])
    ['2 layers with parameters (LSTM): no rule for LSTM: a, b']
    """
    by_reason: dict[tuple[str, str | None], list[Skipped]] = {}
    for own in skipped:
        by_reason.setdefault((own.reason, own.remedy), []).append(own)
    return [_line(reason, remedy, layers) for (reason, remedy), layers in by_reason.items()]


def _line(reason: str, remedy: str | None, layers: list[Skipped]) -> str:
    kinds = ", ".join(dict.fromkeys(own.kind for own in layers))
    shown = ", ".join(own.path or "the network" for own in layers[:SHOWN])
    more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
    number = f"{len(layers)} layer{'s' if len(layers) > 1 else ''}"
    return f"{number} with parameters ({kinds}): {reason}: {shown}{more}{f'; {remedy}' if remedy else ''}"


def _nodes_of(traced: fx.GraphModule) -> dict[str, fx.Node]:
    """Map paths of modules and attributes to the first node that calls or reads them."""
    nodes: dict[str, fx.Node] = {}
    for node in traced.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            nodes.setdefault(str(node.target), node)
    return nodes


def _outer(path: str) -> Iterator[str]:
    """Yield the paths of the modules around a module, the innermost first."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _kind(path: str, module: nn.Module, node: fx.Node) -> str:
    """Return the class name of a module. For a parametrised module, this is the name of its original class."""
    stack = node.meta.get("nn_module_stack") or {}
    kinds = [kind for where, kind in stack.values() if where == path]  # the trace loses classes of traced modules
    name = kinds[-1].__name__ if kinds and isinstance(kinds[-1], type) else type(module).__name__
    return name.removeprefix("Parametrized")


def _reason(
    traced: fx.GraphModule, module: nn.Module, node: fx.Node, reasons: Mapping[str, str]
) -> tuple[str, str | None]:
    if is_parametrized(module):
        names = [
            type(own).__name__.strip("_")
            for parts in module.parametrizations.values()  # type: ignore[operator]
            for own in parts
        ]
        return f"parametrised by {', '.join(dict.fromkeys(names))}", (
            f"{_PLAIN}, or torch.nn.utils.parametrize.remove_parametrizations"
        )
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    kinds = dict.fromkeys(type(hook).__name__ for hook in hooks)
    if any(isinstance(hook, BasePruningMethod) for hook in hooks):
        return "a mask of torch.nn.utils.prune", f"{_PLAIN}, or torch.nn.utils.prune.remove"
    if "WeightNorm" in kinds:
        return "weight_norm by a hook", f"{_PLAIN}, or torch.nn.utils.remove_weight_norm"
    if "SpectralNorm" in kinds:
        return "spectral_norm by a hook", f"{_PLAIN}, or torch.nn.utils.remove_spectral_norm"
    if hooks:
        return "forward hooks", "remove them before the trace"
    if _multiplies(node):
        return "its weight is computed in every pass", f"{_PLAIN}, or hold the computed weight in a plain layer"
    user = next(iter(node.users), node) if node.op == "get_attr" else node
    if user.name in reasons:
        return reasons[user.name], None
    if user.op == "call_module" and (called := type(traced.get_submodule(str(user.target)))) not in MODULE_RULES:
        return f"no rule for {called.__name__}", None
    return "its parameters are used as a whole", None


def _multiplication(node: fx.Node) -> fx.Node | None:
    """Find the call of a convolution or linear layer whose weight is computed from the attribute that `node` reads.

    None if there is no such call.
    """
    seen, waiting = {node}, [node] if node.op == "get_attr" else []
    while waiting:
        for user in waiting.pop().users:
            if _multiplies(user):
                if len(user.args) > 1 and user.args[1] in seen and user.args[1] is not node:
                    return user
            elif user not in seen and user.op != "output":
                seen.add(user)
                waiting.append(user)
    return None


def _multiplies(node: fx.Node) -> bool:
    """Whether a node calls a convolution or a linear layer as a function."""
    name = getattr(node.target, "__name__", "")
    return node.op == "call_function" and (name.startswith("conv") or name == "linear")
