"""Inputs of networks that are nested: tensors in lists, tuples, dictionaries and dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch

MAPPINGS = (dict, OrderedDict)
"""The mappings that count as containers. Other mappings count as one object."""


def map_nested(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a nested value with every leaf replaced by the result of a function. The containers are new objects.

    Containers are lists, tuples (also named ones), dictionaries and instances of dataclasses.

    Examples
    --------
    >>> map_nested(lambda x: x + 1, {"a": [1, 2], "b": (3,)})
    {'a': [2, 3], 'b': (4,)}
    """
    entries = entries_of(value)
    if entries is None:
        return function(value)
    return rebuilt(value, {key: map_nested(function, own) for key, own in entries.items()})


def map_tensors(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Return a nested value with every tensor replaced by the result of a function. Other leaves stay."""
    return map_nested(lambda x: function(x) if isinstance(x, torch.Tensor) else x, value)


def nested_tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield all tensors of a nested value, in order."""
    entries = entries_of(value)
    if entries is not None:
        for own in entries.values():
            yield from nested_tensors(own)
    elif isinstance(value, torch.Tensor):
        yield value


def entries_of(value: Any) -> dict[Any, Any] | None:
    """Return the entries of a container by key, index or name of the field. None if the value is no container."""
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return dict(enumerate(value))
    if type(value) in MAPPINGS:
        return dict(value)
    if is_record(value):
        return {own.name: getattr(value, own.name) for own in dataclasses.fields(value) if hasattr(value, own.name)}
    return None


def is_record(value: Any) -> bool:
    """Whether a value is an instance of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def rebuilt(value: Any, entries: dict[Any, Any]) -> Any:
    """Return a container of the same kind with other entries."""
    if isinstance(value, (list, tuple)):
        return type(value)(*entries.values()) if hasattr(value, "_fields") else type(value)(entries.values())
    if type(value) in MAPPINGS:
        return type(value)(entries)
    result = copy.copy(value)
    for name, own in entries.items():
        object.__setattr__(result, name, own)  # the dataclass may be frozen
    return result
