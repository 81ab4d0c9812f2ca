"""What the fields of a plan must be, checked when a `upscale_opt.Plan` is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from upscale_opt.arguments.checks import Check, a_text, named, named_values, names, optional, refused, whole
from upscale_opt.arguments.entrance import REFERENCE
from upscale_opt.arguments.mask_arrays import boolean_arrays
from upscale_opt.errors import PlanError


def _masks(what: str) -> Check:
    by_name = named("its Boolean mask", "weight", PlanError)
    return lambda value, name: boolean_arrays(by_name(value, name), what, PlanError)


def _an_order(value: Any, name: str) -> np.ndarray:
    remedy = "the numbers of the channels stored, in order"
    if not isinstance(value, (np.ndarray, list, tuple)):
        raise refused(value, name, remedy, PlanError)
    try:
        array = np.asarray(value)
    except ValueError as error:  # parts of different lengths
        raise refused(value, name, remedy, PlanError) from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise refused(value, name, remedy, PlanError)
    return array.astype(np.int64, copy=False)


def _set_of_names(value: Any, name: str) -> frozenset[str]:
    return frozenset([value] if isinstance(value, str) else names(value, name))


PLAN_FIELDS: dict[str, Check] = {
    "masks": _masks("the mask"),
    "outputs": _masks("the output mask"),
    "orders": named_values(_an_order, "its order", "block", PlanError),
    "widths": named_values(whole(1, PlanError), "its width", "access", PlanError),
    **dict.fromkeys(("reads", "kernels", "places"), named_values(a_text, "what it is", "name", PlanError)),
    "model": optional(REFERENCE),
    "slices": optional(_set_of_names),
}
"""Field to check."""
