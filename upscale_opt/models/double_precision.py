"""How a network that was written for float32 runs in float64, in which exports are compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_any, tree_map

from upscale_opt.models.dispatching import TransparentMode

_SHORTER = (torch.float32, torch.float16, torch.bfloat16)


@contextmanager
def in_double_precision() -> Iterator[None]:
    """A context in which a network in float64 computes in float64 throughout.

    It may convert values to a shorter type, or make values in one (``torch.arange(6.0)``).
    """
    with _MixedTypes(), _NoShorterTypes():
        yield


class _NoShorterTypes(TransparentMode):
    """Computes in float64 what a network converts to a shorter type (``x.float()``)."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shortens = kwargs.get("dtype") in _SHORTER
        if func is torch.ops.aten._to_copy.default and args[0].dtype == torch.float64 and shortens:
            kwargs = {**kwargs, "dtype": torch.float64}
        return self.run(func, args, kwargs)


class _MixedTypes(TorchFunctionMode):
    """Calls functions that refuse float64 beside a shorter type with the values in float64.

    What a network makes in its forward is of the type that it was written for, and only some functions mix types.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            given = (args, kwargs)
            if not (tree_any(_is_double, given) and tree_any(_is_shorter, given)):
                raise
        args, kwargs = tree_map(lambda x: x.double() if _is_shorter(x) else x, given)
        return func(*args, **kwargs)


def _is_double(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype == torch.float64


def _is_shorter(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in _SHORTER
