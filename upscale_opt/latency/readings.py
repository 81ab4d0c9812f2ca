"""Which way every access of a plan is read: the cheapest by measured tables, once the orders are known.

Solvers choose orders; what an order costs depends on span and runs alone. How a consumer then reads is looked up here:
kernel, width and mode together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from problems import Problem, evaluate, order_by_names
from problems.objectives import OVER_READ, VIEW
from upscale_opt.latency.measured_costs import MeasuredCosts, MeasuredTable, Reading
from upscale_opt.masking.stored_channels import Pruning
from upscale_opt.planning.plans import Plan, consumer_of
from upscale_opt.planning.workloads import layer_of
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.prologues import prologues_of


@dataclass(frozen=True)
class Expected:
    """What the tables expect of one access under a plan.

    Attributes
    ----------
    name
        The access.
    reading
        How it is read, and how long that takes.
    least
        Nanoseconds on an input that holds just what it keeps, by the fastest kernel.
    """

    name: str
    reading: Reading
    least: float

    @property
    def excess(self) -> float:
        """Nanoseconds beyond what no order can beat."""
        return self.reading.nanoseconds - self.least


def tables_of(
    graph: Graph,
    masks: Mapping[str, np.ndarray],
    costs: MeasuredCosts,
    *,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> dict[str, MeasuredTable]:
    """The measured table of every access that has one, by name."""
    pruning = Pruning(graph, masks, outputs or {})
    prologues = prologues_of(graph)
    found = {}
    for read in graph.reads:
        num_outputs = int(pruning.stored[graph.numbers(replace(read.output, size=1))].sum())
        stored = int(pruning.stored[graph.numbers(replace(read.input, size=1))].sum())
        layer = layer_of(pruning, read, num_outputs, prologues)
        kept = int(pruning.kept(read).sum())
        table = None if layer is None else costs.measured(layer, kept=kept, stored=stored)
        if table is not None:
            found[read.name] = table
    return found


def cheapest_readings(
    plan: Plan, problems: Mapping[str, Problem], tables: Mapping[str, MeasuredTable]
) -> tuple[Plan, dict[str, Expected]]:
    """A plan with the same orders whose accesses are read in the cheapest way, and what the tables expect of each.

    Accesses that were not measured are read as before and are not in the second result.

    Parameters
    ----------
    plan
        Orders, masks and read modes.
    problems
        Segment name to problem.
    tables
        Access name to table (`tables_of`).
    """
    calls = Counter(consumer_of(name) for name in plan.reads)
    expected: dict[str, Expected] = {}
    for problem in problems.values():
        order = order_by_names(problem, plan.orders, plan.places)
        for access in evaluate(problem, order, "span").accesses:
            if access.name in tables:
                table = tables[access.name]
                expected[access.name] = Expected(
                    access.name,
                    table.reading(access.span, access.runs, called_once=calls[consumer_of(access.name)] == 1),
                    table.least.nanoseconds,
                )
    readings = {name: own.reading for name, own in expected.items()}
    reads = {**plan.reads, **{name: own.mode for name, own in readings.items()}}
    widths = {name: width for name, width in plan.widths.items() if name not in readings}
    widths |= {name: own.width for name, own in readings.items() if own.width is not None}
    kernels = {name: kernel for name, kernel in plan.kernels.items() if name not in readings}
    kernels |= {name: own.kernel for name, own in readings.items() if own.kernel}
    slices = _slices(plan, tables, {name for name, own in readings.items() if own.late})
    return replace(plan, reads=reads, widths=widths, kernels=kernels, slices=slices), expected


def expected_as_planned(
    plan: Plan, problems: Mapping[str, Problem], tables: Mapping[str, MeasuredTable]
) -> dict[str, Expected]:
    """What the tables expect of every access in the modes that a plan says, whether they are the cheapest or not."""
    expected = {}
    for problem in problems.values():
        order = order_by_names(problem, plan.orders, plan.places)
        for access in evaluate(problem, order, "span").accesses:
            if access.name not in tables:
                continue
            table, mode = tables[access.name], plan.reads[access.name]
            width = plan.widths.get(access.name, access.span if mode in (VIEW, OVER_READ) else access.kept)
            kernel = plan.kernels.get(access.name, "")
            late = table.key.layer.has_prologue and plan.slices is not None and access.name not in plan.slices
            time = table.time_of(mode, width=width, runs=access.runs, kernel=kernel, late=late)
            reading = Reading(mode, time, width, kernel, late)
            expected[access.name] = Expected(access.name, reading, table.least.nanoseconds)
    return expected


def fastest_kernels(tables: Mapping[str, MeasuredTable]) -> dict[str, str]:
    """What computes accesses fastest if their channels are there, contiguous: for `upscale_opt.comparing.floors`."""
    return {name: table.least.kernel for name, table in tables.items() if table.least.kernel}


def _slices(plan: Plan, tables: Mapping[str, MeasuredTable], late: set[str]) -> frozenset[str] | None:
    """Which accesses select in front of what serves them alone; those that were not measured do as they did."""
    known = {name for name, table in tables.items() if table.key.layer.has_prologue}
    if plan.slices is None and not late:
        return None
    others = {name for name in plan.reads if name not in tables} if plan.slices is None else plan.slices - known
    return frozenset(others | (known - late))
