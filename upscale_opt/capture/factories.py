"""Records functions of torch that torch.fx would trace into or run.

They create tensors of sizes that come from a traced tensor (``torch.zeros(len(x), 8)``), tell the limits of a type
(``torch.finfo(x.dtype).min``), or pack sequences.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.nn.utils import rnn
from torch.utils._pytree import tree_leaves

_NAMES = (
    *("arange", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint", "randn", "randperm"),
    *("tril_indices", "triu_indices", "zeros", "full_like", "finfo", "iinfo", "tensor", "as_tensor"),
)
PACKING = (rnn.pack_padded_sequence, rnn.pad_packed_sequence)
"""Functions that become one node each. A tracer wraps them where the network's own files import them."""


@contextmanager
def recorded_factories() -> Iterator[None]:
    """Record calls of torch's factory functions, and of packing functions, with proxies, inside the context.

    torch itself would ask the proxy for its value, and the size would become a constant.
    """
    originals = [(torch, name, getattr(torch, name)) for name in _NAMES]
    originals += [(rnn, function.__name__, function) for function in PACKING]
    for home, name, function in originals:
        setattr(home, name, _recording(function))
    try:
        yield
    finally:
        for home, name, function in originals:
            setattr(home, name, function)


def _recording(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = next((x for x in tree_leaves((args, kwargs)) if isinstance(x, fx.Proxy)), None)
        if proxy is None:
            return function(*args, **kwargs)
        return proxy.tracer.create_proxy("call_function", function, args, kwargs)

    return call
