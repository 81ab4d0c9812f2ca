"""Fingerprints of values for which a trace is valid: constants of a network's code, and values outside its state_dict.

Examples are a condition on a buffer (``if self.counter > 0``), a table in a plain attribute, and a tensor created in
``forward``. An export keeps the values of the traced network. A plan stores a `Fingerprint` of each, so that `load` can
check whether another network of the same architecture has the same values.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from problems import ProblemError
from problems.files import reject_unknown_fields, require_field

if TYPE_CHECKING:
    import torch

MOST_LISTED = 16
"""Values of a tensor with more elements are not listed. Weighted sums of them are stored instead."""
TOLERANCE = 1e-5
"""Relative tolerance of floating-point values. Another machine or precision may give slightly different results."""


@dataclass(frozen=True)
class Fingerprint:
    """A summary of a tensor's values, by which other tensors are recognised as equal.

    Attributes
    ----------
    shape
        Shape of the tensor.
    values
        For floating-point tensors: all elements if they are few, else `MOST_LISTED` weighted sums of them. None for
        other tensors.
    size
        For floating-point tensors: the largest of the same values, computed from the absolute elements. Differences
        are relative to it. 0 for other tensors.
    digest
        For other tensors: a hash of the elements as int64. None for floating-point tensors.
    """

    shape: tuple[int, ...]
    values: tuple[float, ...] | None
    size: float
    digest: str | None

    def matches(self, other: Fingerprint) -> bool:
        """Whether two fingerprints are of the same values, except for rounding."""
        if self.shape != other.shape or self.digest != other.digest or (self.values is None) != (other.values is None):
            return False
        few = math.prod(self.shape) <= MOST_LISTED
        pairs = zip(self.values or (), other.values or (), strict=True)
        size = max(self.size, other.size)
        return all(abs(a - b) <= TOLERANCE * (max(abs(a), abs(b)) if few else size) for a, b in pairs)


def fingerprint_of(tensor: torch.Tensor) -> Fingerprint:
    """Return the fingerprint of a tensor's values."""
    shape = tuple(tensor.shape)
    if tensor.is_floating_point() or tensor.is_complex():
        elements = _elements(tensor)
        return Fingerprint(shape, _sums(elements), max(_sums(np.abs(elements)), default=0.0), None)
    content = np.ascontiguousarray(tensor.detach().cpu().long().numpy()).tobytes()
    return Fingerprint(shape, None, 0.0, hashlib.sha256(content).hexdigest()[:32])


def fingerprints_to_dict(fingerprints: Mapping[str, Fingerprint]) -> dict[str, Any]:
    """Return fingerprints by name as a JSON object."""
    return {
        name: {
            "shape": list(own.shape),
            "values": None if own.values is None else list(own.values),
            "size": own.size,
            "digest": own.digest,
        }
        for name, own in fingerprints.items()
    }


def fingerprints_from_dict(raw: dict[str, Any], where: str) -> dict[str, Fingerprint]:
    """Read fingerprints by name from a JSON object.

    Raises
    ------
    ProblemError
        If a field is missing or wrong. The message names it.
    """
    found = {}
    for name, own in raw.items():
        place = f"{where} {name!r}"
        if not isinstance(own, dict):
            raise ProblemError(f"{place} must be an object")
        reject_unknown_fields(own, {"shape", "values", "size", "digest"}, place)
        shape = require_field(own, "shape", list, place)
        values = require_field(own, "values", (list, type(None)), place)
        size = require_field(own, "size", (int, float), place)
        digest = require_field(own, "digest", (str, type(None)), place)
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ProblemError(f"{place}: field 'shape' must list whole numbers")
        if not all(type(v) in (int, float) and math.isfinite(v) for v in (size, *(values or ()))):
            raise ProblemError(f"{place}: fields 'values' and 'size' must be finite numbers")
        if (values is None) == (digest is None) or (values is not None and len(values) != _length(shape)):
            raise ProblemError(f"{place} must have either a digest or as many values as its shape asks for")
        numbers = None if values is None else tuple(map(float, values))
        found[name] = Fingerprint(tuple(shape), numbers, float(size), digest)
    return found


def _length(shape: list[int]) -> int:
    return min(math.prod(shape), MOST_LISTED)


def _elements(tensor: torch.Tensor) -> np.ndarray:
    """Return the elements in float64. NaN and infinite elements are replaced by numbers, so that sums are finite."""
    own = tensor.detach().cpu().flatten()
    elements = (own.real.double() + 2 * own.imag.double() if own.is_complex() else own.double()).numpy()
    return np.nan_to_num(elements, nan=0.5, posinf=1.0, neginf=-1.0)


def _sums(elements: np.ndarray) -> tuple[float, ...]:
    """Return the elements if they are few, else weighted sums. The weight depends on the position, from 1 to 2."""
    if len(elements) <= MOST_LISTED:
        return tuple(elements.tolist())
    place = np.arange(len(elements))
    weights = 1 + place * ((math.sqrt(5) - 1) / 2) % 1
    return tuple(np.bincount(place % MOST_LISTED, weights * elements, MOST_LISTED).tolist())
