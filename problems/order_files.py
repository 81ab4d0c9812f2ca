"""The order file: one order of one problem as JSON, by the names of blocks. The orders in a plan can be read too.

    {"orders": {"layer1.0.conv3": [3, 0, 4]}, "places": {"a[0:4]": "a[4:8]", "a[4:8]": "a[0:4]"}}

``places`` may be left out if no units have changed places. `upscale_opt.planning.plans` reads the other fields of a
plan.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.files import read_any_json, reject_unknown_fields, require_field, require_format, write_text_atomically
from problems.named_orders import order_by_names, places_of
from problems.order import Order
from problems.problem import Problem
from problems.solution_files import channels_of

PLAN_FORMAT = "upscale_opt.plan"
PLAN_VERSION = 7
_ALWAYS = ("format", "version", "model", "masks", "orders", "reads")
_SINCE = {"outputs": 3, "widths": 4, "kernels": 4, "slices": 4, "places": 5, "fixed": 6, "padding": 7}


def require_plan_fields(document: dict[str, Any], where: str) -> None:
    """Raise `ProblemError` if a plan has an unknown field, or uses a field that its version does not have."""
    reject_unknown_fields(document, (*_ALWAYS, *_SINCE), where)
    for field, first in _SINCE.items():
        if document["version"] < first and document.get(field):
            raise ProblemError(
                f"{where} has version {document['version']}, but the field {field!r} is there from version {first} on; "
                "one of them is wrong"
            )


def order_to_dict(problem: Problem, order: Order) -> dict[str, Any]:
    """The JSON object of an order, with plain Python values only."""
    places = places_of(problem, order)
    if len(order) != len(problem.blocks):
        raise ProblemError(f"the order has {len(order)} blocks, but {problem.name} has {len(problem.blocks)}")
    orders = {block.name: own.tolist() for block, own in zip(problem.blocks, order.channels, strict=True)}
    return {"orders": orders, "places": places} if places else {"orders": orders}


def write_order(problem: Problem, order: Order, path: str | Path) -> None:
    """Write an order to a file, atomically.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    write_text_atomically(json.dumps(order_to_dict(problem, order)) + "\n", path)


def read_order(path: str | Path, problem: Problem) -> Order:
    """The order of a problem, read from an order file or from a plan. A plan may hold orders of other problems too.

    `Order.require_valid` checks whether it is valid.

    Raises
    ------
    ProblemError
        If the file cannot be read, a block is missing, or a field is missing, unknown or of the wrong type. The message
        names it.
    """
    of_kind(problem, Problem, "the problem")
    document = read_any_json(path)
    is_plan = isinstance(document, dict) and "format" in document
    if is_plan:
        require_format(document, path, file_format=PLAN_FORMAT, version=PLAN_VERSION)
    by_block = require_field(document, "orders", dict, str(path))
    if is_plan:
        require_plan_fields(document, str(path))
    else:
        reject_unknown_fields(document, ("orders", "places"), str(path))
    places = require_field(document, "places", dict, str(path)) if "places" in document else {}
    for name, other in places.items():
        if not isinstance(other, str):
            raise ProblemError(f"{path}: places[{name!r}] must be the name of a block")
    names = {block.name for block in problem.blocks}
    missing = [block.name for block in problem.blocks if block.name not in by_block]
    if missing:
        raise ProblemError(f"{path}: field 'orders' lacks the block {missing[0]!r}")
    others = [name for name in (*by_block, *places, *places.values()) if name not in names]
    if others and not is_plan:
        raise ProblemError(f"{path} names the block {others[0]!r}, which the instance does not have; remove it")
    orders = {name: channels_of(own, f"{path}: orders[{name!r}]") for name, own in by_block.items() if name in names}
    try:
        return order_by_names(problem, orders, places)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error
