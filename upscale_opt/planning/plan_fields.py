"""Checks of the fields of a plan. They run when a `upscale_opt.Plan` is made."""

from __future__ import annotations

from typing import Any

from upscale_opt.arguments.checks import Check, a_text, channel_numbers, named, named_values, optional, refused
from upscale_opt.arguments.entrance import REFERENCE
from upscale_opt.arguments.mask_arrays import boolean_arrays
from upscale_opt.errors import PlanError
from upscale_opt.planning.reading import READ_MODES, Reading


def _masks(what: str) -> Check:
    by_name = named("its Boolean mask", "weight", PlanError)
    return lambda value, name: boolean_arrays(by_name(value, name), what, PlanError)


def _a_reading(value: Any, name: str) -> Reading:
    if isinstance(value, str):
        return Reading(value)
    if not isinstance(value, Reading) or value.mode not in READ_MODES:
        raise refused(value, name, f"a Reading, or one of the read modes {', '.join(READ_MODES)}", PlanError)
    return value


PLAN_FIELDS: dict[str, Check] = {
    "masks": _masks("the mask"),
    "output_masks": _masks("the output mask"),
    "orders": named_values(channel_numbers, "its order", "block", PlanError),
    "readings": named_values(_a_reading, "how it is read", "access", PlanError),
    "padding": named_values(channel_numbers, "the channels that pad it", "block", PlanError),
    "places": named_values(a_text, "the block in its place", "block", PlanError),
    "model": optional(REFERENCE),
}
"""Field name to its check."""
