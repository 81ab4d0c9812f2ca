"""What a trace holds for: values that are part of a network's code, or that its state_dict leaves out.

A condition on a buffer (``if self.counter > 0``), a table that is a plain attribute, a tensor made in ``forward``: an
export keeps what the network at hand has there. A plan remembers these values by a `Fingerprint` each, so that `load`
can tell whether another network of the same architecture has the same ones.
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
"""Values of a tensor with more elements are not listed but summed up, with weights of their own."""
TOLERANCE = 1e-5
"""Of floating-point values, relative: what another machine, or another precision, makes of the same computation."""


@dataclass(frozen=True)
class Fingerprint:
    """What is remembered of a tensor's values.

    Attributes
    ----------
    shape
        Of the tensor.
    values
        Floating point: the elements where these are few, else `MOST_LISTED` weighted sums of them. None for others.
    size
        Of the largest sum of absolute values among them: what their differences are compared with. 0 for others.
    digest
        Of the elements as int64 where they are no floating-point numbers. None for others.
    """

    shape: tuple[int, ...]
    values: tuple[float, ...] | None
    size: float
    digest: str | None

    def matches(self, other: Fingerprint) -> bool:
        """Whether these are the same values, rounding apart."""
        if self.shape != other.shape or self.digest != other.digest or (self.values is None) != (other.values is None):
            return False
        few = math.prod(self.shape) <= MOST_LISTED
        pairs = zip(self.values or (), other.values or (), strict=True)
        size = max(self.size, other.size)
        return all(abs(a - b) <= TOLERANCE * (max(abs(a), abs(b)) if few else size) for a, b in pairs)


def fingerprint_of(tensor: torch.Tensor) -> Fingerprint:
    """The fingerprint of a tensor's values."""
    shape = tuple(tensor.shape)
    if tensor.is_floating_point() or tensor.is_complex():
        elements = _elements(tensor)
        return Fingerprint(shape, _sums(elements), max(_sums(np.abs(elements)), default=0.0), None)
    content = np.ascontiguousarray(tensor.detach().cpu().long().numpy()).tobytes()
    return Fingerprint(shape, None, 0.0, hashlib.sha256(content).hexdigest()[:32])


def fingerprints_to_dict(fingerprints: Mapping[str, Fingerprint]) -> dict[str, Any]:
    """The JSON object of fingerprints by name."""
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
    """Fingerprints of a JSON object.

    Raises
    ------
    ProblemError
        If a field is missing or wrong; the message names it.
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
    """The elements in float64, the infinite ones and those that are no numbers in a form that adds up."""
    own = tensor.detach().cpu().flatten()
    elements = (own.real.double() + 2 * own.imag.double() if own.is_complex() else own.double()).numpy()
    return np.nan_to_num(elements, nan=0.5, posinf=1.0, neginf=-1.0)


def _sums(elements: np.ndarray) -> tuple[float, ...]:
    """The elements, or sums of them, every one weighted by a factor between 1 and 2 that its place decides."""
    if len(elements) <= MOST_LISTED:
        return tuple(elements.tolist())
    place = np.arange(len(elements))
    weights = 1 + place * ((math.sqrt(5) - 1) / 2) % 1
    return tuple(np.bincount(place % MOST_LISTED, weights * elements, MOST_LISTED).tolist())
