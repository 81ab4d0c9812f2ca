"""The base of this package's dispatch modes: operators under it do all that they do without one."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class TransparentMode(TorchDispatchMode):
    """A dispatch mode whose operators count what they write into, those on lists of tensors (``_foreach_add_``), too.

    Autograd compares a tensor's version with that of the moment it was saved for the backward pass. Operators on lists
    raise it inside, where torch no longer counts under a dispatch mode (seen with torch 2.13): a backward pass that is
    an error without a mode would silently use changed values under one.
    """

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operator; subclasses end their ``__torch_dispatch__`` with it."""
        if func is torch.ops.aten.native_group_norm_backward.default and not args[-1][0]:
            # torch 2.13 crashes where the input in channels_last has no gradient: ask for it, and drop it.
            _, *others = func(*args[:-1], [True, *args[-1][1:]])
            return (None, *others)
        result = func(*args, **kwargs)
        for position, name in _lists_written(func):
            written = args[position] if position < len(args) else kwargs.get(name, ())
            torch.autograd.graph.increment_version([tensor for tensor in written if isinstance(tensor, torch.Tensor)])
        return result


_known: dict[Any, tuple[tuple[int, str], ...]] = {}


def _lists_written(func: Any) -> tuple[tuple[int, str], ...]:
    """Positions and names of an operator's arguments that are lists of tensors it writes into."""
    if func not in _known:
        schema = func._schema
        _known[func] = tuple(
            (i, own.name)
            for i, own in enumerate(schema.arguments if schema.is_mutable else ())
            if own.alias_info is not None and own.alias_info.is_write and isinstance(own.type, torch.ListType)
        )
    return _known[func]
