"""What stands for a tensor while a network is traced: as torch.fx's, but changes of tensors are recorded or refused."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

_OWN = ("tracer", "node", "root", "attr", "_node")
_GRADIENT_HOOKS = ("register_hook", "register_post_accumulate_grad_hook")


class Untraceable(Exception):
    """Something that a trace would lose: the module that does it is not traced into. The message says what it is."""


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], Any]:
    def method(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


class Changing:
    """torch.fx turns ``x += y`` into ``x = x + y``, which is another thing if somebody else holds `x`.

    It also forgets what is assigned to an attribute of a tensor (``x.data = y``); here that cannot be traced.
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
        return self._attribute(name)

    def _attribute(self, name: str) -> Any:
        return Attribute(self, name)  # type: ignore[arg-type]


class Proxy(Changing, fx.Proxy):
    """A tensor, or whatever else a node computes."""


class Attribute(Changing, fx.proxy.Attribute):
    """An attribute of one, or a method that is about to be called."""
