"""Lets functions of einops be traced: they become the reshapes and transposes of torch that they stand for.

einops chooses its backend by the type of the tensor. This module adds a backend for proxies of torch.fx. It is the
backend of torch, but for lengths: they stay symbols of the traced network. einops is optional. If the network has not
imported it, nothing happens.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from torch import fx


def support_einops() -> None:
    """Let functions of einops accept proxies, if einops has been imported."""
    if "einops" in sys.modules:
        _register()


@functools.cache
def _register() -> None:
    from einops import _backends

    class Backend(_backends.TorchBackend):
        """The backend of torch for proxies."""

        framework_name = __name__

        def is_appropriate_type(self, tensor: Any) -> bool:
            return issubclass(type(tensor), fx.Proxy)

        def shape(self, x: Any) -> list[Any]:
            # A list cannot be a key, so einops stores no proxies in its caches.
            return [x.shape[d] for d in range(len(x.shape))]

        def is_float_type(self, x: Any) -> bool:
            return True  # a wrong type makes the network itself fail

    _backends._loaded_backends.setdefault(Backend.framework_name, Backend())
