"""Inputs and outputs of a lifted program: the parameters of the network's forward, and its nested results."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from upscale_opt.capture.examples import arguments_by_name
from upscale_opt.errors import ModelError
from upscale_opt.models.nested import entries_of, is_record, nested_tensors
from upscale_opt.modules.guards import require_argument, structure_of

_LEFT_OUT = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Argument:
    """A parameter of a forward.

    Attributes
    ----------
    name
        Its name. Names of ``*args`` start with an asterisk, as in torch.fx.
    default
        Its default, if it has one.
    given
        The value in the example. If it was left out, its default.
    is_left_out
        Whether the example has left it out.
    """

    name: str
    default: Any
    given: Any
    is_left_out: bool


def arguments_of_forward(model: nn.Module, inputs: tuple[Any, ...]) -> list[Argument]:
    """Return the parameters of a network's forward for the example inputs, in order."""
    named, left_out = arguments_by_name(model, inputs)
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = []
    for own in inspect.signature(model.forward).parameters.values():
        if own.kind in stars and not named.get(own.name):
            continue  # nothing was given
        name = f"{stars.get(own.kind, '')}{own.name}"
        found.append(Argument(name, own.default, named[own.name], own.name in left_out))
    return found


def arguments_of_program(program: ExportedProgram) -> list[Argument]:
    """Return the parameters for the inputs of a program, in order. Nested inputs have numbers in place of tensors."""
    leaves = [_Leaf(i) for i in range(len(program.graph_signature.user_inputs))]
    args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    entry = next((own for own in program.module_call_graph if not own.fqn and own.signature is not None), None)
    names = list(
        (entry.signature.forward_arg_names if entry is not None and entry.signature is not None else None) or ()
    )
    if len(names) < len(args):
        names = [_own_name(program, own) or f"input_{i}" for i, own in enumerate(args)]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return [Argument(name, _LEFT_OUT, value, False) for name, value in given.items()]


def _own_name(program: ExportedProgram, value: Any) -> str | None:
    return str(program.graph_signature.user_inputs[value.number]) if isinstance(value, _Leaf) else None


@dataclasses.dataclass(frozen=True)
class _Leaf:
    number: int


def placed(graph: fx.Graph, arguments: list[Argument]) -> tuple[list[Any], dict[str, fx.Node]]:
    """Add placeholders for the parameters of a forward, and nodes that take nested inputs apart.

    Returns
    -------
    list, dict
        The leaves of the given inputs, in the order of `torch.utils._pytree`: nodes for tensors, and constants. And
        the nodes by the text of their place: ``x``, ``x['left']``, ``x[0]``.
    """
    placeholders = []
    for own in arguments:
        with_default = own.default is not _LEFT_OUT and not own.name.startswith("*")
        placeholders.append(graph.placeholder(own.name, default_value=own.default if with_default else _LEFT_OUT))
    leaves: list[Any] = []
    places: dict[str, fx.Node] = {}
    for own, node in zip(arguments, placeholders, strict=True):
        if entries_of(own.given) is not None or not isinstance(own.given, (torch.Tensor, _Leaf)):
            numbers = not any(True for _ in nested_tensors(own.given))
            if not _has_leaf(own.given):
                name = own.name.lstrip("*")
                graph.call_function(require_argument, (node, structure_of(own.given, numbers=numbers), name))
        if not own.is_left_out:
            _open(graph, node, own.given, own.name.lstrip("*"), leaves, places)
    return leaves, places


def _has_leaf(value: Any) -> bool:
    return any(isinstance(own, _Leaf) for own in pytree.tree_leaves(value))


def _open(graph: fx.Graph, node: Any, value: Any, place: str, leaves: list[Any], places: dict[str, fx.Node]) -> None:
    if isinstance(value, (torch.Tensor, _Leaf)):
        places[place] = node
        leaves.append(node)
        return
    entries = entries_of(value)
    if entries is None or value is None:
        leaves.append(value)
        return
    for key, own in entries.items():
        if is_record(value):
            part = graph.call_function(getattr, (node, key))
            _open(graph, part, own, f"{place}.{key}", leaves, places)
        else:
            part = graph.call_function(operator.getitem, (node, key))
            _open(graph, part, own, f"{place}[{key!r}]", leaves, places)


def returned(graph: fx.Graph, leaves: list[Any], spec: pytree.TreeSpec) -> Any:
    """Return the argument of the output node: the leaves in the containers that the network returns.

    Raises
    ------
    ModelError
        If a container is neither a list, a tuple, a dictionary nor a dataclass.
    """
    return _packed(graph, pytree.tree_unflatten(leaves, spec))


def _packed(graph: fx.Graph, value: Any) -> Any:
    entries = entries_of(value)
    if entries is None:
        if isinstance(value, Mapping):
            entries = dict(value)
            return graph.call_function(type(value), (), {key: _packed(graph, own) for key, own in entries.items()})
        if value is not None and not isinstance(value, (fx.Node, bool, int, float, complex, str)):
            raise ModelError(f"the network returns a {type(value).__name__}, which cannot be written into an export")
        return value
    packed = {key: _packed(graph, own) for key, own in entries.items()}
    if is_record(value):
        return graph.call_function(type(value), (), {key: own for key, own in packed.items() if own is not None})
    if isinstance(value, dict):
        return packed
    if hasattr(value, "_fields"):
        return type(value)(*packed.values())
    return tuple(packed.values()) if isinstance(value, tuple) else list(packed.values())
