"""The base class of this package's dispatch modes. Operators behave under it as they do without a mode."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class TransparentMode(TorchDispatchMode):
    """A dispatch mode that keeps the version counters of tensors correct.

    Autograd saves the version of a tensor with it for the backward pass, and later compares the two. Without a mode,
    operators on lists of tensors (``_foreach_add_``) increase the version themselves. Under a dispatch mode torch does
    not count these writes (seen with torch 2.13). A backward pass that raises an error without a mode would then
    silently use changed values. This class increases the version itself.
    """

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operator. Subclasses call this at the end of their ``__torch_dispatch__``."""
        if func is torch.ops.aten.native_group_norm_backward.default and not args[-1][0]:
            # torch 2.13 crashes if the input is in channels_last and its gradient is not requested. Request it and
            # drop it.
            _, *others = func(*args[:-1], [True, *args[-1][1:]])
            return (None, *others)
        result = func(*args, **kwargs)
        for position, name in _lists_written(func):
            written = args[position] if position < len(args) else kwargs.get(name, ())
            torch.autograd.graph.increment_version([tensor for tensor in written if isinstance(tensor, torch.Tensor)])
        return result


_known: dict[Any, tuple[tuple[int, str], ...]] = {}


def _lists_written(func: Any) -> tuple[tuple[int, str], ...]:
    """Return positions and names of those arguments of an operator that are lists of tensors it writes into."""
    if func not in _known:
        schema = func._schema
        _known[func] = tuple(
            (i, own.name)
            for i, own in enumerate(schema.arguments if schema.is_mutable else ())
            if own.alias_info is not None and own.alias_info.is_write and isinstance(own.type, torch.ListType)
        )
    return _known[func]
