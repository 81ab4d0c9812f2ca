"""Autograd functions with a backward of their own, kept as operators: torch.fx traces their forward only."""

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
    """Applies an autograd function: a module, so that it is copied and saved with what it is part of.

    Parameters
    ----------
    function
        A subclass of `torch.autograd.Function`.
    """

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the function's ``apply`` returns."""
        return self.function.apply(*arguments, **named)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return str(self.function.__name__)


class CustomFunctions:
    """The autograd functions that a forward applies while it is traced.

    Attributes
    ----------
    modules
        Path to module, for all that were applied.
    """

    def __init__(self, tracer: fx.Tracer, regions: Regions) -> None:
        self._tracer, self._regions = tracer, regions
        self.modules: dict[str, CustomFunction] = {}

    def applied(self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """A node that applies a function; a checkpointed part is traced into."""
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
        """Record what is applied to proxies, by ``apply`` itself or by a name it was given before."""
        outer, _APPLY.__code__ = _APPLY.__code__, _recording_code()
        _recorders.append(self.applied)
        try:
            yield
        finally:
            _recorders.pop()
            _APPLY.__code__ = outer


@contextmanager
def attached(model: nn.Module, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Modules as parts of a model for a while, so that torch.fx finds them."""
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


def apply_or_record(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What ``apply`` does while a network is traced."""
    if any(isinstance(x, fx.Proxy) for x in tree_leaves((arguments, named))):
        return _recorders[-1](function, arguments, named)
    return _original(function, *arguments, **named)


def _recording_code() -> types.CodeType:
    """Code in the place of that of ``apply``: names like ``straight_through = Straight.apply`` keep the rest."""
    __class__ = torch.autograd.Function  # what `super()` in the original refers to

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        from upscale_opt.capture.custom_functions import apply_or_record

        assert issubclass(cls, __class__)
        return apply_or_record(cls, args, kwargs)

    return apply.__code__
