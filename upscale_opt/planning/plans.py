"""The plan: the orders, read modes and masks of one model, as plain data with a file format.

A plan is what an export needs besides the model, and what re-creates a pruned model from its architecture and a
state_dict. It can be computed on one machine and used on another that has no OR-Tools. Format: docs/formats.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from problems import Evaluation, Order, Problem, ProblemError, evaluate, order_by_names, places_of
from problems.conversions import whole_number
from problems.evaluation import COPY, OVER_READ, PIECES, VIEW
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.order_files import PLAN_FORMAT, PLAN_VERSION, require_plan_fields
from problems.problem import MAX_SIZE
from upscale_opt.arguments.checks import (
    settle_fields,
)
from upscale_opt.arguments.entrance import REFERENCE, arrays_by_name, entrance
from upscale_opt.errors import PlanError
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.plan_fields import PLAN_FIELDS
from upscale_opt.planning.segment_problems import Problems
from upscale_opt.tracing.fingerprints import Fingerprint, fingerprints_from_dict, fingerprints_to_dict

if TYPE_CHECKING:
    from solvers import Result

FORMAT, VERSION = PLAN_FORMAT, PLAN_VERSION
READ_MODES = (VIEW, OVER_READ, PIECES, COPY)
ALIGNMENT = 8
"""Channels: widths are rounded up to a multiple of this where that is faster; wide ranges begin at one if they can."""
MATMUL, GATHERING = "matmul", "gathering"
KERNELS = (MATMUL, GATHERING)
"""What may take the place of a 1x1 convolution: a matrix product, which reads slices in place, and one that gathers."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Orders, read modes and masks of one model.

    Attributes
    ----------
    masks
        Weight name to Boolean array, True = kept, for every consumer.
    orders
        Block name to int64 array: the channels stored, in order.
    reads
        Access name to read mode: ``view``, ``over-read``, ``pieces`` or ``copy``. All calls of one consumer read the
        same columns of its weight: if one of them over-reads, all do, and the widest range is read by all.
    model
        How to build the model, if that is known.
    outputs
        Weight name to Boolean array, True = kept, for every producer whose output channels are masked.
    widths
        Access name to the number of channels of a view or an over-read, where that is more than the smallest range:
        a multiple that suits the device, or all there are.
    kernels
        Consumer name to what computes it in place of the module's own operator: ``matmul``
        (`upscale_opt.MatrixConv2d`) or ``gathering`` (`upscale_opt.GatherConv2d`, with read mode ``copy``).
    slices
        Names of the accesses whose channels are selected in front of everything that serves them alone: elementwise
        work, normalisation, and the concat they read (`upscale_opt.tracing.prologues`). None: of all that can be.
    places
        Block name to the name of the block that takes its place, where groups of convolutions have changed places.
    fixed
        Name to fingerprint of the values that the traced code holds for (`Graph.fixed`), which no state_dict brings
        along; `upscale_opt.load` wants them to be the same. Empty if they are not known.

    Raises
    ------
    PlanError
        If a field is no mapping of names, or a mask no Boolean array.
    """

    masks: Mapping[str, np.ndarray]
    orders: Mapping[str, np.ndarray]
    reads: Mapping[str, str]
    model: ModelReference | None = field(default=None)
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)
    slices: frozenset[str] | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Fingerprint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle_fields(self, **PLAN_FIELDS)
        wide = {consumer_of(name) for name, mode in self.reads.items() if mode == OVER_READ or name in self.widths}
        reads = {
            name: OVER_READ if mode in (COPY, PIECES) and consumer_of(name) in wide else mode
            for name, mode in self.reads.items()
        }
        widest: dict[str, int] = {}
        for name, width in self.widths.items():
            widest[consumer_of(name)] = max(width, widest.get(consumer_of(name), 0))
        widths = {name: widest[consumer_of(name)] for name in reads if consumer_of(name) in widest}
        object.__setattr__(self, "reads", reads)
        object.__setattr__(self, "widths", widths)

    def __str__(self) -> str:
        modes = list(self.reads.values())
        return ", ".join(f"{modes.count(mode)} {mode}" for mode in READ_MODES) + f" in {len(self.orders)} blocks"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and plan_to_dict(self) == plan_to_dict(other)

    __hash__ = None  # type: ignore[assignment]


def consumer_of(access: str) -> str:
    """The consumer's name of an access: ``head`` of its second call ``head#2``."""
    return access.partition("#")[0]


@entrance(model=REFERENCE, masks=arrays_by_name)
def plan(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    results: Mapping[str, Result],
    *,
    model: ModelReference | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """The plan that carries out a solver's results.

    Parameters
    ----------
    problems
        Segment name to problem (`upscale_opt.extract`).
    masks
        The masks the problems were made from.
    results
        Segment name to result (`solvers.solve`); read modes are those its objective chooses.
    model
        How to build the model, to be stored along.
    outputs
        The output masks the problems were made from. Default: none.

    Raises
    ------
    PlanError
        If a segment has no result.
    """
    missing = [name for name in problems if name not in results]
    if missing:
        raise PlanError(f"segment {missing[0]!r} has no result; solve every segment before making a plan")
    evaluations = {name: results[name].evaluation for name in problems}
    return _assemble(problems, masks, {name: results[name].order for name in problems}, evaluations, model, outputs)


def plan_of_orders(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    orders: Mapping[str, Order],
    *,
    objective: str = "traffic",
    model: ModelReference | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """A plan of any orders, in the read modes that an objective chooses.

    Parameters
    ----------
    problems, masks, model, outputs
        As for `plan`.
    orders
        Segment name to order.
    objective
        Which chooses the read modes.
    """
    evaluations = {name: evaluate(problem, orders[name], objective) for name, problem in problems.items()}
    return _assemble(problems, masks, orders, evaluations, model, outputs)


@entrance(model=REFERENCE, masks=arrays_by_name)
def baseline_plan(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    *,
    model: ModelReference | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """The paper's naive export (Wan et al., ICML 2023): nothing reordered, channels gathered in front of consumers.

    A consumer that keeps the whole stored input needs no selection and gets none; every other one gathers, even
    where its channels happen to be contiguous.
    """
    orders = {name: Order.identity(problem) for name, problem in problems.items()}
    evaluations = {name: evaluate(problem, orders[name]) for name, problem in problems.items()}
    made = _assemble(problems, masks, orders, evaluations, model, outputs)
    whole = {
        access.name: access.num_kept == sum(len(problem.stored[b]) for b in access.blocks)
        for problem in problems.values()
        for access in problem.accesses
    }
    reads = {name: VIEW if whole[name] else COPY for name in made.reads}
    return Plan(made.masks, made.orders, reads, model, made.outputs, slices=frozenset(), fixed=made.fixed)


def require_fitting(plan: Plan, problems: Mapping[str, Problem]) -> None:
    """Check a plan's orders and read modes against the problems of a model.

    Raises
    ------
    PlanError
        If a block or access is missing, an order is no permutation of the stored channels, or a `view` is none.
    """
    known = {block.name for problem in problems.values() for block in problem.blocks}
    for name in (*plan.places, *plan.places.values()):
        if name not in known:
            raise PlanError(f"the plan gives block {name!r} another place; it was made for another model")
    for name, problem in problems.items():
        for block in problem.blocks:
            if block.name not in plan.orders:
                raise PlanError(f"the plan has no order for block {block.name!r}; it was made for another model")
        try:
            evaluation = evaluate(problem, order_by_names(problem, plan.orders, plan.places), "span")
        except ProblemError as error:
            raise PlanError(f"the plan does not fit segment {name!r}: {error}") from error
        for access in evaluation.accesses:
            mode = plan.reads.get(access.name)
            if mode not in READ_MODES:
                raise PlanError(f"the plan has no read mode for {access.name!r}; it was made for another model")
            if mode == VIEW and access.span != access.kept:
                raise PlanError(f"the plan reads {access.name!r} as a view, but its channels are not contiguous")
            stored = sum(len(problem.stored[b]) for b in _blocks_of(problem, access.name))
            if not plan.widths.get(access.name, 0) <= stored:
                raise PlanError(
                    f"the plan reads {plan.widths[access.name]} channels for {access.name!r}, but {stored} are stored"
                )


def _blocks_of(problem: Problem, access: str) -> tuple[int, ...]:
    return next(own.blocks for own in problem.accesses if own.name == access)


@entrance()
def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan to a file, atomically.

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
        If the file cannot be read, is newer than this program, or a field is wrong; the message names the field.
    """
    try:
        document = read_json(path, file_format=FORMAT, version=VERSION)
    except ProblemError as error:
        raise PlanError(str(error)) from error
    try:
        return plan_from_dict(document)
    except ProblemError as error:
        raise PlanError(f"{path}: {error}") from error


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """The JSON object of a plan, with plain Python values only."""
    model = None
    if plan.model is not None:
        model = {
            "name": plan.model.name,
            "weights": plan.model.weights,
            "seed": plan.model.seed,
            "input_shape": list(plan.model.input_shape),
        }
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "masks": _masks_to_dict(plan.masks),
        "outputs": _masks_to_dict(plan.outputs),
        "orders": {name: np.asarray(order).tolist() for name, order in plan.orders.items()},
        "reads": dict(plan.reads),
        "widths": dict(plan.widths),
        "kernels": dict(plan.kernels),
        "slices": None if plan.slices is None else sorted(plan.slices),
        "places": dict(plan.places),
        "fixed": fingerprints_to_dict(plan.fixed),
    }


def _masks_to_dict(masks: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: {"length": len(mask), "kept": np.flatnonzero(mask).tolist()} for name, mask in masks.items()}


def plan_from_dict(document: dict[str, Any]) -> Plan:
    """The plan of a JSON object.

    Raises
    ------
    ProblemError
        If a field is missing or wrong; the message names it.
    """
    require_plan_fields(document, "the plan")
    raw_model = require_field(document, "model", (dict, type(None)), "the plan")
    masks = _masks_from_dict(require_field(document, "masks", dict, "the plan"), "mask")
    outputs = {}
    if document["version"] > 2:
        outputs = _masks_from_dict(require_field(document, "outputs", dict, "the plan"), "output mask")
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
    for kind, named in (("width", widths), ("slice", slices or ())):
        for name in named:
            if name not in reads:
                raise ProblemError(f"the plan has a {kind} of {name!r}, but no read mode for it; remove it")
    places = require_field(document, "places", dict, "the plan") if document["version"] > 4 else {}
    if not all(isinstance(name, str) for name in places.values()):
        raise ProblemError("the plan's places must be names of blocks")
    fixed = require_field(document, "fixed", dict, "the plan") if document["version"] > 5 else {}
    return Plan(
        *(masks, orders, reads, model, outputs, widths, kernels, slices, places),
        fingerprints_from_dict(fixed, "the plan's fixed values of"),
    )


def _readings_from_dict(document: dict[str, Any]) -> tuple[dict[str, int], dict[str, str], frozenset[str] | None]:
    """What version 4 added: widths, kernels and slices."""
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


def _assemble(
    problems: Mapping[str, Problem],
    masks: Mapping[str, np.ndarray],
    orders: Mapping[str, Order],
    evaluations: Mapping[str, Evaluation],
    model: ModelReference | None,
    outputs: Mapping[str, np.ndarray] | None,
) -> Plan:
    channels = {
        block.name: orders[name][b] for name, problem in problems.items() for b, block in enumerate(problem.blocks)
    }
    reads = {access.name: access.mode for name in problems for access in evaluations[name].accesses}
    places = {
        block: other for name, problem in problems.items() for block, other in places_of(problem, orders[name]).items()
    }
    fixed = problems.fixed if isinstance(problems, Problems) else {}
    return Plan(dict(masks), channels, reads, model, dict(outputs or {}), places=places, fixed=fixed)
