"""Plan files: JSON, versions 1 to 7. Format: docs/formats.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from problems import ProblemError
from problems.blocks import MAX_SIZE
from problems.conversions import whole_number
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.order_files import PLAN_FORMAT, PLAN_VERSION, require_plan_fields
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import PlanError
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.plans import Plan
from upscale_opt.planning.reading import KERNELS, READ_MODES, Reading
from upscale_opt.tracing.fingerprints import fingerprints_from_dict, fingerprints_to_dict


@entrance()
def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan to a file. The write is atomic.

    Raises
    ------
    PlanError
        If the path cannot be written.
    """
    document = plan_to_dict(plan)
    lines = []
    for key, value in document.items():
        if isinstance(value, dict) and key != "model":
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items())
            lines.append(f' "{key}": {{\n{rows}\n }}')
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    try:
        write_text_atomically("{\n" + ",\n".join(lines) + "\n}\n", path)
    except ProblemError as error:
        raise PlanError(str(error)) from error


@entrance()
def read_plan(path: str | Path) -> Plan:
    """Read a plan from a file.

    Raises
    ------
    PlanError
        If the file cannot be read, if it is newer than this program, or if a field is wrong. The message names the
        field.
    """
    try:
        document = read_json(path, file_format=PLAN_FORMAT, version=PLAN_VERSION)
    except ProblemError as error:
        raise PlanError(str(error)) from error
    try:
        return plan_from_dict(document)
    except ProblemError as error:
        raise PlanError(f"{path}: {error}") from error


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Convert a plan to a JSON object, with plain Python values only."""
    model = None
    if plan.model is not None:
        model = {
            "name": plan.model.name,
            "weights": plan.model.weights,
            "seed": plan.model.seed,
            "input_shape": list(plan.model.input_shape),
        }
    return {
        "format": PLAN_FORMAT,
        "version": PLAN_VERSION,
        "model": model,
        "masks": _masks_to_dict(plan.masks),
        "outputs": _masks_to_dict(plan.output_masks),
        "orders": {name: np.asarray(order).tolist() for name, order in plan.orders.items()},
        **_readings_to_dict(plan.readings),
        "places": dict(plan.places),
        "fixed": fingerprints_to_dict(plan.fixed),
        "padding": {name: np.asarray(channels).tolist() for name, channels in plan.padding.items()},
    }


def _readings_to_dict(readings: Mapping[str, Reading]) -> dict[str, Any]:
    """The readings as four fields. Later format versions added the three fields after the modes."""
    late = any(own.late for own in readings.values())
    return {
        "reads": {name: own.mode for name, own in readings.items()},
        "widths": {name: own.width for name, own in readings.items() if own.width is not None},
        "kernels": {name: own.kernel for name, own in readings.items() if own.kernel},
        "slices": sorted(name for name, own in readings.items() if not own.late) if late else None,
    }


def _masks_to_dict(masks: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: {"length": len(mask), "kept": np.flatnonzero(mask).tolist()} for name, mask in masks.items()}


def plan_from_dict(document: dict[str, Any]) -> Plan:
    """Read a plan from a JSON object.

    Raises
    ------
    ProblemError
        If a field is missing or wrong. The message names it.
    """
    require_plan_fields(document, "the plan")
    raw_model = require_field(document, "model", (dict, type(None)), "the plan")
    masks = _masks_from_dict(require_field(document, "masks", dict, "the plan"), "mask")
    output_masks = {}
    if document["version"] > 2:
        output_masks = _masks_from_dict(require_field(document, "outputs", dict, "the plan"), "output mask")
    orders = {
        name: _indices(raw, f"the plan's order {name!r}")
        for name, raw in require_field(document, "orders", dict, "the plan").items()
    }
    reads = require_field(document, "reads", dict, "the plan")
    for name, mode in reads.items():
        if mode not in READ_MODES:
            raise ProblemError(f"the plan reads {name!r} as {mode!r}; read modes are {', '.join(READ_MODES)}")
    widths, kernels, slices = _readings_from_dict(document) if document["version"] > 3 else ({}, {}, frozenset[str]())
    model = None if raw_model is None else _model_from_dict(raw_model)
    for kind, named in (("width", widths), ("kernel", kernels), ("slice", slices or ())):
        for name in named:
            if name not in reads:
                raise ProblemError(f"the plan has a {kind} of {name!r}, but no read mode for it; remove it")
    places = require_field(document, "places", dict, "the plan") if document["version"] > 4 else {}
    if not all(isinstance(name, str) for name in places.values()):
        raise ProblemError("the plan's places must be names of blocks")
    fixed = require_field(document, "fixed", dict, "the plan") if document["version"] > 5 else {}
    raw_padding = require_field(document, "padding", dict, "the plan") if document["version"] > 6 else {}
    padding = {name: _indices(raw, f"the plan's padding of {name!r}") for name, raw in raw_padding.items()}
    for name, channels in padding.items():
        if name not in orders or not np.isin(channels, orders[name]).all():
            raise ProblemError(f"the plan pads block {name!r} with channels that its order does not have")
    readings = {
        name: Reading(mode, widths.get(name), kernels.get(name, ""), slices is not None and name not in slices)
        for name, mode in reads.items()
    }
    return Plan(
        *(masks, orders, readings, model, output_masks, places),
        fingerprints_from_dict(fixed, "the plan's fixed values of"),
        padding,
    )


def _readings_from_dict(document: dict[str, Any]) -> tuple[dict[str, int], dict[str, str], frozenset[str] | None]:
    """The fields that version 4 added: widths, kernels and slices."""
    widths = require_field(document, "widths", dict, "the plan")
    for name, width in widths.items():
        if type(width) is not int or not 1 <= width <= MAX_SIZE:
            raise ProblemError(f"the plan's width {name!r} must be a whole number of channels, at least 1")
    kernels = require_field(document, "kernels", dict, "the plan")
    for name, kernel in kernels.items():
        if kernel not in KERNELS:
            raise ProblemError(f"the plan computes {name!r} by {kernel!r}; kernels are {', '.join(KERNELS)}")
    slices = require_field(document, "slices", (list, type(None)), "the plan")
    if slices is not None and not all(isinstance(name, str) for name in slices):
        raise ProblemError("the plan's slices must be a list of access names")
    if slices is not None and len(set(slices)) < len(slices):
        raise ProblemError("the plan's slices name an access twice")
    return widths, kernels, None if slices is None else frozenset(slices)


def _masks_from_dict(raw_masks: dict[str, Any], kind: str) -> dict[str, np.ndarray]:
    masks = {}
    for name, raw in raw_masks.items():
        where = f"the plan's {kind} {name!r}"
        length = require_field(raw, "length", int, where)
        reject_unknown_fields(raw, {"length", "kept"}, where)
        kept = _indices(require_field(raw, "kept", list, where), f"{where}: field 'kept'")
        if not 1 <= length <= MAX_SIZE:
            raise ProblemError(f"{where}: field 'length' is {length}; it must lie between 1 and {MAX_SIZE}")
        if kept.size and kept.max() >= length:
            raise ProblemError(f"{where}: field 'length' is {length}, too small for its kept channels")
        masks[name] = np.zeros(length, dtype=bool)
        masks[name][kept] = True
    return masks


def _model_from_dict(raw: dict[str, Any]) -> ModelReference:
    where = "the plan's model"
    reject_unknown_fields(raw, {"name", "weights", "seed", "input_shape"}, where)
    shape = require_field(raw, "input_shape", list, where)
    if not shape or not all(type(n) is int and n > 0 for n in shape):
        raise ProblemError(f"{where}: field 'input_shape' must list positive whole numbers")
    return ModelReference(
        require_field(raw, "name", str, where),
        require_field(raw, "weights", (str, type(None)), where),
        whole_number(require_field(raw, "seed", int, where), f"{where}: field 'seed'", least=0),
        tuple(shape),
    )


def _indices(raw: Any, where: str) -> np.ndarray:
    if not isinstance(raw, list) or not all(type(i) is int and 0 <= i < MAX_SIZE for i in raw):
        raise ProblemError(f"{where} must be a list of channel indices")
    if len(set(raw)) < len(raw):
        raise ProblemError(f"{where} lists a channel twice; list each once")
    return np.array(raw, dtype=np.int64)
