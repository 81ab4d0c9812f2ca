"""Conversion of arguments to arrays and numbers. Nothing is rounded or truncated; only Booleans count as true."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from problems.errors import ProblemError

T = TypeVar("T")


def booleans(given: Any, what: str) -> np.ndarray:
    """A new Boolean array from Booleans, or from exactly 0 and 1.

    Parameters
    ----------
    given
        Array or sequence, any shape.
    what
        The name for error messages: ``access 'a': kept``.

    Raises
    ------
    ProblemError
        If it holds any other value.

    Examples
    --------
    >>> booleans([1, 0, 1.0], "kept").tolist()
    [True, False, True]
    >>> booleans([0.5, 0.2], "kept")
    Traceback (most recent call last):
    problems.errors.ProblemError: kept holds 0.5; give Booleans, or 0 and 1
    """
    array = _array(given, what)
    if array.dtype == bool or not array.size:
        return array.astype(bool)
    if array.dtype.kind not in "iuf":
        raise ProblemError(f"{what} holds {array.dtype.name}; give Booleans, or 0 and 1")
    odd = array[(array != 0) & (array != 1)]
    if odd.size:
        raise ProblemError(f"{what} holds {odd.flat[0]}; give Booleans, or 0 and 1")
    return array == 1


def whole_numbers(given: Any, what: str, numbers: str = "numbers") -> np.ndarray:
    """A new int64 array from whole numbers of an integer type.

    Parameters
    ----------
    given
        Array or sequence, any shape.
    what
        The name for error messages: ``block 'x': required``.
    numbers
        What the numbers are called there: ``channel numbers``.

    Raises
    ------
    ProblemError
        If it holds any other value, or numbers beyond int64.

    Examples
    --------
    >>> whole_numbers((2, 0), "required").tolist()
    [2, 0]
    >>> whole_numbers([0.5], "required")
    Traceback (most recent call last):
    problems.errors.ProblemError: required lists numbers, not float64; give whole numbers
    """
    array = _array(given, what)
    if not array.size:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        kind = "str" if array.dtype.kind == "U" else array.dtype.name
        raise ProblemError(f"{what} lists {numbers}, not {kind}; give whole numbers")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise ProblemError(f"{what} holds {array.max()}; give numbers below 2^63")
    return array.astype(np.int64)


def whole_number(value: Any, what: str, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number as an int.

    Raises
    ------
    ProblemError
        If it is of another type (for example a Boolean or a float), below `least` or above `most`.

    Examples
    --------
    >>> whole_number(np.int32(7), "seed", least=0)
    7
    >>> whole_number(True, "seed", least=0)
    Traceback (most recent call last):
    problems.errors.ProblemError: seed is True; give a whole number from 0 up
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or (least is not None and value < least) or (most is not None and value > most):
        limits = "" if least is None else f" from {least} up" if most is None else f" from {least} to {most}"
        raise ProblemError(f"{what} is {_shown(value)}; give a whole number{limits}")
    return int(value)


def flag(value: Any, what: str) -> bool:
    """A Boolean as a bool.

    Raises
    ------
    ProblemError
        If it is of another type.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ProblemError(f"{what} is {_shown(value)}; give True or False")
    return bool(value)


def text(value: Any, what: str) -> str:
    """A string.

    Raises
    ------
    ProblemError
        If it is of another type.
    """
    if not isinstance(value, str):
        raise ProblemError(f"{what} is {_shown(value)}; give a text")
    return value


def objects(given: Any, kind: type, what: str) -> tuple[Any, ...]:
    """A tuple of objects of one class.

    Raises
    ------
    ProblemError
        If it is not a sequence, or holds an object of another class.
    """
    for own in (found := items(given, what)):
        if not isinstance(own, kind):
            raise ProblemError(f"{what} hold {_shown(own)}, which is no {kind.__name__}; give a tuple of those")
    return found


def items(given: Any, what: str) -> tuple[Any, ...]:
    """A tuple of the items of a sequence or of another iterable.

    Raises
    ------
    ProblemError
        If it is a text, or cannot be iterated over.
    """
    try:
        if isinstance(given, (str, bytes)):
            raise TypeError("a text")
        return tuple(given)
    except TypeError as error:
        raise ProblemError(f"{what}: {_shown(given)} is no list; give a tuple or a list") from error


def of_kind(value: Any, kind: type[T] | tuple[type[T], ...], what: str) -> T:
    """The object itself, if it is of one class.

    Raises
    ------
    ProblemError
        If it is of another class.

    Examples
    --------
    >>> of_kind("layer1.json", dict, "the order")
    Traceback (most recent call last):
    problems.errors.ProblemError: the order is 'layer1.json'; give a dict
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise ProblemError(f"{what} is {_shown(value)}; give a {' or a '.join(own.__name__ for own in kinds)}")
    return value


def real(value: Any, what: str) -> float:
    """A number as a float. It may be infinite or NaN.

    Raises
    ------
    ProblemError
        If it is of another type, for example a text or a Boolean.
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise ProblemError(f"{what} is {_shown(value)}; give a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ProblemError(f"{what} is {_shown(value)}; give a number that is not as large") from error


def reals(given: Any, what: str) -> tuple[float, ...]:
    """Numbers as a tuple of floats; errors as in `items` and `real`."""
    return tuple(real(own, what) for own in items(given, what))


def finite_numbers(given: Any, what: str) -> np.ndarray:
    """A new float64 array of finite numbers.

    Parameters
    ----------
    given
        Array or sequence of whole or floating-point numbers, any shape.
    what
        The name for error messages: ``prices``.

    Raises
    ------
    ProblemError
        If it holds anything else, for example Booleans, texts, NaN, or infinite numbers.

    Examples
    --------
    >>> finite_numbers([1, 2], "prices")
    array([1., 2.])
    >>> finite_numbers([float("nan")], "prices")
    Traceback (most recent call last):
    problems.errors.ProblemError: prices holds nan; give finite numbers
    """
    array = _array(given, what)
    if array.size and array.dtype.kind not in "iuf":
        raise ProblemError(f"{what} holds {array.dtype.name}; give numbers")
    array = array.astype(np.float64)
    odd = array[~np.isfinite(array)]
    if odd.size:
        raise ProblemError(f"{what} holds {odd.flat[0]}; give finite numbers")
    return array


def _shown(value: Any) -> str:
    """A value as text for an error message: one line, shortened."""
    return f"{' '.join(repr(value).split()):.80}"


def _array(given: Any, what: str) -> np.ndarray:
    """An array of any numeric type. Values of which NumPy makes no array, or only one of objects, are refused."""
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise ProblemError(f"{what} is no array ({error}); give an array or a list of numbers") from error
    if array.dtype == object and array.size:
        raise ProblemError(f"{what} is no array of numbers; give an array or a list of them")
    return array
