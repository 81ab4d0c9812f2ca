"""A masked model with all its operations: solve, plan, export, verify, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from problems import Objective, Problem, objective_named
from problems.showing.progress import ShowProgress
from solvers import Result
from upscale_opt.arguments.checks import either
from upscale_opt.arguments.entrance import PLAN, REFERENCE, entrance, results_by_segment
from upscale_opt.arguments.modes import AUTO, OFF, alignment, rounding
from upscale_opt.comparing.comparison import Comparison, compare_solvers
from upscale_opt.comparing.floors import floor_of
from upscale_opt.exporting.exporter import export
from upscale_opt.latency.calibration import Effort, calibrate
from upscale_opt.latency.kept_counts import rounded
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
    """A traced model, its masks and its ordering problems. `upscale_opt.prune` returns it.

    Attributes
    ----------
    model, example_inputs
        The original model and its inputs. The model is not changed.
    graph, masks, output_masks, padding, messages, report
        As in `upscale_opt.MaskedGraph`. There is a mask for every consumer.
    problems
        Segment name to ordering problem.
    trace_seconds
        Seconds for trace, masks and extraction.
    costs
        Source of the problems' cost tables. None if they have no tables.

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
        return f"<MaskedModel {self}>"

    def __str__(self) -> str:
        return f"{type(self.model).__name__}: {super().__str__()}; {len(self.problems)} ordering problems"

    def priced(self, costs: CostModel) -> MaskedModel:
        """A copy with cost tables from another cost model, for example after a calibration."""
        return replace(self, problems=problems_of(self, costs=costs), costs=costs)

    @entrance()
    def calibrate(
        self,
        *,
        backend: str | None = None,
        directory: str | Path | None = None,
        effort: Effort | None = None,
        progress: ShowProgress = None,
    ) -> MaskedModel:
        """A copy with cost tables that are measured on this machine; see `upscale_opt.calibrate`.

        Parameters
        ----------
        backend
            One of `upscale_opt.latency.backends.BACKENDS`. Default: the same as in `upscale_opt.profile`.
        directory
            Directory where tables are stored and looked up.
        effort
            How much to measure.
        progress
            Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).
        """
        inputs, kind = as_tuple(self.example_inputs), device_kind(self.example_inputs)
        backend = backend or default_backend(torch.device(kind))
        tables = calibrate(self, inputs, backend=backend, directory=directory, effort=effort, progress=progress)
        return self.priced(MeasuredCosts(tables, AnalyticCosts.for_device(kind)))

    def for_objective(self, objective: str | Objective, costs: CostModel | None = None) -> MaskedModel:
        """A copy with the cost tables that an objective needs: the given ones, else its own, else analytic ones."""
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
        progress: ShowProgress = None,
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

    @entrance(to=rounding)
    def round(
        self,
        to: str | int = AUTO,
        *,
        min_channels: int = 1,
        backend: str | None = None,
        directory: str | Path | None = None,
        effort: Effort | None = None,
        progress: ShowProgress = None,
    ) -> MaskedModel:
        """The same with rounder numbers of kept channels, consumer by consumer. `report` compares them with the masks.

        Align and calibrate after it, not before. Constrained masks do not agree any more after it; for them, use
        `round_to` of `upscale_opt.prune`.

        Parameters
        ----------
        to
            ``auto``: every consumer keeps more channels where measurements on this machine find that this takes no more
            time. ``auto-nearest``: or fewer, where that is clearly faster and drops at most 1 % of the consumer's
            squared norm (`upscale_opt.latency.kept_counts`). A number: the next multiple of it.
        min_channels
            No consumer keeps fewer channels than this, if it reads as many.
        backend, directory, effort, progress
            Of the measurements; see `calibrate`.

        Raises
        ------
        MaskError
            If `to` is something else.
        """
        own = backend or default_backend(torch.device(device_kind(self.example_inputs)))
        how: dict[str, Any] = {"backend": own, "directory": directory, "effort": effort, "progress": progress}
        rounder = rounded(self, as_tuple(self.example_inputs), to, min_channels=min_channels, **how)
        return replace(rounder, problems=problems_of(rounder, costs=self.costs))

    @entrance()
    def solve(
        self,
        solver: str = "auto",
        *,
        objective: str | Objective = "copies",
        costs: CostModel | None = None,
        time_limit: float = 10.0,
        seed: int = 0,
        progress: ShowProgress = None,
    ) -> dict[str, Result]:
        """Solve the ordering problem of every segment.

        Parameters
        ----------
        solver
            Name of a registered solver.
        objective
            Name of an objective, or a `problems.Objective`.
        costs
            Source of the cost tables, if the objective uses them. Default: the model's own, else `AnalyticCosts`.
        time_limit
            Seconds per segment.
        seed
            Seed of the solver.
        progress
            Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

        Returns
        -------
        dict
            Segment name to `solvers.Result`: order, value, bound, status.

        Raises
        ------
        SolverError
            If the solver does not exist, or cannot solve such a problem.
        """
        problems = self.for_objective(objective, costs).problems
        solutions = each_solution(
            problems, [solver], objective=objective, time_limit=time_limit, seed=seed, progress=progress
        )
        return {segment: result for segment, _, result in solutions}

    @entrance(model=REFERENCE)
    def plan(self, results: Mapping[str, Result] | None = None, *, model: ModelReference | None = None) -> Plan:
        """Make the plan of an export: masks, orders, and how every access is read.

        Parameters
        ----------
        results
            The results of `solve`. Default: those of ``solve()``.
        model
            How to build the model again. The plan file stores it.
        """
        chosen = self.solve() if results is None else results
        return self.read_cheaply(plan(self.problems, self.masks, chosen, model=model, output_masks=self.output_masks))

    def baseline_plan(self) -> Plan:
        """The plan that keeps the original order and gathers before every consumer: the paper's naive export."""
        return baseline_plan(self.problems, self.masks, output_masks=self.output_masks)

    def read_cheaply(self, chosen: Plan) -> Plan:
        """A plan with the readings that are cheapest in measured tables. Without such tables, the plan is unchanged."""
        if not isinstance(self.costs, MeasuredCosts):
            return chosen
        return cheapest_readings(chosen, self.problems, self.tables)[0]

    @cached_property
    def tables(self) -> Mapping[str, MeasuredTable]:
        """Access name to measured table, for the accesses that have one."""
        if not isinstance(self.costs, MeasuredCosts):
            return {}
        return tables_of(self, self.costs)

    def verifier(self) -> Verifier:
        """The verifier for exports of this model. Several exports may share one."""
        return Verifier(self.model, self.example_inputs, self)

    @entrance(plan=either(PLAN, results_by_segment))
    def export(self, plan: Plan | Mapping[str, Result] | None = None, *, verify: bool = True) -> Exported:
        """Carry out a plan: make a new, smaller model that computes the same as the masked model.

        Parameters
        ----------
        plan
            A plan, or the results of `solve`. Default: the results of ``solve()``.
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
        """The network that no order can beat: right shapes, wrong outputs (`upscale_opt.comparing.floors`)."""
        return floor_of(self.model, self.example_inputs, self, self.problems, kernels=fastest_kernels(self.tables))

    def masked_copy(self) -> nn.Module:
        """A copy of the model where dropped input channels have zero weights. It has no output masks."""
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
        progress: ShowProgress = None,
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
    """``torch.device.type`` of the first tensor among the inputs. Without a tensor, ``cpu``."""
    return next((x.device.type for x in as_tuple(example_inputs) if isinstance(x, torch.Tensor)), "cpu")
