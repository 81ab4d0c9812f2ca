"""The whole road in one call: trace, mask, solve with several solvers, export, verify, and measure.

`prepare` and `export_all` are its stages; the command line uses the same ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from problems import Objective, Problem, objective_named
from upscale_opt.arguments.checks import at_least
from upscale_opt.arguments.entrance import SETTLED_MASKS, entrance
from upscale_opt.comparing import reports
from upscale_opt.comparing.floors import floor_of
from upscale_opt.exporting.exporter import export
from upscale_opt.latency.measured_costs import MeasuredCosts, MeasuredTable
from upscale_opt.latency.profiling import Profile, profile_interleaved
from upscale_opt.latency.readings import cheapest_readings, fastest_kernels, tables_of
from upscale_opt.masking.input_masks import EffectiveMasks, effective_masks
from upscale_opt.masking.output_masks import normalise_output_masks, zero_row_messages
from upscale_opt.masking.rounding import KeptChannels
from upscale_opt.models.network_checks import require_values, with_values
from upscale_opt.models.preservation import unchanged
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.cost_model import AnalyticCosts, CostModel
from upscale_opt.planning.extraction import extract
from upscale_opt.planning.plans import Plan, plan
from upscale_opt.planning.solutions import Solutions, each_solution
from upscale_opt.rewriting.exports import Exported, gradients_of
from upscale_opt.tracing.census import census
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.network_fits import require_fitting_inputs, require_same_network
from upscale_opt.tracing.trace import as_tuple, trace
from upscale_opt.verifying.verification import Verifier


@dataclass(frozen=True, eq=False)
class Prepared:
    """A traced and masked model.

    Attributes
    ----------
    model, example_inputs
        As given.
    graph
        The trace.
    masks
        Weight name to Boolean array, for every consumer.
    messages
        What had to be said about the masks.
    problems
        Segment name to problem.
    trace_seconds
        Seconds for trace, masks and extraction.
    costs
        Where the problems' cost tables come from; None if they have none.
    outputs
        Weight name to the mask of a producer's output channels.
    report
        How many channels each consumer was to keep, and how many it keeps.
    """

    model: nn.Module
    example_inputs: torch.Tensor | Sequence[Any]
    graph: Graph
    masks: Mapping[str, np.ndarray]
    messages: tuple[str, ...]
    problems: Mapping[str, Problem]
    trace_seconds: float
    costs: CostModel | None = None
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    report: tuple[KeptChannels, ...] = ()

    def priced(self, costs: CostModel) -> Prepared:
        """The same with cost tables from another model, such as one that was calibrated since."""
        problems = extract(self.graph, self.masks, outputs=self.outputs, costs=costs)
        return replace(self, problems=problems, costs=costs)

    def read_cheaply(self, chosen: Plan) -> Plan:
        """A plan whose accesses are read in the ways that measured tables find cheapest; the same plan without any."""
        if not isinstance(self.costs, MeasuredCosts):
            return chosen
        return cheapest_readings(chosen, self.problems, self.tables)[0]

    @cached_property
    def tables(self) -> Mapping[str, MeasuredTable]:
        """Access name to measured table, for those that have one."""
        if not isinstance(self.costs, MeasuredCosts):
            return {}
        return tables_of(self.graph, self.masks, self.costs, outputs=self.outputs)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Solvers compared on one masked model.

    Attributes
    ----------
    prepared
        The traced and masked model.
    solutions
        Segment name to solver name to `solvers.Result`.
    exports
        Variant (``baseline`` or a solver's name) to verified export.
    latencies
        ``unpruned``, ``baseline``, every solver's name and ``floor`` (`upscale_opt.comparing.floors`) to the measured
        latency; empty if it was not measured.
    objective
        Name of the objective.
    """

    prepared: Prepared
    solutions: Solutions
    exports: Mapping[str, Exported]
    latencies: Mapping[str, Profile]
    objective: str

    @property
    def solvers(self) -> tuple[str, ...]:
        """The solvers' names."""
        return tuple(name for name in self.exports if name != "baseline")

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of docs/formats.md, latencies included: every figure of every segment and solver."""
        verified = {name: e.verification.relative_error for name, e in self.exports.items() if e.verification}
        return reports.document(
            self.prepared.problems,
            self.solutions,
            self.solvers,
            model=type(self.prepared.model).__name__,
            amount=None,
            objective=self.objective,
            costs=self.prepared.costs,
            trace_seconds=self.prepared.trace_seconds,
            verified=verified,
            gradients=gradients_of(self.exports),
            messages=list(self.prepared.messages),
            pinned=[vars(pin) for pin in self.prepared.graph.unsupported],
            skipped=[vars(own) for own in self.prepared.graph.skipped],
            channels=census(self.prepared.graph).to_dict(),
            masks=[vars(own) for own in self.prepared.report],
            latency={name: profile.to_dict() for name, profile in self.latencies.items()},
        )

    def __str__(self) -> str:
        title = f"objective {self.objective}"
        text = reports.table(
            self.prepared.problems, self.solutions, self.solvers, title=title, costs=self.prepared.costs
        )
        return f"{text}\n{reports.latency_table(self.latencies)}" if self.latencies else text


@entrance(masks=SETTLED_MASKS, started=at_least(-math.inf))
def prepare(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    masks: Mapping[str, Any] | Iterable[tuple[str, int]] | EffectiveMasks | None = None,
    *,
    graph: Graph | None = None,
    started: float | None = None,
    objective: str | Objective = "copies",
    costs: CostModel | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Prepared:
    """Trace a model, settle its masks and extract its ordering problems.

    Parameters
    ----------
    model
        In eval mode.
    example_inputs
        A tensor or the tuple of positional inputs.
    masks
        As `upscale_opt.normalise_masks` accepts them, less what is zero in the weights; `EffectiveMasks` are taken as
        they are. Default: only what is zero in the weights is dropped.
    graph
        The model's trace, if it is at hand already.
    started
        ``time.perf_counter()`` at the start of tracing, if that was earlier.
    objective
        What the problems are for: one that uses tables gets them.
    costs
        Where the tables come from. Default: `AnalyticCosts` for the device of the example inputs.
    outputs
        Masks of producers' output channels (`upscale_opt.normalise_output_masks`). Default: none.

    Raises
    ------
    ModelError
        If the model cannot be traced.
    MaskError
        If a mask does not fit the model.
    """
    started = time.perf_counter() if started is None else started
    require_values(model)
    example_inputs = with_values(example_inputs, model)
    if graph is None:
        graph = trace(model, example_inputs)
    else:
        require_same_network(model, graph)
        require_fitting_inputs(model, graph, example_inputs)
    settled = masks
    if not isinstance(settled, EffectiveMasks):
        settled = effective_masks(graph, settled)
    chosen = None
    if objective_named(objective).uses_tables:
        chosen = costs if costs is not None else AnalyticCosts.for_device(_device_kind(example_inputs))
    rows = normalise_output_masks(graph, outputs or {})
    problems = extract(graph, settled.masks, outputs=rows, costs=chosen)
    seconds = time.perf_counter() - started
    return Prepared(
        model,
        example_inputs,
        graph,
        settled.masks,
        (*settled.messages, *zero_row_messages(graph, rows)),
        problems,
        seconds,
        chosen,
        outputs=rows,
        report=settled.report,
    )


def export_all(
    prepared: Prepared,
    solutions: Solutions,
    solvers: Sequence[str],
    *,
    reference: ModelReference | None = None,
    baseline: bool = False,
    verify: bool = True,
    progress: bool = False,
) -> dict[str, Exported]:
    """Export every solver's plan, and the baseline if asked, each verified against the same masked model.

    Raises
    ------
    VerificationError
        If an export differs from the masked model.
    """
    verifier = None
    if verify:
        verifier = Verifier(
            prepared.model, prepared.example_inputs, prepared.graph, prepared.masks, outputs=prepared.outputs
        )
    exports = {}
    variants = (["baseline"] if baseline else []) + list(solvers)
    for name in tqdm(
        variants, desc="export and verify", unit="export", disable=None if progress else True, leave=False
    ):
        chosen = None
        if name != "baseline":
            results = {segment: solutions[segment][name] for segment in prepared.problems}
            chosen = plan(prepared.problems, prepared.masks, results, model=reference, outputs=prepared.outputs)
            chosen = prepared.read_cheaply(chosen)
        exports[name] = export(
            prepared.model,
            prepared.example_inputs,
            chosen,
            masks=prepared.masks if chosen is None else None,
            outputs=prepared.outputs if chosen is None else None,
            baseline=chosen is None,
            verify=verifier if verifier is not None else False,
            graph=prepared.graph,
        )
    return exports


@entrance(masks=SETTLED_MASKS)
def compare(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    masks: Mapping[str, Any] | Iterable[tuple[str, int]] | EffectiveMasks | None = None,
    solvers: Sequence[str] = ("greedy", "auto"),
    *,
    objective: str | Objective = "copies",
    costs: CostModel | None = None,
    time_limit: float = 10.0,
    seed: int = 0,
    verify: bool = True,
    measure: bool = True,
    runs: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Compare solvers on one masked model: objectives with bounds, verified exports, measured latencies.

    Parameters
    ----------
    model
        In eval mode; it is not changed.
    example_inputs
        A tensor or the tuple of positional inputs; latencies are measured with them, on their device.
    masks
        As `upscale_opt.normalise_masks` accepts them, less what is zero in the weights; `EffectiveMasks` are taken as
        they are. Default: only what is zero in the weights is dropped.
    solvers
        Registered names.
    objective
        Name or `problems.Objective`.
    costs
        Where cost tables come from if the objective uses them. Default: `AnalyticCosts` for the device.
    time_limit
        Seconds per segment and solver.
    seed
        Of the solvers.
    verify
        Check every export in float64.
    measure
        Measure the latency of the unpruned model, the baseline, every export and the floor, interleaved.
    runs
        Figures per variant; see `upscale_opt.profile_interleaved`.
    progress
        Show progress bars on standard error.

    Raises
    ------
    UpscaleError
        If the model cannot be traced, a mask does not fit, or an export is wrong.
    """
    prepared = prepare(model, example_inputs, masks, objective=objective, costs=costs)
    solutions: Solutions = {}
    for segment, name, result in each_solution(
        prepared.problems, solvers, objective=objective, time_limit=time_limit, seed=seed, progress=progress
    ):
        solutions.setdefault(segment, {})[name] = result
    exports = export_all(prepared, solutions, solvers, baseline=True, verify=verify, progress=progress)
    latencies: Mapping[str, Profile] = {}
    if measure:
        latencies = measure_all(prepared, exports, runs=runs, progress=progress)
    return Comparison(prepared, solutions, exports, latencies, objective_named(objective).name)


def _device_kind(example_inputs: torch.Tensor | Sequence[Any]) -> str:
    """``torch.device.type`` of the first tensor among the inputs; ``cpu`` without any."""
    return next((x.device.type for x in as_tuple(example_inputs) if isinstance(x, torch.Tensor)), "cpu")


def measure_all(
    prepared: Prepared,
    exports: Mapping[str, Exported],
    *,
    runs: int | None = None,
    backend: str | None = None,
    progress: bool = False,
) -> dict[str, Profile]:
    """Latency of the unpruned model, of every export, and of the floor, which no order can beat; interleaved."""
    models = {"unpruned": prepared.model, **{name: exported.module for name, exported in exports.items()}}
    models[reports.FLOOR] = floor_of(
        prepared.model,
        prepared.example_inputs,
        prepared.graph,
        prepared.masks,
        prepared.problems,
        outputs=prepared.outputs,
        kernels=fastest_kernels(prepared.tables),
    )
    with unchanged(prepared.model):
        return profile_interleaved(models, prepared.example_inputs, runs=runs, backend=backend, progress=progress)
