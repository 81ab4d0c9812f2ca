"""Chooses how every access of a plan is read: the cheapest reading in measured tables, once the orders are known.

Solvers choose orders by costs that depend only on span and runs. This module then chooses kernel, width and mode
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from problems import AccessCost, Problem, evaluate, order_by_names
from problems.objectives import OVER_READ, VIEW
from upscale_opt.latency.measured_costs import MeasuredCosts, MeasuredTable
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.planning.plans import Plan, consumer_of
from upscale_opt.planning.reading import Reading
from upscale_opt.planning.workloads import layer_of
from upscale_opt.tracing.prologues import prologues_of


@dataclass(frozen=True)
class Expected:
    """The expected time of one access under a plan.

    Attributes
    ----------
    name
        Name of the access.
    reading
        How the access is read.
    nanoseconds
        Expected nanoseconds.
    least
        Nanoseconds on an input that has exactly the kept channels, by the fastest kernel.
    """

    name: str
    reading: Reading
    nanoseconds: float
    least: float

    @property
    def excess(self) -> float:
        """Nanoseconds above the least time, which no order can beat."""
        return self.nanoseconds - self.least


def tables_of(masked: MaskedGraph, costs: MeasuredCosts) -> dict[str, MeasuredTable]:
    """Access name to measured table, for every access that has one."""
    graph = masked.graph
    prologues = prologues_of(graph)
    found = {}
    for read in graph.reads:
        num_outputs = int(masked.stored[graph.numbers(read.output)].sum())
        stored = int(masked.stored[graph.numbers(replace(read.input, size=1))].sum())
        layer = layer_of(masked, read, num_outputs, prologues)
        kept = int(masked.kept(read).sum())
        table = None if layer is None else costs.measured(layer, kept=kept, stored=stored)
        if table is not None:
            found[read.name] = table
    return found


def cheapest_readings(
    plan: Plan, problems: Mapping[str, Problem], tables: Mapping[str, MeasuredTable]
) -> tuple[Plan, dict[str, Expected]]:
    """A plan with the same orders and the cheapest reading of every access, and the expected times.

    Accesses without a table keep their reading, and are not in the second result.

    Parameters
    ----------
    plan
        Orders, masks and read modes.
    problems
        Segment name to problem.
    tables
        Access name to table (`tables_of`).
    """
    calls = Counter(consumer_of(name) for name in plan.readings)
    expected: dict[str, Expected] = {}
    for access in _accesses(plan, problems):
        if access.name in tables:
            table, once = tables[access.name], calls[consumer_of(access.name)] == 1
            own = table.cheapest(access.span, access.runs, start=access.start, called_once=once)
            expected[access.name] = Expected(access.name, *own, table.least.nanoseconds)
    chosen = {name: own.reading for name, own in expected.items()}
    return replace(plan, readings={**plan.readings, **chosen}), expected


def expected_as_planned(
    plan: Plan, problems: Mapping[str, Problem], tables: Mapping[str, MeasuredTable]
) -> dict[str, Expected]:
    """Expected times of all accesses with the readings of the plan, which need not be the cheapest."""
    expected = {}
    for access in _accesses(plan, problems):
        if access.name not in tables:
            continue
        table, reading = tables[access.name], plan.readings[access.name]
        width = reading.width or (access.span if reading.mode in (VIEW, OVER_READ) else access.kept)
        if not table.key.layer.has_prologue:
            reading = replace(reading, late=False)
        time = table.time_of(reading, width=width, runs=access.runs, start=access.start, span=access.span)
        own = replace(reading, width=width)
        expected[access.name] = Expected(access.name, own, time, table.least.nanoseconds)
    return expected


def _accesses(plan: Plan, problems: Mapping[str, Problem]) -> Iterator[AccessCost]:
    """The accesses of all problems under a plan's orders, with their spans and runs."""
    for problem in problems.values():
        order = order_by_names(problem, plan.orders, plan.places)
        yield from evaluate(problem, order, "span").accesses


def fastest_kernels(tables: Mapping[str, MeasuredTable]) -> dict[str, str]:
    """The fastest kernel of accesses whose channels are already contiguous, for `upscale_opt.comparing.floors`."""
    return {name: kernel for name, table in tables.items() if (kernel := table.least.reading.kernel)}
