"""Proxies of tensors during tracing that give Python a value where the tracer knows it."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx import proxy

from upscale_opt.capture.known_values import MEASURES
from upscale_opt.capture.proxies import Changing
from upscale_opt.capture.settled import CONDITION, KEY, LENGTH, TEXT
from upscale_opt.capture.source_lines import asks_for_class

_VALUES = ("item", "tolist", "numpy")
"""Methods that convert a tensor to Python or NumPy objects."""
_OF_MAPPINGS = ("keys", "values", "items", "get")


class ValueProxy(Changing, fx.Proxy):
    """A proxy that returns its value when Python needs one, if the tracer knows it.

    Known are, for example, the value of a buffer and the shape of a parameter.
    """

    tracer: Any

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The type of the value if the network's code asks for it, and otherwise the proxy's own type."""
        return self.tracer.type_of(self.node) or type(self) if asks_for_class(sys._getframe(1)) else type(self)

    def _attribute(self, name: str) -> Any:
        known, value = self.tracer.measure(self.node, name) if name in MEASURES else (False, None)
        return value if known and not callable(value) else ValueAttribute(self, name)

    def __add__(self, other: Any) -> Any:
        """A sum. Tuples of sizes or tensors are joined entry by entry: ``x.shape[:-1] + (n,)`` has the entry n."""
        return (*self, *other) if isinstance(other, tuple) and self._is_tuple() else super().__add__(other)  # type: ignore[misc]

    def __radd__(self, other: Any) -> Any:
        return (*other, *self) if isinstance(other, tuple) and self._is_tuple() else super().__radd__(other)  # type: ignore[misc]

    def _is_tuple(self) -> bool:
        return not self.tracer.knows(self.node) and issubclass(self.tracer.type_of(self.node) or object, tuple)

    def __len__(self) -> int:
        length: int = self.tracer.value_of(self.node, LENGTH)
        return length

    def __int__(self) -> int:
        return int(self.tracer.value_of(self.node))

    def __float__(self) -> float:
        return float(self.tracer.value_of(self.node))

    def __complex__(self) -> complex:
        return complex(self.tracer.value_of(self.node))

    def __index__(self) -> int:
        return operator.index(self.tracer.value_of(self.node))

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.tracer.value_of(self.node), digits)

    def __str__(self) -> str:
        return str(self.tracer.value_of(self.node, TEXT)) if self.tracer.is_asked(self.node) else repr(self)

    def __format__(self, form: str) -> str:
        return format(self.tracer.value_of(self.node, TEXT) if self.tracer.is_asked(self.node) else repr(self), form)

    def __hash__(self) -> int:
        return hash(self.tracer.value_of(self.node, KEY)) if self.tracer.is_asked(self.node) else object.__hash__(self)

    def keys(self) -> Any:
        """Return the keys of a dictionary, for ``**x``."""
        keys = self.tracer.keys_of(self.node)
        return super().keys() if keys is None else keys

    def __contains__(self, entry: Any) -> bool:
        keys = self.tracer.keys_of(self.node)
        return bool(entry in (self.tracer.value_of(self.node, CONDITION) if keys is None else keys))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        value = self.tracer.value_of(self.node)
        return np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value, dtype=dtype)


class ValueAttribute(ValueProxy, proxy.Attribute):
    """The proxy of an attribute or a method of a tensor."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        if self.attr in MEASURES:
            known, value = self.tracer.measure(self.root.node, self.attr)
            if known:
                return value(*args, **kwargs)
        if self.attr in _VALUES and self.tracer.knows(self.root.node):
            return getattr(self.tracer.value_of(self.root.node), self.attr)(*args, **kwargs)
        keys = self.tracer.keys_of(self.root.node) if self.attr in _OF_MAPPINGS else None
        if keys is not None:
            root: Any = self.root
            entries = {key: root[key] for key in keys}
            return getattr(entries, self.attr)(*args, **kwargs)
        return super().__call__(*args, **kwargs)


@contextmanager
def assignments_to_buffers(assign: Callable[[nn.Module, str, fx.Proxy], None]) -> Iterator[None]:
    """Call `assign` when forward assigns a proxy to a buffer. torch itself would refuse the assignment."""
    original = nn.Module.__setattr__

    def set_attribute(module: nn.Module, name: str, value: Any) -> None:
        if isinstance(value, fx.Proxy) and isinstance(module.__dict__.get("_buffers", {}).get(name), torch.Tensor):
            assign(module, name, value)
        else:
            original(module, name, value)

    nn.Module.__setattr__ = set_attribute  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.__setattr__ = original  # type: ignore[method-assign]
