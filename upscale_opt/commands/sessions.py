"""One run of the command line: its settings, its search, and its stages. An interrupt keeps the results so far.

Functions import torch only where they need it, so ``solve --instance`` runs without torch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from problems import objective_named
from solvers import SolveInterrupted
from upscale_opt.arguments.amounts import require_amount
from upscale_opt.arguments.modes import AUTO
from upscale_opt.commands import options, spreading
from upscale_opt.commands.heartbeats import doing
from upscale_opt.commands.mask_choices import MaskChoice, settle, settle_outputs
from upscale_opt.commands.measuring import Measuring
from upscale_opt.commands.stopping import Stopping
from upscale_opt.comparing import reports
from upscale_opt.comparing.gains import LATENCY, TRAFFIC
from upscale_opt.errors import UpscaleError
from upscale_opt.planning.solutions import Solutions, best_solver, each_solution
from upscale_opt.screens.lines import noted, wrapped

if TYPE_CHECKING:
    from upscale_opt.comparing.masked_model import MaskedModel
    from upscale_opt.latency.profiling import Profile
    from upscale_opt.models.references import ModelReference
    from upscale_opt.planning.plans import Plan
    from upscale_opt.rewriting.exports import Exported
    from upscale_opt.tracing.census import Census


@dataclass(frozen=True)
class Search:
    """Settings of solving segments. If no objective is asked for, it is settled when more is known."""

    solvers: list[str]
    objective: str | None
    time_limit: float
    seed: int
    proof: bool = False
    stopping: Stopping = field(default_factory=Stopping)

    @property
    def settled(self) -> str:
        """The objective, once it is settled."""
        assert self.objective is not None
        return self.objective

    def run(self, problems: Any) -> Any:
        """Solve the problems. Yields (segment, solver, result)."""
        return each_solution(
            problems,
            self.solvers,
            objective=self.settled,
            time_limit=self.time_limit,
            seed=self.seed,
            progress=True,
            proof=self.proof,
            **self.stopping.settings(),
        )


@dataclass(frozen=True)
class Setting:
    """The model, its masks, and its device."""

    model: str
    weights: str | None
    masks: MaskChoice
    input_shape: str
    seed: int
    device: str
    measuring: Measuring = field(default_factory=Measuring)
    front_end: str = AUTO


class Run:
    """All stages of one model. After an interrupt, the JSON file has the solved segments and the best orders so far."""

    def __init__(self, setting: Setting, search: Search, json: Path | None) -> None:
        self.setting, self.json = setting, json
        self.prepared, self.reference, objective, self.is_calibrated = prepare_model(setting, search.objective)
        self.search = replace(search, objective=objective)
        self.solutions: Solutions = {}
        remark(self.prepared.messages)

    def solve(self) -> None:
        """Solve every segment with every solver."""
        total = len(self.prepared.problems)
        doing(f"solving segment 1 of {total}")
        try:
            for segment, name, result in self.search.run(self.prepared.problems):
                self.solutions.setdefault(segment, {})[name] = result
                doing(f"solving, {len(self.solutions)} of {total} segments reached, the last by {name}")
        except KeyboardInterrupt as stopped:
            self._interrupted(stopped)
            raise

    def export(self, *, verify: bool, baseline: bool = False, only: str | None = None) -> dict[str, Exported]:
        """Export and verify the plan of every solver."""
        from upscale_opt.comparing.comparison import export_all

        solvers = [only] if only is not None else self.search.solvers
        doing(f"exporting{' and verifying' if verify else ''} the orders of {', '.join(solvers)}")
        try:
            return export_all(
                self.prepared,
                self.solutions,
                solvers,
                reference=self.reference,
                baseline=baseline,
                verify=verify,
                progress=True,
            )
        except KeyboardInterrupt as stopped:
            self._interrupted(stopped)
            raise

    def answer(self, exports: dict[str, Exported], *, verify: bool) -> str:
        """The name of the export to save: of the best solver, or a simpler one that the tables find faster.

        A simpler one is exported here, and added to the exports.
        """
        asked, masked = best_solver(self.solutions, self.search.solvers), self.prepared
        if not objective_named(self.search.settled).uses_tables or not masked.tables:
            return asked
        from upscale_opt.comparing.fastest import BASELINE, UPSCALE, fastest_expected, upscale_plan

        plans = {name: exported.plan for name, exported in exports.items()}
        for name in [own for own in self.search.solvers if own not in plans]:
            results = {segment: found[name] for segment, found in self.solutions.items()}
            plans[name] = masked.plan(results, model=self.reference)
        plans[BASELINE] = replace(masked.baseline_plan(), model=self.reference)
        plans[UPSCALE] = upscale_plan(
            masked.problems, masked.masks, output_masks=masked.output_masks, model=self.reference
        )
        found = fastest_expected(plans, masked.problems, masked.tables, asked)
        say(str(found))
        if found.fastest not in exports:
            exports[found.fastest] = masked.export(plans[found.fastest], verify=verify)
        return found.fastest

    def measure(self, exports: Mapping[str, Exported]) -> Mapping[str, Profile]:
        """Have a quick look at latencies: `upscale_opt.comparing.quick_looks`."""
        from upscale_opt.comparing.quick_looks import quick_look
        from upscale_opt.latency.backends import COMPILE, ONNXRUNTIME

        backend = self.setting.measuring.backend_on(self.setting.device)
        if backend in (COMPILE, ONNXRUNTIME):
            remark([f"no quick look at latencies with {backend}, which takes its time; compare measures them"])
            return {}
        doing("measuring")
        try:
            return quick_look(self.prepared, exports, backend=backend)
        except KeyboardInterrupt as stopped:
            self._interrupted(stopped)
            raise

    def masks_summary(self) -> str:
        """Asked and kept channels of the masks, in one line."""
        from upscale_opt.masking.rounding import summary

        choice = self.setting.masks
        text = summary(self.prepared.report, round_to=choice.rounding, min_channels=choice.min_channels)
        outputs = self.prepared.output_masks.values()
        if not outputs:
            return text
        return f"{text}; {sum(int(own.sum()) for own in outputs)} of {sum(map(len, outputs))} output channels kept"

    def write(self, exports: dict[str, Exported], **extra: Any) -> None:
        """Write the JSON document, if there is a path for it."""
        from upscale_opt.rewriting.exports import gradients_of

        options.write_json(self._document(self.errors(exports), gradients_of(exports), **extra), self.json)

    def errors(self, exports: Mapping[str, Exported]) -> dict[str, float]:
        """The relative errors of the verified exports."""
        return {name: e.verification.relative_error for name, e in exports.items() if e.verification is not None}

    def _document(self, verified: dict[str, float], gradients: dict[str, float | str], **extra: Any) -> dict[str, Any]:
        choice = self.setting.masks
        return reports.document(
            self.prepared.problems,
            self.solutions,
            self.search.solvers,
            model=self.setting.model,
            amount=None if choice.is_given else float(require_amount(choice.amount)),
            objective=self.search.settled,
            costs=self.prepared.costs,
            trace_seconds=self.prepared.trace_seconds,
            verified=verified,
            gradients=gradients,
            messages=list(self.prepared.messages),
            pinned=[vars(pin) for pin in self.prepared.graph.unsupported],
            skipped=[vars(own) for own in self.prepared.graph.skipped],
            channels=self._census().to_dict(),
            masks=[own.to_dict() for own in self.prepared.report],
            padding={name: len(channels) for name, channels in self.prepared.padding.items()},
            outputs=[
                {"weight": weight, "outputs": len(own), "kept": int(own.sum())}
                for weight, own in self.prepared.output_masks.items()
            ],
            **choice.to_dict(),
            **extra,
        )

    def census_summary(self) -> str:
        """How many channels may move, in one line."""
        return str(self._census())

    def _census(self) -> Census:
        from upscale_opt.tracing.census import census

        return census(self.prepared.graph)

    def _interrupted(self, stopped: KeyboardInterrupt) -> None:
        options.write_json(self._document({}, {}, stopped=stopped), self.json)
        unfinished = isinstance(stopped, SolveInterrupted)
        done = len(self.solutions) - 1 if unfinished else len(reports.complete(self.solutions, self.search.solvers))
        kept = "; they are in" if not unfinished else "; they and the best orders so far of the next one are in"
        where = f"{kept} {self.json}" if self.json else ""
        print(f"interrupted after {done} of {len(self.prepared.problems)} segments{where}", file=sys.stderr)


def padding_summary(prepared: MaskedModel) -> str:
    """Which channels are stored to align widths, in one line."""
    from upscale_opt.planning.padding import summary

    return summary(prepared)


class Prepared(NamedTuple):
    """A model that is ready to be solved.

    Attributes
    ----------
    masked
        The masked model. Its problems have the cost tables that the objective needs.
    reference
        How to build the model again.
    objective
        The objective asked for, or the default one.
    is_calibrated
        Whether all its reads were measured under these conditions.
    """

    masked: MaskedModel
    reference: ModelReference
    objective: str | None
    is_calibrated: bool


def prepare_model(setting: Setting, objective: str | None) -> Prepared:
    """Build, trace and mask the model of a setting. Without an objective, it gets the default one of its state."""
    from upscale_opt.comparing.pruning import prepare
    from upscale_opt.latency.backends import require_backend, require_inputs_of
    from upscale_opt.masking.output_masks import normalise_output_masks
    from upscale_opt.models.references import ModelReference
    from upscale_opt.tracing.skipped import grouped
    from upscale_opt.tracing.trace import trace

    measuring = setting.measuring
    shape = measuring.shape(options.parse_shape(setting.input_shape))
    reference = ModelReference(setting.model, setting.weights, setting.seed, shape)
    doing("building the network")
    network, x, notes = load_model_and_input(reference, setting.device, measuring.memory_format, measuring.dtype)
    doing("tracing and masking the network")
    require_backend(measuring.backend_on(x.device.type), x.device)
    require_inputs_of(measuring.backend_on(x.device.type), (x,))
    started = time.perf_counter()
    graph = trace(network, x, front_end=setting.front_end)
    masks = settle(graph, setting.masks)
    masks = replace(masks, messages=(*notes, *masks.messages))
    masks = measuring.rounded(masks, x, setting.masks.rounding, min_channels=setting.masks.min_channels)
    outputs = normalise_output_masks(graph, settle_outputs(graph, setting.masks))
    bare = replace(masks, output_masks=outputs)
    is_calibrated = measuring.is_calibrated(bare, x)
    objective = default_objective(is_calibrated) if objective is None else objective
    timed = objective_named(objective).uses_tables
    masks = measuring.padded(bare, x, measured=timed)
    costs = measuring.costs(x) if timed else None
    remark(f"skipped {line}" for line in grouped(graph.skipped))
    prepared = prepare(network, x, masks, graph=graph, started=started, objective=objective, costs=costs)
    return Prepared(prepared, reference, objective, is_calibrated)


def default_objective(is_priced: bool) -> str:
    """What is minimised if nothing is asked for: time where it is known, else what costs time everywhere."""
    return LATENCY if is_priced else TRAFFIC


def load_model_and_input(
    reference: ModelReference, device: str, memory_format: str = "contiguous", precision: str | None = None
) -> tuple[Any, Any, tuple[str, ...]]:
    """As `upscale_opt.models.ready_models.load_model_and_input`; imports torch when it is called."""
    from upscale_opt.models.ready_models import load_model_and_input as load

    return load(reference, device, memory_format, precision)


def reference_of(
    plan: Plan | None, model: str | None, weights: str | None, input_shape: str, seed: int
) -> ModelReference:
    """The model reference of a plan. The command line may name another model or other weights."""
    from upscale_opt.models.references import ModelReference

    stored = plan.model if plan is not None else None
    if stored is None:
        return ModelReference(required_model(model), weights, seed, options.parse_shape(input_shape))
    return ModelReference(model or stored.name, weights or stored.weights, stored.seed, stored.input_shape)


def refuse_beside(plan: Plan, *names: str) -> None:
    """Raise `UpscaleError` if the user typed one of these options although the plan sets seed and input shape."""
    if plan.model is not None:
        shape = ",".join(map(str, plan.model.input_shape))
        spreading.refuse(names, f"the plan is of a model with seed {plan.model.seed} and input shape {shape}")


def export_by_plan(
    path: Path,
    model: str | None,
    weights: str | None,
    input_shape: str,
    seed: int,
    device: str,
    *,
    verify: bool,
    front_end: str = AUTO,
) -> Exported:
    """Export by a plan file. The plan names the model, unless the command line does."""
    from upscale_opt.exporting.exporter import export as run_export
    from upscale_opt.planning.plan_files import read_plan

    plan = read_plan(path)
    refuse_beside(plan, "seed", "input_shape")
    network, x, notes = load_model_and_input(reference_of(plan, model, weights, input_shape, seed), device)
    remark(notes)
    return run_export(network, x, plan, verify=verify, front_end=front_end)


def required_model(model: str | None) -> str:
    """The name of the model. It is an error if it is missing."""
    if model is None:
        raise UpscaleError("give --model: a torchvision name, timm:NAME, or path/to/file.py:factory")
    return model


def remark(messages: Iterable[str]) -> None:
    """Print notes to standard error."""
    for message in messages:
        print(noted(f"note: {message}"), file=sys.stderr)


def say(text: str, *, hanging: int = 2) -> None:
    """Print to standard output, without buffering. Long lines of prose are broken (`upscale_opt.screens.lines`)."""
    print(wrapped(text, hanging=hanging), flush=True)
