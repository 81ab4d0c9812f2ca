"""A masked model, and everything that can be done with one: solve, plan, export, verify, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from problems import Objective, Problem, objective_named
from solvers import Result
from upscale_opt.arguments.checks import either
from upscale_opt.arguments.entrance import PLAN, entrance, results_by_segment
from upscale_opt.arguments.modes import AUTO, OFF, alignment
from upscale_opt.comparing.comparison import Comparison, compare_solvers
from upscale_opt.comparing.floors import floor_of
from upscale_opt.exporting.exporter import export
from upscale_opt.latency.calibration import Effort, calibrate
from upscale_opt.latency.measured_costs import MeasuredCosts, MeasuredTable
from upscale_opt.latency.profiling import default_backend
from upscale_opt.latency.readings import cheapest_readings, fastest_kernels, tables_of
from upscale_opt.latency.stored_widths import faster_widths, measure_widths
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.cost_model import AnalyticCosts, CostModel
from upscale_opt.planning.extraction import problems_of
from upscale_opt.planning.padding import padded, rounded_up
from upscale_opt.planning.plans import Plan, baseline_plan, plan
from upscale_opt.planning.solutions import each_solution
from upscale_opt.rewriting.exports import Exported
from upscale_opt.tracing.trace import as_tuple
from upscale_opt.verifying.masked_copies import masked_copy
from upscale_opt.verifying.verification import Verifier


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MaskedModel(MaskedGraph):
    """A traced model, its masks and its ordering problems; what `upscale_opt.prune` returns.

    Attributes
    ----------
    model, example_inputs
        As given; the model is not changed.
    graph, masks, output_masks, padding, messages, report
        As of a `upscale_opt.MaskedGraph`; there is a mask for every consumer.
    problems
        Segment name to ordering problem.
    trace_seconds
        Seconds for trace, masks and extraction.
    costs
        Where the problems' cost tables come from; None if they have none.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    >>> from upscale_opt import prune
    >>> masked = prune(network, torch.zeros(1, 3, 16, 16), 0.5)
    >>> masked
    <MaskedModel Sequential: 2 consumers keep 7 of 11 input channels; 3 ordering problems>
    >>> masked.export().module.get_parameter("2.weight").shape
    torch.Size([4, 4, 3, 3])
    """

    model: nn.Module
    example_inputs: torch.Tensor | Sequence[Any]
    problems: Mapping[str, Problem]
    trace_seconds: float
    costs: CostModel | None = None

    def __repr__(self) -> str:
        kept, channels = (sum(count(mask) for mask in self.masks.values()) for count in (np.count_nonzero, len))
        written = f", {len(self.output_masks)} producers are masked" if self.output_masks else ""
        return (
            f"<MaskedModel {type(self.model).__name__}: {len(self.masks)} consumers keep {kept} of {channels} input "
            f"channels{written}; {len(self.problems)} ordering problems>"
        )

    def priced(self, costs: CostModel) -> MaskedModel:
        """The same with cost tables from another model, such as one that was calibrated since."""
        return replace(self, problems=problems_of(self, costs=costs), costs=costs)

    @entrance()
    def calibrate(
        self,
        *,
        backend: str | None = None,
        directory: str | Path | None = None,
        effort: Effort | None = None,
        progress: bool = False,
    ) -> MaskedModel:
        """The same with cost tables measured on this machine; see `upscale_opt.calibrate`.

        Parameters
        ----------
        backend
            One of `upscale_opt.latency.backends.BACKENDS`. Default: the one that `upscale_opt.profile` takes.
        directory
            Where tables are kept, and found again.
        effort
            How much is timed.
        progress
            Show a progress bar with the time left on standard error.
        """
        inputs, kind = as_tuple(self.example_inputs), device_kind(self.example_inputs)
        backend = backend or default_backend(torch.device(kind))
        tables = calibrate(self, inputs, backend=backend, directory=directory, effort=effort, progress=progress)
        return self.priced(MeasuredCosts(tables, AnalyticCosts.for_device(kind)))

    def for_objective(self, objective: str | Objective, costs: CostModel | None = None) -> MaskedModel:
        """The same with the cost tables that an objective needs: those given, else those it has, else analytic ones."""
        if not objective_named(objective).uses_tables or (costs is None and self.costs is not None):
            return self
        return self.priced(costs if costs is not None else AnalyticCosts.for_device(device_kind(self.example_inputs)))

    @entrance(to=alignment)
    def align(
        self,
        to: str | int = AUTO,
        *,
        backend: str | None = None,
        directory: str | Path | None = None,
        effort: Effort | None = None,
        progress: bool = False,
    ) -> MaskedModel:
        """The same with stored widths that suit the device: a few dropped channels are stored, too.

        Calibrate after it, not before: what reading costs depends on what is stored.

        Parameters
        ----------
        to
            ``auto``: the widths that measurements on this machine find faster
            (`upscale_opt.latency.stored_widths`). A number: the next multiple of it. ``off``: no such channels.
        backend, directory, effort, progress
            Of the measurements; see `calibrate`.

        Raises
        ------
        PlanError
            If `to` is something else.
        """
        bare = replace(self, padding={})
        if to == OFF:
            found: Mapping[str, int] = {}
        elif to == AUTO:
            inputs = as_tuple(self.example_inputs)
            own = backend or default_backend(torch.device(device_kind(self.example_inputs)))
            tables = measure_widths(bare, inputs, backend=own, directory=directory, effort=effort, progress=progress)
            found = faster_widths(bare, tables)
        else:
            found = rounded_up(bare, int(to))
        wider = padded(bare, found)
        return replace(self, padding=wider.padding, problems=problems_of(wider, costs=self.costs))

    @entrance()
    def solve(
        self,
        solver: str = "auto",
        *,
        objective: str | Objective = "copies",
        costs: CostModel | None = None,
        time_limit: float = 10.0,
        seed: int = 0,
        progress: bool = False,
    ) -> dict[str, Result]:
        """Solve the ordering problem of every segment.

        Parameters
        ----------
        solver
            A registered name.
        objective
            Name or `problems.Objective`.
        costs
            Where cost tables come from if the objective uses them. Default: the model's own, else `AnalyticCosts`.
        time_limit
            Seconds per segment.
        seed
            Of the solver.
        progress
            Show a progress bar on standard error.

        Returns
        -------
        dict
            Segment name to `solvers.Result`: order, value, bound, status.

        Raises
        ------
        SolverError
            If there is no such solver, or it cannot solve such a problem.
        """
        problems = self.for_objective(objective, costs).problems
        solutions = each_solution(
            problems, [solver], objective=objective, time_limit=time_limit, seed=seed, progress=progress
        )
        return {segment: result for segment, _, result in solutions}

    @entrance()
    def plan(self, results: Mapping[str, Result] | None = None, *, model: ModelReference | None = None) -> Plan:
        """The plan of an export: masks, orders, and how every access is read.

        Parameters
        ----------
        results
            What `solve` returned. Default: that of ``solve()``.
        model
            How to build the model again, if a plan file is to say so.
        """
        chosen = self.solve() if results is None else results
        return self.read_cheaply(plan(self.problems, self.masks, chosen, model=model, output_masks=self.output_masks))

    def baseline_plan(self) -> Plan:
        """The plan that reorders nothing and gathers in front of every consumer: the paper's naive export."""
        return baseline_plan(self.problems, self.masks, output_masks=self.output_masks)

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
        return tables_of(self, self.costs)

    def verifier(self) -> Verifier:
        """What exports of this model are verified by; several exports may share one."""
        return Verifier(self.model, self.example_inputs, self)

    @entrance(plan=either(PLAN, results_by_segment))
    def export(self, plan: Plan | Mapping[str, Result] | None = None, *, verify: bool = True) -> Exported:
        """Carry a plan out: a new, smaller model that computes what the masked model computes.

        Parameters
        ----------
        plan
            A plan, or what `solve` returned. Default: what ``solve()`` finds.
        verify
            Compare outputs and gradients with the masked model in float64.

        Raises
        ------
        PlanError
            If the plan does not fit the model.
        VerificationError
            If the export differs from the masked model.
        """
        chosen = plan if isinstance(plan, Plan) else self.plan(plan)
        return export(self.model, self.example_inputs, chosen, verify=verify, graph=self.graph)

    def floor(self) -> nn.Module:
        """The network that no order can beat: right shapes, wrong numbers (`upscale_opt.comparing.floors`)."""
        return floor_of(self.model, self.example_inputs, self, self.problems, kernels=fastest_kernels(self.tables))

    def masked_copy(self) -> nn.Module:
        """A copy of the model with the input channels zero that masks drop; output masks are not in it."""
        copied: nn.Module = masked_copy(
            self.model, self.masks, {weight: read.input_axis for weight, read in self.graph.consumers.items()}
        )
        return copied

    @entrance()
    def compare(
        self,
        solvers: Sequence[str] = ("greedy", "auto"),
        *,
        objective: str | Objective = "copies",
        costs: CostModel | None = None,
        time_limit: float = 10.0,
        seed: int = 0,
        verify: bool = True,
        measure: bool = True,
        repeats: int | None = None,
        progress: bool = False,
    ) -> Comparison:
        """Compare solvers: objectives with bounds, verified exports, measured latencies; see `upscale_opt.compare`."""
        return compare_solvers(
            self.for_objective(objective, costs),
            list(solvers),
            objective,
            time_limit=time_limit,
            seed=seed,
            verify=verify,
            measure=measure,
            repeats=repeats,
            progress=progress,
        )


def device_kind(example_inputs: torch.Tensor | Sequence[Any]) -> str:
    """``torch.device.type`` of the first tensor among the inputs; ``cpu`` without any."""
    return next((x.device.type for x in as_tuple(example_inputs) if isinstance(x, torch.Tensor)), "cpu")
