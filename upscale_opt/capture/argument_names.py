"""Names of the arguments of operators, however they are given: by position or keyword, with torch's or NumPy's names.

`normalise` brings every call of a traced model into one form, once after tracing. `arguments_of` returns the arguments
of a node by name. Operator rules use only names. The positions come from torch's signatures, so no rule can get them
wrong.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._jit_internal import boolean_dispatched

_NUMPY = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}
"""NumPy names that torch's argument parser accepts for its own names (torch/csrc/utils/python_arg_parser.cpp)."""
_SYNONYMS = {"self": "input", "axis0": "dim0", "axis1": "dim1", "axis": "dim", "keepdims": "keepdim", "tensor": "input"}
"""Unusual names of single operators, and the common name of the same argument. Rules see only the common name."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operator.

    Attributes
    ----------
    name
        The operator's own name of the parameter.
    type
        Type as in a schema of torch (``Tensor``, ``int[]``), without the ``?`` of an optional one. None if it is not
        known.
    optional
        Whether the argument may be None.
    required, keyword_only
        Whether the argument must be given, and whether it can be given only by keyword.
    written
        Whether the operator writes into the argument.
    aliases
        Names of the alias sets of the argument in torch's schema. A result in the same set may share its memory.
    """

    name: str
    type: str | None = None
    optional: bool = True
    required: bool = False
    keyword_only: bool = False
    written: bool = False
    aliases: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Signature:
    """The parameters of one overload of an operator.

    Attributes
    ----------
    parameters
        The parameters, in order.
    returns
        Names of the alias sets of the results; None if they are not known.
    numpy
        Whether the operator also accepts NumPy's names.
    """

    parameters: tuple[Parameter, ...]
    returns: frozenset[str] | None = None
    numpy: bool = False

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of all parameters."""
        return frozenset(own.name for own in self.parameters)

    @functools.cached_property
    def positional(self) -> tuple[Parameter, ...]:
        """The parameters that may be given by position."""
        return tuple(own for own in self.parameters if not own.keyword_only)

    @property
    def takes_lengths_apart(self) -> bool:
        """Whether the operator accepts separate integers in place of one list of them: ``x.view(2, -1)``."""
        return len(self.positional) == 2 and (self.positional[1].type or "") in ("int[]", "SymInt[]")

    def own_name(self, name: str) -> str:
        """Return the operator's own name of a keyword."""
        if name in self.names or not self.numpy:
            return name
        meant = _NUMPY.get(name, name)
        return "self" if meant == "input" and "self" in self.names else meant

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the given arguments by the operator's own names, or None if the call does not fit this overload."""
        if self.takes_lengths_apart and len(args) > 1 and not isinstance(args[1], (tuple, list)):
            args = (args[0], args[1:]) if len(args) > 2 or type(args[1]) is int else args
        if len(args) > len(self.positional):
            return None
        given = {own.name: value for own, value in zip(self.positional, args, strict=False)}
        for name, value in kwargs.items():
            own = self.own_name(name)
            if own not in self.names or own in given:
                return None
            given[own] = value
        fits = all(own.name in given or not own.required for own in self.parameters)
        fits = fits and all(_fits(own, given[own.name]) for own in self.parameters if own.name in given)
        return given if fits else None


def arguments_of(node: fx.Node, module: torch.nn.Module | None = None) -> dict[str, Any] | None:
    """Return the arguments of a node by name. Arguments that the call omits are not listed.

    Parameters
    ----------
    node
        A call.
    module
        The module that the node calls, if it calls one.

    Returns
    -------
    dict
        Arguments by names that are common to all operators: the first tensor is ``input``, a dimension is ``dim``.
        None if the operator's signature is not known, or none of its overloads fits.
    """
    chosen = _chosen(node, module)
    return None if chosen is None else {_SYNONYMS.get(name, name): value for name, value in chosen[1].items()}


def writes_and_aliases(node: fx.Node) -> tuple[list[Any], list[Any] | None] | None:
    """Return the arguments that a call writes into, and those whose memory its result may share, from torch's schema.

    The second part is None if the schema names no such argument. The result may share memory even then (``dropout``).
    The whole result is None if there is no schema.
    """
    chosen = _chosen(node, None)
    if chosen is None or chosen[0].returns is None:
        return None
    signature, given = chosen
    parameters = [own for own in signature.parameters if own.name in given]
    returned = chosen[0].returns
    shared = [given[own.name] for own in parameters if own.aliases & returned]
    return [given[own.name] for own in parameters if own.written], shared if returned else None


def normalise(traced: fx.GraphModule) -> None:
    """Bring every call of a traced model into one form: positions where possible, then keywords with torch's names.

    ``torch.cat(tensors=[x, y], axis=1)`` becomes ``torch.cat([x, y], 1)``.
    """
    for node in traced.graph.nodes:
        if node.op not in ("call_function", "call_method", "call_module") or not node.kwargs:
            continue
        module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        chosen = _chosen(node, module)
        if chosen is None:
            continue
        signature, _ = chosen
        kwargs = {signature.own_name(name): value for name, value in node.kwargs.items()}
        args = list(node.args)
        for own in signature.positional[len(args) :]:
            if own.name not in kwargs or not _has_one_place(own.name, len(args), node, module):
                break
            args.append(kwargs.pop(own.name))
        node.args, node.kwargs = tuple(args), kwargs


def signatures_of(target: Any) -> tuple[Signature, ...]:
    """Return the signatures of a function, a tensor method (by its name) or a module class. Empty if not known."""
    try:
        return _signatures(target)
    except TypeError:  # the target cannot be hashed
        return ()


@functools.cache
def _signatures(target: Any) -> tuple[Signature, ...]:
    if isinstance(target, str):
        method = getattr(torch.Tensor, target, None)
        if isinstance(method, types.FunctionType):
            return _of_python(method)
        return _of_schemas(target) if method is not None else ()
    if isinstance(target, torch._ops.OpOverload):
        return (_of_schema(target._schema, numpy=False),)
    if isinstance(target, torch._ops.OpOverloadPacket):
        return tuple(_of_schema(getattr(target, name)._schema, numpy=False) for name in target.overloads())
    if isinstance(target, type) and issubclass(target, torch.nn.Module):
        return tuple(Signature(own.parameters[1:]) for own in _of_python(target.forward))
    dispatched = boolean_dispatched.get(target) if isinstance(target, types.FunctionType) else None
    if dispatched is not None:
        return _of_python(dispatched["if_false"])
    if isinstance(target, types.BuiltinFunctionType) and (target.__module__ or "").partition(".")[0] == "torch":
        return _of_schemas(target.__name__)
    return _of_python(target)


def _of_schemas(name: str) -> tuple[Signature, ...]:
    """Return the overloads of an ATen operator whose first argument is a tensor, or all if there is none."""
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    on_tensors = [own for own in schemas if own.arguments and str(own.arguments[0].type).startswith(_TENSORS)]
    return tuple(_of_schema(own, numpy=True) for own in on_tensors or schemas)


_TENSORS = ("Tensor", "Optional[Tensor]", "List[Tensor]")


def _of_schema(schema: Any, *, numpy: bool) -> Signature:
    parameters = []
    for own in schema.arguments:
        kind = str(own.type)
        optional = kind.startswith("Optional[")
        kind = kind.removeprefix("Optional[").removesuffix("]") if optional else kind
        inner = kind.removeprefix("List[").removesuffix("]")
        info = own.alias_info
        parameters.append(
            Parameter(
                own.name,
                inner if inner == kind else f"{inner}[]",
                optional,
                not own.has_default_value(),
                own.kwarg_only,
                info is not None and info.is_write,
                frozenset() if info is None else frozenset(info.before_set),
            )
        )
    returned = (own.alias_info for own in schema.returns)
    sets = frozenset(name for info in returned if info is not None for name in info.before_set)
    if any(str(own.type).startswith("List[") for own in schema.returns):
        # For a list of results, the schema names the alias set on the entries of the list. Python cannot see it.
        sets |= {name for own in parameters if not own.written for name in own.aliases}
    return Signature(tuple(parameters), sets, numpy)


def _of_python(function: Callable[..., Any]) -> tuple[Signature, ...]:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    if any(own.kind is own.VAR_POSITIONAL for own in found):
        return ()
    named = (own for own in found if own.kind is not own.VAR_KEYWORD)
    return (
        Signature(
            tuple(
                Parameter(own.name, required=own.default is own.empty, keyword_only=own.kind is own.KEYWORD_ONLY)
                for own in named
            )
        ),
    )


def _candidates(node: fx.Node, module: torch.nn.Module | None) -> tuple[Signature, ...]:
    if node.op == "call_module":
        return () if module is None else signatures_of(type(module))
    return signatures_of(node.target) if node.op in ("call_function", "call_method") else ()


def _chosen(node: fx.Node, module: torch.nn.Module | None) -> tuple[Signature, dict[str, Any]] | None:
    """Return the overload that fits a call, and the arguments by name.

    If several overloads fit, take the one in which most nodes are tensor arguments.
    """
    best: tuple[Signature, dict[str, Any]] | None = None
    most = 0
    for signature in _candidates(node, module):
        given = signature.bind(node.args, node.kwargs)
        if given is None:
            continue
        tensors = {own.name for own in signature.parameters if (own.type or "").startswith("Tensor")}
        number = sum(1 if isinstance(value, fx.Node) else -1 for name, value in given.items() if name in tensors)
        if best is None or number > most:
            best, most = (signature, given), number
    return best


def _has_one_place(name: str, position: int, node: fx.Node, module: torch.nn.Module | None) -> bool:
    """Whether all overloads with this name have it at this position, whichever overload torch's parser chooses."""
    return all(
        position < len(own.positional) and own.positional[position].name == name
        for own in _candidates(node, module)
        if name in own.names
    )


def _fits(parameter: Parameter, value: Any) -> bool:
    """Whether a value fits a parameter, as far as the type of the value tells."""
    kind = parameter.type
    if kind is None or (value is None and parameter.optional):
        return True
    listed = kind.endswith("[]")
    if isinstance(value, fx.Node):
        return kind not in ("str", "bool")
    if isinstance(value, (tuple, list)):
        return listed
    if isinstance(value, bool):
        return kind in ("bool", "Scalar", "number", "Any", "Tensor")
    if isinstance(value, int):
        return kind in ("int", "SymInt", "Scalar", "number", "float", "Tensor", "Any", "int[]", "SymInt[]")
    if isinstance(value, float):
        return kind in ("float", "Scalar", "number", "Tensor", "Any", "float[]")
    if isinstance(value, str):
        return kind == "str"
    return value is not None
