"""Checks of the fields of a plan. They run when a `upscale_opt.Plan` is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from upscale_opt.arguments.checks import Check, a_text, named, named_values, optional, refused
from upscale_opt.arguments.entrance import REFERENCE
from upscale_opt.arguments.mask_arrays import boolean_arrays
from upscale_opt.errors import PlanError
from upscale_opt.planning.reading import READ_MODES, Reading


def _masks(what: str) -> Check:
    by_name = named("its Boolean mask", "weight", PlanError)
    return lambda value, name: boolean_arrays(by_name(value, name), what, PlanError)


def _an_order(value: Any, name: str) -> np.ndarray:
    remedy = "the numbers of the channels stored, in order"
    if not isinstance(value, (np.ndarray, list, tuple)):
        raise refused(value, name, remedy, PlanError)
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise refused(value, name, remedy, PlanError) from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise refused(value, name, remedy, PlanError)
    return array.astype(np.int64, copy=False)


def _a_reading(value: Any, name: str) -> Reading:
    if isinstance(value, str):
        return Reading(value)
    if not isinstance(value, Reading) or value.mode not in READ_MODES:
        raise refused(value, name, f"a Reading, or one of the read modes {', '.join(READ_MODES)}", PlanError)
    return value


PLAN_FIELDS: dict[str, Check] = {
    "masks": _masks("the mask"),
    "output_masks": _masks("the output mask"),
    "orders": named_values(_an_order, "its order", "block", PlanError),
    "readings": named_values(_a_reading, "how it is read", "access", PlanError),
    "places": named_values(a_text, "the block in its place", "block", PlanError),
    "model": optional(REFERENCE),
}
"""Field name to its check."""
