"""Keeps custom autograd functions as operators. torch.fx would trace only their forward and lose their backward."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointFunction

from upscale_opt.capture.proxies import Untraceable
from upscale_opt.capture.regions import Regions


class CustomFunction(nn.Module):
    """A module that applies an autograd function. As a module, it is copied and saved with the network.

    Parameters
    ----------
    function
        A subclass of `torch.autograd.Function`.
    """

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Return the result of the function's ``apply``."""
        return self.function.apply(*arguments, **named)

    def extra_repr(self) -> str:
        """Return the text that `print` shows."""
        return str(self.function.__name__)


class CustomFunctions:
    """The autograd functions that a forward applies while it is traced.

    Attributes
    ----------
    modules
        Path to module, for all functions that were applied.
    """

    def __init__(self, tracer: fx.Tracer, regions: Regions) -> None:
        self._tracer, self._regions = tracer, regions
        self.modules: dict[str, CustomFunction] = {}

    def applied(self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Create a node that applies a function. Trace into the function of a checkpoint instead."""
        if function is CheckpointFunction:
            run, _preserves_random_state, *inputs = arguments
            with self._regions.reentrant(tuple(inputs)):
                return run(*inputs)
        try:
            return self._tracer.create_proxy("call_module", self._path(function), arguments, named)
        except NotImplementedError as error:
            raise Untraceable(f"{function.__name__}, which is given more than tensors and numbers") from error

    def _path(self, function: Any) -> str:
        for path, module in self.modules.items():
            if module.function is function:
                return path
        path = self._tracer.get_fresh_qualname(f"{function.__name__.lower()}_function")
        while path in self.modules:
            path += "_"
        self.modules[path] = CustomFunction(function)
        return path

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record functions that are applied to proxies inside the context.

        This also works for other names of ``apply``, such as ``straight_through = Straight.apply``.
        """
        outer, _APPLY.__code__ = _APPLY.__code__, _recording_code()
        _recorders.append(self.applied)
        try:
            yield
        finally:
            _recorders.pop()
            _APPLY.__code__ = outer


@contextmanager
def attached(model: nn.Module, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Add modules to a model during the context, so that torch.fx finds them."""
    model._modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del model._modules[name]


_APPLY: Any = torch.autograd.Function.apply.__func__  # type: ignore[attr-defined]
_original = types.FunctionType(
    _APPLY.__code__, _APPLY.__globals__, _APPLY.__name__, _APPLY.__defaults__, _APPLY.__closure__
)
_recorders: list[Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]] = []
_refusers: list[Callable[[Any], None]] = []


@contextmanager
def refused_functions(refuse: Callable[[Any], None]) -> Iterator[None]:
    """Call `refuse` with every autograd function that is applied inside the context."""
    outer, _APPLY.__code__ = _APPLY.__code__, _recording_code()
    _refusers.append(refuse)
    try:
        yield
    finally:
        _refusers.pop()
        _APPLY.__code__ = outer


def apply_or_record(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Replace ``apply`` while a network is traced: record the call if an argument is a proxy, else run it."""
    if _refusers:
        _refusers[-1](function)
    if any(isinstance(x, fx.Proxy) for x in tree_leaves((arguments, named))):
        return _recorders[-1](function, arguments, named)
    return _original(function, *arguments, **named)


def _recording_code() -> types.CodeType:
    """Return the code that replaces the code of ``apply`` during tracing.

    Only the code object is replaced, so that names such as ``straight_through = Straight.apply`` use it, too.
    """
    __class__ = torch.autograd.Function  # the cell that `super()` in the original uses

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        from upscale_opt.capture.custom_functions import apply_or_record

        assert issubclass(cls, __class__)
        return apply_or_record(cls, args, kwargs)

    return apply.__code__
