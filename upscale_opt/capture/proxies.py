"""Proxies of tensors during tracing. Unlike torch.fx's, they record in-place changes of tensors, or refuse them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

_OWN = ("tracer", "node", "root", "attr", "_node")
_GRADIENT_HOOKS = ("register_hook", "register_post_accumulate_grad_hook")
_OF_ARRAYS = ("__array_", "__cuda_array_interface__")
"""Starts of names that NumPy and torch look for on an object, to find out whether it is an array."""


class Untraceable(Exception):
    """A module does something that a trace would lose, so the module is not traced into. The message names it."""


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], Any]:
    def method(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


class Changing:
    """A mixin that keeps ``x += y`` in place and refuses assignments to attributes of tensors.

    torch.fx turns ``x += y`` into ``x = x + y``. The meaning differs if other code holds the same tensor `x`. torch.fx
    also loses an assignment to an attribute of a tensor (``x.data = y``); this class raises `Untraceable` for it.
    """

    __iadd__ = _in_place(operator.iadd)
    __isub__ = _in_place(operator.isub)
    __imul__ = _in_place(operator.imul)
    __itruediv__ = _in_place(operator.itruediv)
    __ipow__ = _in_place(operator.ipow)
    __ifloordiv__ = _in_place(operator.ifloordiv)
    __imod__ = _in_place(operator.imod)
    __iand__ = _in_place(operator.iand)
    __ior__ = _in_place(operator.ior)
    __ixor__ = _in_place(operator.ixor)
    __ilshift__ = _in_place(operator.ilshift)
    __irshift__ = _in_place(operator.irshift)

    tracer: Any

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _OWN:
            raise Untraceable(f"{name!r} of a tensor is assigned")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _GRADIENT_HOOKS:
            raise Untraceable("a gradient hook on a tensor")
        if name.startswith(_OF_ARRAYS):
            raise AttributeError(name)
        return self._attribute(name)

    def _attribute(self, name: str) -> Any:
        return Attribute(self, name)  # type: ignore[arg-type]


class Proxy(Changing, fx.Proxy):
    """The proxy of a node's result, a tensor or another object."""


class Attribute(Changing, fx.proxy.Attribute):
    """The proxy of an attribute of such a result, or of a method that will be called."""
