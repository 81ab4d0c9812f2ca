"""The spellings of operators: functions, methods, in place or not, Python's operators, and names of ATen.

A table has one entry per operator (``clamp``). Its spellings are derived from torch (`torch.clip`, ``x.clamp_(0, 1)``,
``torch.ops.aten.clamp.default``). So the twin of a known operator is known, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

_ALIASES = {
    "abs": ("absolute",),
    "acos": ("arccos",),
    "acosh": ("arccosh",),
    "asin": ("arcsin",),
    "asinh": ("arcsinh",),
    "atan": ("arctan",),
    "atan2": ("arctan2",),
    "atanh": ("arctanh",),
    "cat": ("concat", "concatenate"),
    "clamp": ("clip",),
    "digamma": ("psi",),
    "div": ("divide", "true_divide"),
    "ge": ("greater_equal",),
    "gt": ("greater",),
    "le": ("less_equal",),
    "lt": ("less",),
    "movedim": ("moveaxis",),
    "mul": ("multiply",),
    "ne": ("not_equal",),
    "neg": ("negative",),
    "sigmoid": ("expit", "special_expit"),
    "sub": ("subtract",),
    "transpose": ("swapaxes", "swapdims"),
    "trunc": ("fix",),
}
"""Further names of operators in torch."""
_PYTHON = {
    "add": "add",
    "and": "bitwise_and",
    "eq": "eq",
    "floordiv": "floor_divide",
    "ge": "ge",
    "gt": "gt",
    "invert": "bitwise_not",
    "le": "le",
    "lshift": "bitwise_left_shift",
    "lt": "lt",
    "matmul": "matmul",
    "mod": "remainder",
    "mul": "mul",
    "ne": "ne",
    "neg": "neg",
    "abs": "abs",
    "or": "bitwise_or",
    "pos": "positive",
    "pow": "pow",
    "rshift": "bitwise_right_shift",
    "sub": "sub",
    "truediv": "div",
    "xor": "bitwise_xor",
}
"""Python's operators to operators of torch."""
_NAMESPACES = (torch, nn.functional, torch.special, torch._C._nn)


def methods_of(name: str, *, in_place: bool = True) -> Iterator[str]:
    """Names of the tensor methods that spell an operator, in place or not: ``clamp``, ``clamp_``, ``clip``, ``clip_``.

    Examples
    --------
    >>> list(methods_of("add"))
    ['add', 'add_', '__add__', '__radd__', '__iadd__']
    """
    found = list(_names_of(name, in_place))
    python = [own for own, meant in _PYTHON.items() if meant == name]
    found += [f"__{side}{own}__" for own in python for side in ("", "r", "i")]
    yield from (own for own in found if hasattr(torch.Tensor, own))


def functions_of(name: str, *, in_place: bool = True) -> Iterator[Callable[..., Any]]:
    """The functions of torch and of Python's `operator` that spell an operator, in place or not."""
    for spelled in _names_of(name, in_place):
        for namespace in _NAMESPACES:
            function = getattr(namespace, spelled, None)
            if callable(function) and not isinstance(function, type):
                yield function
    for own, meant in _PYTHON.items():
        if meant == name:
            for spelled in (own, f"{own}_", f"i{own}"):
                if hasattr(operator, spelled):
                    yield getattr(operator, spelled)


def aten_name(target: Any) -> str | None:
    """The name of an ATen function (``torch.ops.aten.clamp_.default`` is ``clamp_``). None for others."""
    if isinstance(target, torch._ops.OpOverload):
        target = target.overloadpacket
    if not isinstance(target, torch._ops.OpOverloadPacket):
        return None
    namespace, _, name = target._qualified_op_name.partition("::")
    return name if namespace == "aten" else None


def _names_of(name: str, in_place: bool) -> Iterator[str]:
    for own in (name, *_ALIASES.get(name, ())):
        yield from (own, f"{own}_") if in_place else (own,)
