"""Checks in exports: what the trace of a network took for granted must hold for every later call."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from upscale_opt.models.nested import entries_of

TENSOR = "*"
"""Stands for a tensor or a number in the text of a structure."""


@fx.node.has_side_effect
def require_argument(value: Any, expected: str, name: str) -> Any:
    """Check that an argument of an export has the structure of the example input.

    Parameters
    ----------
    value
        The argument.
    expected
        Its structure, as `structure_of` writes it.
    name
        Its name, for the message.

    Raises
    ------
    ValueError
        If the structure differs.
    """
    if isinstance(value, fx.Proxy):  # the code of an export is being traced
        return value.tracer.create_proxy("call_function", require_argument, (value, expected, name), {})
    if structure_of(value, numbers=TENSOR not in expected) != expected:
        raise ValueError(
            f"this network was exported for {name}={expected} ({TENSOR} is a tensor or a number), not for "
            f"{structure_of(value)}; export it again with such an input"
        )
    return None


@fx.node.has_side_effect
def require_settled(value: Any, expected: Any, is_length: bool, place: str) -> Any:
    """Check that a value computed from sizes is the same as for the example input, because the trace depends on it.

    Parameters
    ----------
    value
        The value, or an object of which only the length counts.
    expected
        The value or the length in the trace.
    is_length
        Whether only the length counts.
    place
        The source line that needed the value, for the message.

    Raises
    ------
    ValueError
        If the value differs.
    """
    if isinstance(value, fx.Proxy):
        again = getattr(value.tracer, "settle_again", None)
        if again is not None:  # the tracer of `upscale_opt.trace` adds a check of its own
            return again(value.node, expected, is_length, place)
        return value.tracer.create_proxy("call_function", require_settled, (value, expected, is_length, place), {})
    value = len(value) if is_length else value
    if value != expected:
        raise ValueError(
            f"this network was exported for inputs of another size: in {place} it takes {expected!r}, and for this "
            f"input it would take {value!r}; export it again with an input of this size"
        )
    return None


def structure_of(value: Any, *, numbers: bool = False) -> str:
    """Write the structure of an argument: containers, constants, and `TENSOR` for each tensor.

    Parameters
    ----------
    value
        Any argument.
    numbers
        Write numbers as they are. Otherwise they are written as tensors are.

    Examples
    --------
    >>> structure_of({"left": torch.zeros(2), "right": [None, True, 3]})
    '{left: *, right: [None, True, *]}'
    """
    entries = entries_of(value)
    if entries is None:
        is_number = isinstance(value, (int, float, complex)) and not isinstance(value, bool)
        return TENSOR if isinstance(value, torch.Tensor) or (is_number and not numbers) else repr(value)
    parts = (structure_of(own, numbers=numbers) for own in entries.values())
    if isinstance(value, (list, tuple)):
        left, right = "[]" if isinstance(value, list) else "()"
        return f"{left}{', '.join(parts)}{right}"
    named = ", ".join(f"{key}: {part}" for key, part in zip(entries, parts, strict=True))
    return f"{{{named}}}" if isinstance(value, dict) else f"{type(value).__name__}({named})"
