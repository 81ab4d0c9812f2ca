"""Checks of arguments and of dataclass fields.

Each check returns the value that the caller uses from then on, or raises an error with a message of one sentence.
This module does not import torch.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, MappingView, Sequence, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from upscale_opt.errors import MaskError, ModelError, PlanError, UpscaleError

Check = Callable[[Any, str], Any]
"""``check(value, name)`` returns the value to use, or raises an error of this package."""


def settle_fields(instance: Any, **checks: Check) -> None:
    """Check fields of a frozen dataclass during its construction. The result of each check replaces the field."""
    for name, check in checks.items():
        object.__setattr__(instance, name, check(getattr(instance, name), name))


def optional(check: Check) -> Check:
    """Return a check that accepts None and passes all other values to `check`."""
    return lambda value, name: None if value is None else check(value, name)


def described(value: Any) -> str:
    """Describe a wrong value for an error message. The text is short, and omits the contents of a large value."""
    if value is None or isinstance(value, (bool, int, float, np.generic)):
        return str(value)
    if isinstance(value, (str, bytes, os.PathLike)):
        text = repr(value if isinstance(value, bytes) else str(value))
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def refused(value: Any, name: str, remedy: str, error: type[UpscaleError] = UpscaleError) -> UpscaleError:
    """Return the error to raise. Its message says what the argument is, and what to give instead."""
    return error(f"{name} is {described(value)}; give {remedy}")


def a_flag(value: Any, name: str) -> bool:
    """Require True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise refused(value, name, "True or False")
    return bool(value)


def whole(least: int, error: type[UpscaleError] = UpscaleError) -> Check:
    """Return a check that requires a whole number of at least `least`."""

    def check(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise refused(value, name, f"a whole number of at least {least}", error)
        return int(value)

    return check


def above(least: float, error: type[UpscaleError] = UpscaleError) -> Check:
    """Return a check that requires a number above `least`. The number may be infinite."""

    def check(value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > least:
            raise refused(value, name, f"a number above {least:g}", error)
        return float(value)

    return check


def at_least(least: float, error: type[UpscaleError] = UpscaleError) -> Check:
    """Return a check that requires a finite number of at least `least`."""

    def check(value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, Real) or not least <= float(value) < math.inf:
            raise refused(value, name, f"a number of at least {least:g}", error)
        return float(value)

    return check


def a_text(value: Any, name: str) -> str:
    """Require a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise refused(value, name, "a name")
    return value


def a_path(value: Any, name: str) -> str | Path:
    """Require the path of a file or a folder. It need not exist."""
    if not isinstance(value, (str, Path)) or not str(value):
        raise refused(value, name, "the path of a file or a folder, as text or as a pathlib.Path")
    return value


def an_amount(value: Any, name: str) -> Any:
    """Require a number or a text for a share of channels.

    `upscale_opt.arguments.amounts.require_amount` checks the number itself.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, Real)):
        raise refused(value, name, "the share of channels to remove, such as 0.5", MaskError)
    return value


def names(value: Any, name: str) -> Any:
    """Require one name or several names."""
    if isinstance(value, str):
        return value
    found = list(value) if is_listed(value) else None
    if found is not None and all(isinstance(own, str) for own in found):
        return found
    raise refused(value, name, "names, such as ['fc', 'layer4.*']", MaskError)


def is_listed(value: Any) -> bool:
    """Whether a value is a list, a set, a view of a mapping or an iterator. Arrays and modules do not count."""
    return isinstance(value, (Sequence, Set, Iterator, MappingView)) and not isinstance(value, (str, bytes))


def named(of: str, key: str = "name", error: type[UpscaleError] = UpscaleError) -> Check:
    """Return a check that requires a mapping whose keys are names."""

    def check(value: Any, name: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise refused(value, name, f"a mapping of every {key} to {of}", error)
        odd = [own for own in value if not isinstance(own, str)]
        if odd:
            raise error(f"{name} has the key {described(odd[0])}; its keys must be the {key} of each, as text")
        return value

    return check


def named_values(check_one: Check, of: str, key: str, error: type[UpscaleError]) -> Check:
    """Return a check that requires a mapping from names to values that `check_one` accepts."""

    def check(value: Any, name: str) -> Mapping[str, Any]:
        return {own: check_one(part, f"{name}[{own!r}]") for own, part in named(of, key, error)(value, name).items()}

    return check


def either(*checks: Check) -> Check:
    """Return a check that accepts every value that one of the checks accepts.

    If none accepts the value, the last check raises the error.
    """

    def check(value: Any, name: str) -> Any:
        for own in checks[:-1]:
            try:
                return own(value, name)
            except UpscaleError:
                continue
        return checks[-1](value, name)

    return check


def a_shape(value: Any, name: str) -> tuple[int, ...]:
    """Require the lengths of all axes of a tensor, and return them as a tuple."""
    if not isinstance(value, (tuple, list)) or not value:
        raise refused(value, name, "the shape of a tensor, such as (1, 3, 224, 224)", ModelError)
    return tuple(whole(1, ModelError)(own, f"{name}[{i}]") for i, own in enumerate(value))


def channel_numbers(value: Any, name: str) -> np.ndarray:
    """Numbers of channels; int64, shape (channels,). Raises `PlanError` otherwise."""
    remedy = "the numbers of channels, in order"
    if not isinstance(value, (np.ndarray, list, tuple)):
        raise refused(value, name, remedy, PlanError)
    try:
        array = np.asarray(value)
    except ValueError as error:  # parts of different lengths
        raise refused(value, name, remedy, PlanError) from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise refused(value, name, remedy, PlanError)
    return array.astype(np.int64, copy=False)


def callable_with(arguments: str, error: type[UpscaleError] = UpscaleError) -> Check:
    """Return a check that requires a callable."""

    def check(value: Any, name: str) -> Any:
        if not callable(value):
            raise refused(value, name, f"a function of {arguments}", error)
        return value

    return check


def anything(value: Any, name: str) -> Any:
    """Accept every value. The decorated function, or a function that it calls, checks the value."""
    return value


def an(home: str, kind: str, remedy: str, error: type[UpscaleError] = UpscaleError) -> Check:
    """Return a check that requires an instance of the class `kind` of the module `home`.

    The check imports the module when it first needs it.
    """

    def check(value: Any, name: str) -> Any:
        if not isinstance(value, getattr(importlib.import_module(home), kind)):
            raise refused(value, name, remedy, error)
        return value

    return check


def several(check_one: Check, remedy: str, error: type[UpscaleError] = UpscaleError) -> Check:
    """Return a check that requires a non-empty list or tuple. `check_one` must accept each of its entries."""

    def check(value: Any, name: str) -> Any:
        if not isinstance(value, (list, tuple)) or not value:
            raise error(f"{name} is {'empty' if isinstance(value, (list, tuple)) else described(value)}; give {remedy}")
        return type(value)(check_one(own, f"{name}[{i}]") for i, own in enumerate(value))

    return check


def parts_of(batch: Any) -> tuple[Any, ...]:
    """Return the parts of a batch of data. A batch that is a tensor has one part: the tensor.

    Raises
    ------
    MaskError
        If the batch is neither a tensor nor a tuple or list, or if a part is on the meta device.
    """
    if not isinstance(batch, (tuple, list)) and not hasattr(batch, "detach"):
        remedy = "a tensor, or the tuple of inputs with labels behind them"
        raise refused(batch, "a batch of the data", remedy, MaskError)
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    if any(getattr(part, "is_meta", False) for part in parts):
        raise MaskError("a batch of the data is on the meta device and has no values; give tensors with values")
    return parts
