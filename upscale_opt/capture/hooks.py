"""Hooks of modules in a trace. Hooks of the network itself are traced; others pin channels, or are refused.

torch.fx traces only a network's ``forward``. It loses the hooks, which `torch.nn.Module` runs around ``forward`` when
the network is called.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from upscale_opt.errors import ModelError

Hook = TypeVar("Hook", bound=Callable[..., Any])

_GLOBAL = {
    "forward hooks": ("_global_forward_hooks", "_global_forward_pre_hooks"),
    "backward hooks": ("_global_backward_hooks", "_global_backward_pre_hooks"),
}


_own: list[Any] = []


def own_hook(hook: Hook) -> Hook:
    """Mark a forward hook as a hook of this package. A trace may ignore it."""
    _own.append(hook)
    return hook


def has_foreign_hooks(module: nn.Module) -> bool:
    """Whether a module has forward hooks that are not from this package. Such hooks may do anything."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not any(hook is own for own in _own) for hook in hooks)


def hooks_of(module: nn.Module) -> str | None:
    """Name the kind of a module's hooks that see or change tensors or gradients, for messages. None without any."""
    if has_foreign_hooks(module):
        return "forward hooks"
    return "backward hooks" if has_backward_hooks(module) else None


def has_backward_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks that run in the backward pass. A trace cannot keep them."""
    return bool(module._backward_hooks or module._backward_pre_hooks)


def require_traceable_hooks(model: nn.Module) -> None:
    """Refuse hooks that cannot be kept, neither in the trace nor with a submodule.

    Raises
    ------
    ModelError
        If the network itself has backward hooks, or if global hooks (for all modules) are registered.
    """
    if has_backward_hooks(model):
        raise ModelError(
            "the model has backward hooks, which an export would not call; "
            "remove them and register them on the export's module"
        )
    for kind, names in _GLOBAL.items():
        if any(getattr(torch.nn.modules.module, name) for name in names):
            raise ModelError(f"{kind} of all modules are registered; remove them while a model is traced")


def forward_of(model: nn.Module, function: types.FunctionType) -> types.FunctionType:
    """Return the function that defines the parameters of a network's forward.

    This is the function of a method that was set on the network object, or else `function`, the forward of its class.
    """
    own = vars(model).get("forward")
    if isinstance(own, types.MethodType) and own.__self__ is model and isinstance(own.__func__, types.FunctionType):
        return own.__func__
    return function


def called_whole(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a network with its hooks: ``f(network, *inputs)``.

    If a forward was set on the network object, rather than on its class, this forward runs between the hooks.

    Parameters
    ----------
    forward
        The function that runs between the hooks otherwise. Its arguments are the same.

    Raises
    ------
    ModelError
        When the function is called: if the forward on the network object does not accept the given inputs.
    """

    @functools.wraps(forward)  # torch.fx reads the annotations of the wrapped function
    def call(model: nn.Module, *inputs: Any) -> Any:
        own = vars(model).get("forward")
        if own is not None and not _takes(own, inputs):
            raise ModelError(
                "the model's forward was replaced by a forward with other parameters; define it in its class"
            )
        if hooks_of(model) is None:
            return forward(model, *inputs) if own is None else own(*inputs)
        if own is not None:
            return nn.Module._call_impl(model, *inputs)
        vars(model)["forward"] = functools.partial(forward, model)
        try:
            return nn.Module._call_impl(model, *inputs)
        finally:
            del vars(model)["forward"]

    return call


def _takes(function: Callable[..., Any], inputs: tuple[Any, ...]) -> bool:
    try:
        inspect.signature(function).bind(*inputs)
    except (TypeError, ValueError):
        return False
    return True
