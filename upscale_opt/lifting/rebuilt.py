"""Makes modules for a lifted program whose network is not at hand, from functions and the names of their parameters.

``conv2d(x, features.0.weight, features.0.bias, ...)`` becomes a call of a `torch.nn.Conv2d` at ``features.0``. A
function whose parameters belong to different modules stays a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.nn import functional

from upscale_opt.capture.argument_names import arguments_of
from upscale_opt.capture.settled import Settled
from upscale_opt.capture.traced_module import TracedModule, keep_persistence
from upscale_opt.lifting.groups import STACK
from upscale_opt.lifting.guards import add_conditions
from upscale_opt.lifting.lifter import Lifted
from upscale_opt.modules.guards import require_settled

Arguments = Mapping[str, Any]


def rebuilt(program: ExportedProgram, found: Lifted, sizes: Mapping[str, torch.Size]) -> fx.GraphModule:
    """Return a network for a lifted program.

    Parameters
    ----------
    program
        The program.
    found
        The lifted program. Its graph is changed.
    sizes
        Shapes of its inputs by their places, -1 for free sizes.
    """
    signature = program.graph_signature
    root = nn.Module()
    for name, tensor in found.tensors.items():
        _hold(root, name, tensor, is_parameter=name in signature.parameters, left_out=name in _left_out(program))
    for node in list(found.graph.nodes):
        made = _module_for(root, node, found.tensors)
        if made is not None:
            _call(found.graph, root, node, *made)
    for node in list(found.graph.nodes):
        if node.op == "get_attr" and not node.users:
            found.graph.erase_node(node)
    for own in add_conditions(found.graph, program, found.places, sizes, lambda axis: True):
        _check(found.graph, own)
    network = TracedModule(root, found.graph)
    keep_persistence(root, network)
    return network


def _left_out(program: ExportedProgram) -> frozenset[str]:
    return frozenset(program.graph_signature.non_persistent_buffers)


def _hold(root: nn.Module, name: str, tensor: torch.Tensor, *, is_parameter: bool, left_out: bool) -> None:
    path, _, attribute = name.rpartition(".")
    owner = root
    for part in path.split(".") if path else ():
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    if is_parameter:
        own = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, tensor.requires_grad)
        owner.register_parameter(attribute, own)
    else:
        owner.register_buffer(attribute, tensor, persistent=not left_out)


def _module_for(
    root: nn.Module, node: fx.Node, tensors: Mapping[str, torch.Tensor]
) -> tuple[str, nn.Module, dict[str, fx.Node]] | None:
    """Return path and module that compute a node, and the nodes of its parameters by their names. None for others."""
    if node.op != "call_function":
        return None
    if node.target is functional.dropout:
        return _dropout(root, node)
    make = _MAKERS.get(node.target)  # type: ignore[arg-type]
    given = None if make is None else arguments_of(node)
    if make is None or given is None:
        return None
    read: dict[str, fx.Node] = {name: own for name in _PARAMETERS if isinstance(own := given.get(name), fx.Node)}
    if "weight" not in read and "running_mean" not in read:
        return None
    if any(own.op != "get_attr" for own in read.values()):
        return None
    paths = {str(own.target).rpartition(".")[0] for own in read.values()}
    fits = all(str(own.target).rpartition(".")[2] == name for name, own in read.items())
    if len(paths) != 1 or not fits or "" in paths:
        return None
    (path,) = paths
    module = make({**given, **{name: tensors[str(own.target)] for name, own in read.items()}}, node)
    if module is None or not _fits(root.get_submodule(path), module):
        return None
    return path, module, read


def _fits(there: nn.Module, own: nn.Module) -> bool:
    """Whether a module can take the place of what is there: the bare holder of its tensors, or an equal module."""
    names = {name for name, _ in (*there.named_parameters(), *there.named_buffers())}
    if names - set(own._parameters) - set(own._buffers):
        return False
    return type(there) is nn.Module or (type(there) is type(own) and there.extra_repr() == own.extra_repr())


def _dropout(root: nn.Module, node: fx.Node) -> tuple[str, nn.Module, dict[str, fx.Node]] | None:
    stack = node.meta.get(STACK) or {}
    path, kind = next(reversed(stack.values())) if stack else ("", None)
    given = arguments_of(node) or {}
    if not path or not str(kind).endswith("torch.nn.modules.dropout.Dropout") or given.get("training") is not False:
        return None
    try:
        there = root.get_submodule(path)
    except AttributeError:
        there = nn.Module()
    own = nn.Dropout(given.get("p", 0.5))
    return (path, own, {}) if _fits(there, own) else None


def _call(graph: fx.Graph, root: nn.Module, node: fx.Node, path: str, module: nn.Module, read: Arguments) -> None:
    owner = root
    for part in path.split(".")[:-1]:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    last = path.rpartition(".")[2]
    there = owner._modules.get(last)
    if there is None or type(there) is nn.Module:
        for name, tensor in {} if there is None else {**there._parameters, **there._buffers}.items():
            setattr(module, name, tensor)
            if there is not None and name in there._non_persistent_buffers_set:
                module._non_persistent_buffers_set.add(name)
        owner.add_module(last, module)
    given = arguments_of(node) or {}
    with graph.inserting_before(node):
        called = graph.call_module(path, (given["input"],))
    called.meta.update(node.meta)
    node.replace_all_uses_with(called)
    graph.erase_node(node)


def _check(graph: fx.Graph, own: Settled) -> None:
    (node,) = (x for x in graph.nodes if x.name == own.node)
    with graph.inserting_after(node):
        graph.call_function(require_settled, (node, own.value, False, str(own.place)))


# Modules for functions. Parameters are on the meta device until the program's own are set.

_PARAMETERS = ("weight", "bias", "running_mean", "running_var")


def _convolution(dims: int, *, transposed: bool) -> Callable[[Arguments, fx.Node], nn.Module | None]:
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")

    def make(given: Arguments, node: fx.Node) -> nn.Module | None:
        names = ("stride", "padding", "dilation", "output_padding") if transposed else ("stride", "padding", "dilation")
        named: dict[str, Any] = {
            name: own if isinstance(own := given[name], str) else _numbers(own, dims) for name in names if name in given
        }
        if any(own is None for own in named.values()):
            return None
        groups, weight = given.get("groups", 1), given["weight"]
        first, second = weight.shape[:2]
        channels = (first, second * groups) if transposed else (second * groups, first)
        named |= {"groups": groups, "bias": "bias" in _given(given), "device": "meta"}
        module: nn.Module = kind(*channels, tuple(weight.shape[2:]), **named)
        return module

    return make


def _numbers(value: Any, dims: int) -> tuple[int, ...] | None:
    listed = [value] * dims if type(value) is int else list(value)
    listed = listed * dims if len(listed) == 1 else listed
    return tuple(listed) if all(type(own) is int for own in listed) else None


def _given(given: Arguments) -> list[str]:
    return [name for name in _PARAMETERS if isinstance(given.get(name), torch.Tensor)]


def _linear(given: Arguments, node: fx.Node) -> nn.Module | None:
    rows, columns = given["weight"].shape
    return nn.Linear(columns, rows, bias="bias" in _given(given), device="meta")


def _batch_norm(given: Arguments, node: fx.Node) -> nn.Module | None:
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(node.meta["val"].ndim)
    names = _given(given)
    if kind is None or given["training"] is not False or "running_mean" not in names:
        return None
    if ("weight" in names) != ("bias" in names):
        return None
    width, affine = len(given["running_mean"]), "weight" in names
    return kind(width, given["eps"], given["momentum"], affine=affine, device="meta")


def _layer_norm(given: Arguments, node: fx.Node) -> nn.Module | None:
    shape, eps = given["normalized_shape"], given["eps"]
    if not all(type(own) is int for own in shape):
        return None
    return nn.LayerNorm(list(shape), eps, bias="bias" in _given(given), device="meta")


def _group_norm(given: Arguments, node: fx.Node) -> nn.Module | None:
    if "bias" not in _given(given):
        return None
    return nn.GroupNorm(given["num_groups"], len(given["weight"]), given["eps"], device="meta")


def _prelu(given: Arguments, node: fx.Node) -> nn.Module | None:
    return nn.PReLU(len(given["weight"]), device="meta")


def _embedding(given: Arguments, node: fx.Node) -> nn.Module | None:
    rows, columns = given["weight"].shape
    return nn.Embedding(rows, columns, padding_idx=given.get("padding_idx"), device="meta")


_MAKERS: dict[Callable[..., Any], Callable[[Arguments, fx.Node], nn.Module | None]] = {
    **{getattr(functional, f"conv{d}d"): _convolution(d, transposed=False) for d in (1, 2, 3)},
    **{getattr(functional, f"conv_transpose{d}d"): _convolution(d, transposed=True) for d in (1, 2, 3)},
    functional.linear: _linear,
    functional.batch_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
    functional.group_norm: _group_norm,
    functional.prelu: _prelu,
    functional.embedding: _embedding,
}
