"""Runs a network that was written for float32 in float64. Exports are compared with the network in float64."""

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
    """A context manager in which a float64 network computes in float64 throughout.

    This also holds if the network converts values to a shorter type, or creates values of one
    (``torch.arange(6.0)``).
    """
    with _MixedTypes(), _NoShorterTypes():
        yield


class _NoShorterTypes(TransparentMode):
    """Keeps float64 where a network converts values to a shorter type (``x.float()``)."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shortens = kwargs.get("dtype") in _SHORTER
        if func is torch.ops.aten._to_copy.default and args[0].dtype == torch.float64 and shortens:
            kwargs = {**kwargs, "dtype": torch.float64}
        return self.run(func, args, kwargs)


class _MixedTypes(TorchFunctionMode):
    """Converts all arguments to float64 if a function refuses float64 together with a shorter type.

    A network may create tensors in its forward. They have the type for which it was written, and only some functions
    accept mixed types.
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
