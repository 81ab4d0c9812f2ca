"""The command line: solve, compare, export, profile, show.

Every command reads its options, checks outputs before any work starts, and calls the library. torch is imported
inside the functions that need it, so that ``solve --instance`` and ``--help`` do without.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from problems import Problem, read_instance
from upscale_opt import options, reports
from upscale_opt.errors import ModelError, UpscaleError
from upscale_opt.segments import Solutions, best_solver, each_solution

if TYPE_CHECKING:
    from upscale_opt.comparison import Prepared
    from upscale_opt.exports import Exported
    from upscale_opt.plans import ModelReference, Plan

app = typer.Typer(
    help="Optimal channel reordering of pruned networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
DEFAULT_SHAPE = "1,3,224,224"
DEFAULT_SOLVERS = ["cp-sat"]


@app.command()
def solve(
    model: options.Model = None,
    instance: options.Instance = None,
    weights: options.Weights = None,
    amount: options.Amount = "0.5",
    masks: options.Masks = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    verify: options.Verify = True,
    save_plan: options.PlanOut = None,
    export: options.ExportDirectory = None,
    json: options.JsonPath = None,
) -> None:
    """Trace, mask, and order every segment with greedy and other solvers; verify the exports; print the table."""
    if (model is None) == (instance is None):
        raise UpscaleError("give either --model or --instance")
    solvers = options.chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_writable(json, save_plan)
    options.require_directory(export)
    search = _Search(solvers, objective, time_limit, seed)
    if instance is not None:
        if save_plan is not None or export is not None:
            raise UpscaleError("an instance has no model to plan or export; leave out --save-plan and --export")
        problem = read_instance(instance)
        _solve_instance(problem, search, json)
        return
    assert model is not None
    setting = _Setting(model, weights, amount, masks, input_shape, seed, device)
    run = _Run(setting, search, json)
    run.solve()
    exports = run.export(verify=verify)
    run.report(exports)
    best = best_solver(run.solutions, solvers)
    if save_plan is not None:
        from upscale_opt.plans import save_plan as write_plan

        write_plan(exports[best].plan, save_plan)
        _say(f"plan of {best}: {save_plan}")
    if export is not None:
        exports[best].save(export)
        _say(f"export of {best}: {export}")


@app.command()
def compare(
    model: options.Model = None,
    weights: options.Weights = None,
    amount: options.Amount = "0.5",
    masks: options.Masks = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    verify: options.Verify = True,
    json: options.JsonPath = None,
) -> None:
    """As solve, and measure: unpruned, baseline and every solver's export, interleaved."""
    solvers = options.chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_writable(json)
    setting = _Setting(_required(model), weights, amount, masks, input_shape, seed, device)
    run = _Run(setting, _Search(solvers, objective, time_limit, seed), json)
    run.solve()
    exports = run.export(verify=verify, baseline=True)
    from upscale_opt.comparison import measure_all

    latencies = measure_all(run.prepared, exports, progress=True)
    run.report(exports, latency={name: profile.to_dict() for name, profile in latencies.items()})
    _say(reports.latency_table(latencies))


@app.command()
def export(
    model: options.Model = None,
    plan: options.PlanIn = None,
    weights: options.Weights = None,
    amount: options.Amount = "0.5",
    masks: options.Masks = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    verify: options.Verify = True,
    out: options.ExportDirectory = None,
    json: options.JsonPath = None,
) -> None:
    """Export a model by a saved plan, or solve first; write plan and pruned weights with --export DIR."""
    options.require_writable(json)
    options.require_directory(out)
    if plan is not None:
        exported = _export_plan(plan, model, weights, input_shape, device, verify=verify)
        verified = {"plan": exported.verification.relative_error} if exported.verification else {}
        options.write_json({"model": model, "plan": str(plan), "verified": verified}, json)
    else:
        solvers = options.chosen_solvers(solver)
        options.require_settings(objective, time_limit)
        setting = _Setting(_required(model), weights, amount, masks, input_shape, seed, device)
        run = _Run(setting, _Search(solvers, objective, time_limit, seed), json)
        run.solve()
        best = best_solver(run.solutions, solvers)
        exports = run.export(verify=verify, only=best)
        exported = exports[best]
        run.write(exports)
    _say(str(exported))
    if out is not None:
        exported.save(out)
        _say(f"written to {out}")


@app.command()
def profile(
    model: options.Model = None,
    plan: options.PlanIn = None,
    weights: options.Weights = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    verify: options.Verify = True,
    json: options.JsonPath = None,
) -> None:
    """Measure a model, and with --plan its baseline and planned exports beside it, interleaved."""
    from upscale_opt.environment import environment
    from upscale_opt.exporter import export as run_export
    from upscale_opt.plans import read_plan
    from upscale_opt.profiling import profile_interleaved

    options.require_writable(json)
    stored = read_plan(plan) if plan is not None else None
    reference = _reference(stored, model, weights, input_shape, seed)
    network, x = _load(reference, device)
    models: dict[str, Any] = {"unpruned": network}
    if stored is not None:
        models["baseline"] = run_export(network, x, stored, baseline=True, verify=verify).module
        models["planned"] = run_export(network, x, stored, verify=verify).module
    latencies = profile_interleaved(models, x, progress=True)
    _say(reports.latency_table(latencies))
    document = {"model": reference.name, "environment": environment()}
    options.write_json(document | {"latency": {name: p.to_dict() for name, p in latencies.items()}}, json)


@app.command()
def show(
    model: options.Model = None,
    instance: options.Instance = None,
    weights: options.Weights = None,
    amount: options.Amount = "0.5",
    masks: options.Masks = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    segment: options.Segment = None,
    out: options.PictureDirectory = Path("pictures"),
) -> None:
    """Draw the access x channel matrix of every segment with two accesses or more, before and after, as PNG."""
    from problems import Order
    from upscale_opt.pictures import save_picture

    if (model is None) == (instance is None):
        raise UpscaleError("give either --model or --instance")
    solvers = options.chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_directory(out)
    search = _Search(solvers, objective, time_limit, seed)
    if instance is not None:
        problem = read_instance(instance)
        problems = {problem.name: problem}
    else:
        assert model is not None
        problems = dict(_prepare(_Setting(model, weights, amount, masks, input_shape, seed, device))[0].problems)
    if segment is not None and segment not in problems:
        raise UpscaleError(f"there is no segment {segment!r}; there are {', '.join(list(problems)[:8])}, ...")
    chosen = {
        name: problem
        for name, problem in problems.items()
        if name == segment or (segment is None and len(problem.accesses) > 1)
    }
    orders: dict[str, Order] = {}
    for name, solver_name, result in search.run(chosen):
        if solver_name == solvers[0]:
            orders = {"original": Order.identity(chosen[name])}
        orders[solver_name] = result.order
        if solver_name == solvers[-1]:
            path = out / f"{name.replace('/', '_')}.png"
            save_picture(chosen[name], orders, path, objective=objective)
            _say(str(path))


@dataclass(frozen=True)
class _Search:
    """How segments are solved."""

    solvers: list[str]
    objective: str
    time_limit: float
    seed: int

    def run(self, problems: Any) -> Any:
        """Yield (segment, solver, result)."""
        return each_solution(
            problems,
            self.solvers,
            objective=self.objective,
            time_limit=self.time_limit,
            seed=self.seed,
            progress=True,
        )


@dataclass(frozen=True)
class _Setting:
    """Which model, with which masks, where."""

    model: str
    weights: str | None
    amount: str
    masks: Path | None
    input_shape: str
    seed: int
    device: str


class _Run:
    """One model through the stages; an interrupt between stages leaves the segments solved so far in the JSON."""

    def __init__(self, setting: _Setting, search: _Search, json: Path | None) -> None:
        self.setting, self.search, self.json = setting, search, json
        self.prepared, self.reference = _prepare(setting)
        self.solutions: Solutions = {}
        for message in self.prepared.messages:
            print(f"note: {message}", file=sys.stderr)

    def solve(self) -> None:
        """Every segment, every solver."""
        try:
            for segment, name, result in self.search.run(self.prepared.problems):
                self.solutions.setdefault(segment, {})[name] = result
        except KeyboardInterrupt:
            self._interrupted()
            raise

    def export(self, *, verify: bool, baseline: bool = False, only: str | None = None) -> dict[str, Exported]:
        """Every solver's plan carried out and verified."""
        from upscale_opt.comparison import export_all

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
        except KeyboardInterrupt:
            self._interrupted()
            raise

    def report(self, exports: dict[str, Exported], **extra: Any) -> None:
        """Table, what was verified, what is pinned, and the JSON document."""
        setting, objective = self.setting, self.search.objective
        source = f"masks {setting.masks}" if setting.masks else f"amount {setting.amount}"
        title = f"{setting.model}, {source}, objective {objective}"
        _say(reports.table(self.prepared.problems, self.solutions, self.search.solvers, title=title))
        errors = self._errors(exports)
        if errors:
            figures = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
            _say(f"verified against the masked model in float64, relative error: {figures}")
        else:
            _say("not verified (--no-verify)")
        for pin in self.prepared.graph.unsupported:
            _say(f"pinned: {pin.num_channels} channels at {pin.node} ({pin.reason})")
        self.write(exports, **extra)

    def write(self, exports: dict[str, Exported], **extra: Any) -> None:
        """The JSON document, if it was asked for."""
        options.write_json(self._document(self._errors(exports), **extra), self.json)

    def _errors(self, exports: dict[str, Exported]) -> dict[str, float]:
        return {name: e.verification.relative_error for name, e in exports.items() if e.verification is not None}

    def _document(self, verified: dict[str, float], **extra: Any) -> dict[str, Any]:
        return reports.document(
            self.prepared.problems,
            self.solutions,
            self.search.solvers,
            model=self.setting.model,
            amount=None if self.setting.masks else float(self.setting.amount),
            objective=self.search.objective,
            trace_seconds=self.prepared.trace_seconds,
            verified=verified,
            messages=list(self.prepared.messages),
            pinned=[vars(pin) for pin in self.prepared.graph.unsupported],
            **extra,
        )

    def _interrupted(self) -> None:
        options.write_json(self._document({}, interrupted=True), self.json)
        done = len(reports.complete(self.solutions, self.search.solvers))
        kept = f"; they are in {self.json}" if self.json else ""
        print(f"interrupted after {done} of {len(self.prepared.problems)} segments{kept}", file=sys.stderr)


def _solve_instance(problem: Problem, search: _Search, json: Path | None) -> None:
    problems = {problem.name: problem}
    solutions: Solutions = {problem.name: {}}

    def document(**extra: Any) -> dict[str, Any]:
        return reports.document(
            problems, solutions, search.solvers, model=None, amount=None, objective=search.objective, **extra
        )

    try:
        for _, name, result in search.run(problems):
            solutions[problem.name][name] = result
    except KeyboardInterrupt:
        options.write_json(document(interrupted=True), json)
        raise
    _say(reports.table(problems, solutions, search.solvers, title=f"{problem}, objective {search.objective}"))
    options.write_json(document(), json)


def _prepare(setting: _Setting) -> tuple[Prepared, ModelReference]:
    import time

    from upscale_opt.amounts import require_amount
    from upscale_opt.comparison import prepare
    from upscale_opt.masks import l2_masks
    from upscale_opt.plans import ModelReference
    from upscale_opt.tracing import trace

    require_amount(setting.amount)
    given = options.read_masks(setting.masks) if setting.masks is not None else None
    shape = options.parse_shape(setting.input_shape)
    reference = ModelReference(setting.model, setting.weights, setting.seed, shape)
    network, x = _load(reference, setting.device)
    started = time.perf_counter()
    graph = trace(network, x)
    masks = l2_masks(graph, setting.amount) if given is None else given
    return prepare(network, x, masks, graph=graph, started=started), reference


def _load(reference: ModelReference, device: str) -> tuple[Any, Any]:
    """The model and a zero input, on the device."""
    import torch

    from upscale_opt.models import load_model

    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"there is no device {device!r}; choose cpu, cuda or cuda:N") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} is not available here; choose cpu")
    return load_model(reference).to(where), torch.zeros(reference.input_shape, device=where)


def _reference(
    plan: Plan | None, model: str | None, weights: str | None, input_shape: str, seed: int
) -> ModelReference:
    """What a plan says of its model, unless the command line says something else."""
    from upscale_opt.plans import ModelReference

    stored = plan.model if plan is not None else None
    if stored is None:
        return ModelReference(_required(model), weights, seed, options.parse_shape(input_shape))
    return ModelReference(model or stored.name, weights or stored.weights, stored.seed, stored.input_shape)


def _export_plan(
    path: Path, model: str | None, weights: str | None, input_shape: str, device: str, *, verify: bool
) -> Exported:
    from upscale_opt.exporter import export as run_export
    from upscale_opt.plans import read_plan

    plan = read_plan(path)
    network, x = _load(_reference(plan, model, weights, input_shape, 0), device)
    return run_export(network, x, plan, verify=verify)


def _required(model: str | None) -> str:
    if model is None:
        raise UpscaleError("give --model: a torchvision name, or path/to/file.py:factory")
    return model


def _say(text: str) -> None:
    print(text, flush=True)
