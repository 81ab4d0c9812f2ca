"""One run of the command line: its settings, its search, and its stages. An interrupt keeps the results so far.

Functions import torch only where they need it, so ``solve --instance`` runs without torch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from problems import Problem, objective_named
from solvers import SolveInterrupted
from upscale_opt.arguments.amounts import require_amount
from upscale_opt.commands import options, spreading
from upscale_opt.commands.mask_choices import MaskChoice, settle, settle_outputs
from upscale_opt.commands.measuring import Measuring
from upscale_opt.commands.stopping import Stopping
from upscale_opt.comparing import reports
from upscale_opt.errors import ModelError, UpscaleError
from upscale_opt.planning.solutions import Solutions, best_solver, each_solution

if TYPE_CHECKING:
    from upscale_opt.comparing.masked_model import MaskedModel
    from upscale_opt.models.references import ModelReference
    from upscale_opt.planning.plans import Plan
    from upscale_opt.rewriting.exports import Exported
    from upscale_opt.tracing.census import Census


@dataclass(frozen=True)
class Search:
    """Settings of solving segments."""

    solvers: list[str]
    objective: str
    time_limit: float
    seed: int
    proof: bool = False
    stopping: Stopping = field(default_factory=Stopping)

    def run(self, problems: Any) -> Any:
        """Solve the problems. Yields (segment, solver, result)."""
        return each_solution(
            problems,
            self.solvers,
            objective=self.objective,
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


class Run:
    """All stages of one model. After an interrupt, the JSON file has the solved segments and the best orders so far."""

    def __init__(self, setting: Setting, search: Search, json: Path | None) -> None:
        self.setting, self.search, self.json = setting, search, json
        self.prepared, self.reference = prepare_model(setting, search.objective)
        self.solutions: Solutions = {}
        remark(self.prepared.messages)

    def solve(self) -> None:
        """Solve every segment with every solver."""
        try:
            for segment, name, result in self.search.run(self.prepared.problems):
                self.solutions.setdefault(segment, {})[name] = result
        except KeyboardInterrupt as stopped:
            self._interrupted(stopped)
            raise

    def export(self, *, verify: bool, baseline: bool = False, only: str | None = None) -> dict[str, Exported]:
        """Export and verify the plan of every solver."""
        from upscale_opt.comparing.comparison import export_all

        solvers = [only] if only is not None else self.search.solvers
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
        if not objective_named(self.search.objective).uses_tables or not masked.tables:
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

    def report(self, exports: dict[str, Exported], **extra: Any) -> None:
        """Print the table, the verification results and the pinned channels; write the JSON document."""
        setting, objective = self.setting, self.search.objective
        title = f"{setting.model}, {setting.masks}, objective {objective}"
        costs = self.prepared.costs
        say(reports.table(self.prepared.problems, self.solutions, self.search.solvers, title=title, costs=costs))
        errors = self._errors(exports)
        if errors:
            figures = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
            say(f"verified against the masked model in float64, relative error: {figures}")
            found = {e.verification for e in exports.values() if e.verification is not None}
            known = [own.gradients for own in found if own.gradients is not None]
            notes = dict.fromkeys(own.learning for own in found if own.gradients is None)
            say(", ".join([*([f"gradients {max(known):.1e}"] if known else []), *notes]))
        else:
            say("not verified (--no-verify)")
        say(str(self._census()))
        say(self.masks_summary())
        say(padding_summary(self.prepared))
        for pin in self.prepared.graph.unsupported:
            if not pin.num_channels:
                continue  # a skipped layer
            say(f"pinned: {pin.num_channels} channels at {pin.node} ({pin.reason})")
        for name in self.prepared.graph.used:
            say(f"fixed: the value of {name} is part of the traced code, which depends on it")
        unused = dict.fromkeys(part for exported in exports.values() for part in exported.unused)
        if unused:
            say(f"not exported, nor is its loss: {', '.join(unused)} (not used in eval mode)")
        for note in dict.fromkeys(note for exported in exports.values() for note in exported.training_notes):
            say(note)
        self.write(exports, **extra)

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

        options.write_json(self._document(self._errors(exports), gradients_of(exports), **extra), self.json)

    def _errors(self, exports: dict[str, Exported]) -> dict[str, float]:
        return {name: e.verification.relative_error for name, e in exports.items() if e.verification is not None}

    def _document(self, verified: dict[str, float], gradients: dict[str, float | str], **extra: Any) -> dict[str, Any]:
        choice = self.setting.masks
        return reports.document(
            self.prepared.problems,
            self.solutions,
            self.search.solvers,
            model=self.setting.model,
            amount=None if choice.is_given else float(require_amount(choice.amount)),
            objective=self.search.objective,
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


def solve_instance(problem: Problem, search: Search, json: Path | None) -> Solutions:
    """Solve one problem, print the table and write the document. Returns the results under the problem's name."""
    problems = {problem.name: problem}
    solutions: Solutions = {problem.name: {}}
    costs = "instance" if objective_named(search.objective).uses_tables else None

    def document(**extra: Any) -> dict[str, Any]:
        return reports.document(
            problems,
            solutions,
            search.solvers,
            model=None,
            amount=None,
            objective=search.objective,
            costs=costs,
            **extra,
        )

    try:
        for _, name, result in search.run(problems):
            solutions[problem.name][name] = result
    except KeyboardInterrupt as stopped:
        options.write_json(document(stopped=stopped), json)
        print(f"interrupted{f'; the best orders so far are in {json}' if json else ''}", file=sys.stderr)
        raise
    say(
        reports.table(
            problems, solutions, search.solvers, title=f"{problem}, objective {search.objective}", costs=costs
        )
    )
    options.write_json(document(), json)
    return solutions


def padding_summary(prepared: MaskedModel) -> str:
    """Which channels are stored to align widths, in one line."""
    from upscale_opt.planning.padding import summary

    return summary(prepared)


def prepare_model(setting: Setting, objective: str) -> tuple[MaskedModel, ModelReference]:
    """Build, trace and mask the model of a setting. Its problems have the cost tables that the objective needs."""
    from upscale_opt.comparing.pruning import prepare
    from upscale_opt.latency.backends import require_backend, require_inputs_of
    from upscale_opt.masking.output_masks import normalise_output_masks
    from upscale_opt.models.references import ModelReference
    from upscale_opt.tracing.skipped import grouped
    from upscale_opt.tracing.trace import trace

    measuring = setting.measuring
    shape = measuring.shape(options.parse_shape(setting.input_shape))
    reference = ModelReference(setting.model, setting.weights, setting.seed, shape)
    network, x, notes = load_model_and_input(reference, setting.device, measuring.memory_format, measuring.dtype)
    require_backend(measuring.backend_on(x.device.type), x.device)
    require_inputs_of(measuring.backend_on(x.device.type), (x,))
    started = time.perf_counter()
    graph = trace(network, x)
    masks = settle(graph, setting.masks)
    masks = replace(masks, messages=(*notes, *masks.messages))
    masks = measuring.rounded(masks, x, setting.masks.rounding, min_channels=setting.masks.min_channels)
    outputs = normalise_output_masks(graph, settle_outputs(graph, setting.masks))
    timed = objective_named(objective).uses_tables
    masks = measuring.padded(replace(masks, output_masks=outputs), x, measured=timed)
    costs = measuring.costs(x) if timed else None
    remark(f"skipped {line}" for line in grouped(graph.skipped))
    prepared = prepare(network, x, masks, graph=graph, started=started, objective=objective, costs=costs)
    return prepared, reference


def load_model_and_input(
    reference: ModelReference, device: str, memory_format: str = "contiguous", precision: str | None = None
) -> tuple[Any, Any, tuple[str, ...]]:
    """Load the model and make a random input, on the device and in a memory format. Also returns notes on the model.

    Both are in the given precision (`upscale_opt.models.precisions`). Default: float32, as torch computes it on the
    device by default. Pruning by `torch.nn.utils.prune` is made permanent. Weights that are computed at every call
    become plain weights.
    """
    import torch

    from upscale_opt.models.loading import has_random_weights, in_memory_format, load_model
    from upscale_opt.models.precisions import in_precision, settle
    from upscale_opt.models.torch_prune import is_pruned
    from upscale_opt.models.weight_parametrisations import PRUNE, computed_weights, plain_weights

    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"there is no device {device!r}; choose cpu, cuda or cuda:N") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} is not available here; choose cpu")
    if precision is not None:
        settle(precision, where)
    try:
        x = torch.randn(reference.input_shape, generator=torch.Generator().manual_seed(reference.seed))
    except (RuntimeError, MemoryError) as error:
        shape = ",".join(map(str, reference.input_shape))
        raise ModelError(f"there is not enough memory for an input of shape {shape}; choose a smaller one") from error
    network = load_model(reference)
    notes: tuple[str, ...] = ()
    if is_pruned(network):
        notes = ("the model is pruned by torch.nn.utils.prune, which is made permanent; its zeros count as masks",)
    computed = computed_weights(network)
    if computed:
        network = plain_weights(network)
    others = [own for own in computed if own != PRUNE]
    if others:
        notes = (*notes, f"weights of the model are computed at every call ({', '.join(others)}); they are made plain")
    network = network.to(where)
    x = in_memory_format(memory_format, x.to(where), network)
    if precision is not None:
        random_weights = has_random_weights(reference)
        network, x, remarks = in_precision(network, x, precision, random_weights=random_weights)
        notes = (*notes, *remarks)
    return network, x, notes


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
    path: Path, model: str | None, weights: str | None, input_shape: str, seed: int, device: str, *, verify: bool
) -> Exported:
    """Export by a plan file. The plan names the model, unless the command line does."""
    from upscale_opt.exporting.exporter import export as run_export
    from upscale_opt.planning.plan_files import read_plan

    plan = read_plan(path)
    refuse_beside(plan, "seed", "input_shape")
    network, x, notes = load_model_and_input(reference_of(plan, model, weights, input_shape, seed), device)
    remark(notes)
    return run_export(network, x, plan, verify=verify)


def required_model(model: str | None) -> str:
    """The name of the model. It is an error if it is missing."""
    if model is None:
        raise UpscaleError("give --model: a torchvision name, timm:NAME, or path/to/file.py:factory")
    return model


def remark(messages: Iterable[str]) -> None:
    """Print notes to standard error."""
    for message in messages:
        print(f"note: {message}", file=sys.stderr)


def say(text: str) -> None:
    """Print to standard output, without buffering."""
    print(text, flush=True)
