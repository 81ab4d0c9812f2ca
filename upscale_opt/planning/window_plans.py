"""Plans of windows (`upscale_opt.masking.windows`): the orders of streams, and accesses that are ranges of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from problems import Order, Problem, ProblemError, evaluate
from problems.objectives import OVER_READ, VIEW
from upscale_opt.arguments.checks import an, named_values
from upscale_opt.arguments.entrance import MASKED_GRAPH, REFERENCE, entrance
from upscale_opt.errors import PlanError
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.windows import WINDOWS, WindowChoice
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.cost_model import AnalyticCosts
from upscale_opt.planning.plans import Plan, plan_of_orders
from upscale_opt.planning.reading import Reading
from upscale_opt.planning.workloads import writing_workload
from upscale_opt.tracing.writes import Write


@entrance(
    masked=MASKED_GRAPH,
    choices=WINDOWS,
    orders=named_values(an("problems", "Order", "an Order"), "its order", "segment", PlanError),
    model=REFERENCE,
)
def window_plan(
    masked: MaskedGraph,
    problems: Mapping[str, Problem],
    choices: Mapping[str, WindowChoice],
    *,
    orders: Mapping[str, Order] | None = None,
    objective: str = "traffic",
    model: ModelReference | None = None,
    costs: AnalyticCosts | None = None,
) -> Plan:
    """Make the plan in which streams have the orders of windows, and their accesses are ranges.

    A window may have channels that its access does not need, because they are certainly zero or their weights are. Then
    the whole range is read or written, and zeros are in the weights. The first writer of a stream has nothing to be
    added to. Its rows are computed alone and padded with zeros if that saves time by `costs`.

    Parameters
    ----------
    masked
        The traced model and the masks of the windows (`window_masks`).
    problems
        Its ordering problems (`upscale_opt.extract`, or `MaskedModel.problems`).
    choices
        The windows, as for `window_masks`.
    orders
        Segment name to order, for the blocks without windows. Default: the original order.
    objective
        The objective that chooses the read modes of accesses without windows.
    model
        How to build the model. The plan stores it.
    costs
        The times that decide whether the first writer is padded. Default: `AnalyticCosts` of a CPU.

    Raises
    ------
    PlanError
        If the masks were not made from these windows: a stored channel is not in its block's order.
    """
    chosen = {name: _order(problem, choices, (orders or {}).get(name)) for name, problem in problems.items()}
    made = plan_of_orders(
        problems, masked.masks, chosen, objective=objective, model=model, output_masks=masked.output_masks
    )
    readings = dict(made.readings)
    for name, problem in problems.items():
        whole = evaluate(problem, chosen[name], "span")
        for access, found in zip(problem.accesses, whole.accesses, strict=True):
            if all(problem.blocks[b].name in choices for b in access.blocks) and len(access.blocks) == 1:
                mode = VIEW if found.span == found.kept else OVER_READ
                readings[access.name] = replace(readings[access.name], mode=mode)
    for write in masked.writes.values():
        blocks = [masked.graph.blocks[b].name for b in write.layout.blocks]
        if write.addition is None and all(name in choices for name in blocks):
            kept = np.concatenate(_stored_orders(masked, write, made))
            added = masked.completed(write).addition is not None and kept.any()
            if added or _padding_pays(masked, write, kept, costs or AnalyticCosts()):
                readings[write.name] = Reading(OVER_READ)
    return replace(made, readings=readings)


def _order(problem: Problem, choices: Mapping[str, WindowChoice], given: Order | None) -> Order:
    """The order of a segment: that of the windows in their blocks, otherwise the given or the original one."""
    base = given if given is not None else Order.identity(problem)
    channels = []
    for b, block in enumerate(problem.blocks):
        own = base[b]
        if block.name in choices:
            stored = np.zeros(block.size, dtype=bool)
            stored[problem.stored[b]] = True
            own = choices[block.name].order[stored[choices[block.name].order]]
            if len(own) < stored.sum():
                lacking = int(np.setdiff1d(problem.stored[b], own)[0])
                raise PlanError(
                    f"channel {lacking} of block {block.name!r} is stored, but the order of its windows does not list "
                    "it; list it, or let no access keep it"
                )
        channels.append(own)
    try:
        order = Order(channels, base.arrangement)
        order.require_valid(problem)
    except ProblemError as error:
        raise PlanError(f"the windows do not fit segment {problem.name!r}: {error}") from error
    return order


def _stored_orders(masked: MaskedGraph, write: Write, made: Plan) -> list[np.ndarray]:
    """Per block of a producer's output: the output mask in stored order."""
    parts, start = [], 0
    for b in write.layout.blocks:
        block = masked.graph.blocks[b]
        own = masked.output_masks[write.weight][start : start + block.size]
        parts.append(own[made.orders[block.name]])
        start += block.size
    return parts


def _padding_pays(masked: MaskedGraph, write: Write, kept: np.ndarray, costs: AnalyticCosts) -> bool:
    """Whether computing a range of rows and padding them takes less time than computing all rows.

    Parameters
    ----------
    masked
        The traced model and its masks.
    write
        The producer.
    kept
        bool: the channels that it writes, in stored order.
    costs
        The times of operations and of memory.
    """
    positions = np.flatnonzero(kept)
    if not len(positions):
        return False
    graph = masked.graph
    rows, stored = int(positions[-1] - positions[0]) + 1, len(kept)
    read = next(own for own in graph.reads if own.weight == write.weight)
    work = writing_workload(graph, read)
    pixels = work.input_elements // 3
    size = sum(graph.blocks[b].size for b in write.layout.blocks)
    at_end = math.prod(graph.shapes[write.chain[-1]]) // size
    passes = 1 + 2 * (len(write.chain) - 1)
    bytes_of = work.element_bytes
    per_row = Fraction(work.flops, costs.flops_per_ns) + Fraction(passes * pixels * bytes_of, costs.bytes_per_ns)
    padding = costs.launch_ns + Fraction((rows + stored) * at_end * bytes_of, costs.bytes_per_ns)
    return (stored - rows) * per_row > padding
