"""The commands on orders (solve, compare, export, show), and the program with all commands.

Every command reads its options, checks outputs before any work starts, and calls the library. Functions import torch
only where they need it, so ``solve --instance`` and ``--help`` run without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import typer

from problems import Order, Problem, read_problem
from problems.proofs import require_provable
from upscale_opt.arguments.modes import AUTO
from upscale_opt.commands import (
    allocation,
    first_screen,
    help_pages,
    instances,
    latency,
    learning,
    options,
    proofs,
    pruning,
    speedup,
    spreading,
    sweep,
)
from upscale_opt.commands.front_ends import FrontEnd
from upscale_opt.commands.heartbeats import doing
from upscale_opt.commands.mask_choices import MaskChoice
from upscale_opt.commands.measuring import Measure, Measuring, Segments, documented, lint_all
from upscale_opt.commands.report_options import PictureForms, Reporting, compared_run, this_command
from upscale_opt.commands.sessions import (
    Run,
    Search,
    Setting,
    export_by_plan,
    prepare_model,
    remark,
    required_model,
    say,
)
from upscale_opt.commands.stopping import Stopping
from upscale_opt.commands.values import chosen_solvers
from upscale_opt.comparing import reports
from upscale_opt.comparing.comparison_pages import Compared
from upscale_opt.errors import UpscaleError
from upscale_opt.planning.solutions import Solutions, best_solver

app = typer.Typer(
    help="Optimal channel reordering of pruned networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
DEFAULT_SHAPE = "1,3,224,224"
DEFAULT_SOLVERS = ["auto"]
NO_FORMS: list[str] = []
_OF_INSTANCES = ("model", "solver", "objective", "time_limit", "seed")
_REPORTING = tuple(field.name for field in fields(Reporting))
_OF_STOPPING = tuple(field.name for field in fields(Stopping))
_OF_SOLVED_INSTANCES = (*_OF_INSTANCES, *_OF_STOPPING, *_REPORTING, "proof", "save_proof", "segments", "json")
_NO_MODEL = "an instance has no model to build, mask, measure, plan or export"
DEFAULT_MASKS = MaskChoice()
DEFAULT_MEASURING = Measuring()
DEFAULT_REPORTING = Reporting()
DEFAULT_STOPPING = Stopping()


@spreading.alone("instance", _OF_SOLVED_INSTANCES, _NO_MODEL)
def solve(
    model: options.Model = None,
    instance: options.Instance = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = None,
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    front_end: FrontEnd = AUTO,
    verify: options.Verify = True,
    measure: Measure = True,
    segments: Segments = False,
    save_plan: options.PlanOut = None,
    export: options.ExportDirectory = None,
    forms: options.Forms = NO_FORMS,
    proof: options.Proof = False,
    save_proof: options.ProofPath = None,
    stopping: Stopping = DEFAULT_STOPPING,
    reporting: Reporting = DEFAULT_REPORTING,
    json: options.JsonPath = None,
) -> None:
    """Order the channels of a pruned network; say what that gains, with a bound, and what to do next."""
    if (model is None) == (instance is None):
        raise UpscaleError("give either --model or --instance")
    solvers = chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_writable(json, save_plan)
    options.require_export(forms, export)
    reporting.check()
    proofs.require_proof_path(save_proof, single=instance is not None)
    search = Search(solvers, objective, time_limit, seed, proof=proof or save_proof is not None, stopping=stopping)
    if instance is not None:
        problem = read_problem(instance)
        if search.proof:
            require_provable(problem)
        search = instances.settled(search, problem)
        solutions = instances.solve_instance(problem, search, json, segments=segments)
        _prove({problem.name: problem}, solutions, solvers, proof, save_proof)
        asked = {"instance": instance, "objective": search.settled, "solvers": ", ".join(solvers)}
        shown = Compared(problem.name, {problem.name: problem}, solutions, solvers, search.settled, asked)
        reporting.write(replace(shown, command=this_command()))
        print(f"\n{instances.next_steps(problem, search)}")
        return
    assert model is not None
    setting = Setting(model, weights, masks, input_shape, seed, device, measuring, front_end)
    run = Run(setting, search, json)
    run.solve()
    exports = run.export(verify=verify)
    latencies = run.measure(exports) if measure else {}
    first_screen.show(run, exports, latencies, how="measured in few rounds", segments=segments)
    run.write(exports, **({"latency": {name: own.to_dict() for name, own in latencies.items()}} if latencies else {}))
    _prove(run.prepared.problems, run.solutions, solvers, proof, save_proof)
    remark(proofs.without_proofs(run.prepared.problems) if search.proof else ())
    best = run.answer(exports, verify=verify)
    if reporting.is_wanted:
        reporting.write(compared_run(run, exports, latencies or None))
    if save_plan is not None:
        from upscale_opt.planning.plan_files import save_plan as save_to

        save_to(exports[best].plan, save_plan)
        say(f"plan of {best}: {save_plan}")
    if export is not None:
        exports[best].save(export, forms)
        say(f"export of {best}: {export}")
    print(f"\n{first_screen.next_steps(run, 'solve', saved=export is not None, segments=segments)}")


def _prove(
    problems: Mapping[str, Problem], solutions: Solutions, solvers: list[str], proof: bool, save_proof: Path | None
) -> None:
    """Print and write the proofs for --proof and --save-proof."""
    if proof:
        say(proofs.proof_text(problems, solutions, solvers))
    if save_proof is not None:
        number = proofs.save_proofs(problems, solutions, solvers, save_proof)
        say(f"proofs: {save_proof}" if number else f"proofs: none to write to {save_proof}")


def compare(
    model: options.Model = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = None,
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    front_end: FrontEnd = AUTO,
    repeats: options.Repeats = None,
    verify: options.Verify = True,
    reporting: Reporting = DEFAULT_REPORTING,
    segments: Segments = False,
    json: options.JsonPath = None,
) -> None:
    """Like solve, with careful measurements of all variants in turn, and which of them is fastest."""
    solvers = chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_writable(json)
    reporting.check()
    setting = Setting(required_model(model), weights, masks, input_shape, seed, device, measuring, front_end)
    run = Run(setting, Search(solvers, objective, time_limit, seed), json)
    run.solve()
    exports = run.export(verify=verify, baseline=True)
    from upscale_opt.comparing.comparison import measure_all
    from upscale_opt.comparing.fastest import fastest_measured

    doing("measuring")
    latencies = measure_all(run.prepared, exports, repeats=repeats, backend=measuring.backend_on(device), progress=True)
    conditions = measuring.conditions(run.prepared.example_inputs).to_dict()
    linted = lint_all(
        measuring.backend_on(device),
        {"unpruned": run.prepared.model, **{name: own.module for name, own in exports.items()}},
        run.prepared.example_inputs,
    )
    figures = {name: profile.to_dict() for name, profile in latencies.items()}
    how = "measured in turn"
    first_screen.show(run, exports, latencies, how=how, segments=segments)
    run.write(exports, conditions=conditions, latency=figures, **documented(linted))
    say(f"\n{reports.latency_table(latencies)}")
    for name, found in linted.items():
        say(f"{name}: {found.summary()}")
    answer = str(fastest_measured(latencies, best_solver(run.solutions, solvers)))
    say(answer)
    if reporting.is_wanted:
        reporting.write(compared_run(run, exports, latencies, answer=answer))
    print(f"\n{first_screen.next_steps(run, 'compare', segments=segments)}")


@spreading.alone(
    "plan",
    ("model", "weights", "input_shape", "seed", "device", "front_end", "verify", "out", "forms", "json"),
    "a plan says what is exported, in which order and under which masks",
)
def export(
    model: options.Model = None,
    plan: options.PlanIn = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = None,
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    front_end: FrontEnd = AUTO,
    verify: options.Verify = True,
    out: options.ExportDirectory = None,
    forms: options.Forms = NO_FORMS,
    json: options.JsonPath = None,
) -> None:
    """Export a model by a saved plan, or solve first; --export DIR writes plan, pruned weights and other forms."""
    options.require_writable(json)
    options.require_export(forms, out)
    if plan is not None:
        exported = export_by_plan(plan, model, weights, input_shape, seed, device, verify=verify, front_end=front_end)
        verified = {"plan": exported.verification.relative_error} if exported.verification else {}
        from upscale_opt.rewriting.exports import gradients_of

        document = {
            "model": model,
            "plan": str(plan),
            "verified": verified,
            "gradients": gradients_of({"plan": exported}),
        }
        options.write_json(document, json)
    else:
        solvers = chosen_solvers(solver)
        options.require_settings(objective, time_limit)
        setting = Setting(required_model(model), weights, masks, input_shape, seed, device, measuring, front_end)
        run = Run(setting, Search(solvers, objective, time_limit, seed), json)
        run.solve()
        best = best_solver(run.solutions, solvers)
        exports = run.export(verify=verify, only=best)
        exported = exports[run.answer(exports, verify=verify)]
        run.write(exports)
        say(run.masks_summary())
    say(str(exported))
    if out is not None:
        exported.save(out, forms)
        say(f"written to {out}")


@spreading.alone("instance", (*_OF_INSTANCES, "segment", "out", "pictures"), _NO_MODEL)
def show(
    model: options.Model = None,
    instance: options.Instance = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = None,
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    segment: options.Segment = None,
    out: options.PictureDirectory = Path("pictures"),
    pictures: PictureForms = NO_FORMS,
) -> None:
    """Draw the access x channel matrix of every segment with at least two accesses, before and after."""
    from upscale_opt.comparing.pictures import save_picture
    from upscale_opt.pages.figure_files import require_forms_of_figures

    if (model is None) == (instance is None):
        raise UpscaleError("give either --model or --instance")
    solvers = chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    forms = require_forms_of_figures(pictures)
    options.require_directory(out)
    search = Search(solvers, objective, time_limit, seed)
    if instance is not None:
        problem = read_problem(instance)
        search, problems = instances.settled(search, problem), {problem.name: problem}
    else:
        assert model is not None
        prepared = prepare_model(Setting(model, weights, masks, input_shape, seed, device), objective)
        search, problems = replace(search, objective=prepared.objective), dict(prepared.masked.problems)
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
            for form in forms:
                path = out / f"{name.replace('/', '_')}.{form}"
                save_picture(chosen[name], orders, path, objective=search.settled)
                say(str(path))


_COMMANDS = (
    *(solve, compare, export, latency.calibrate, latency.profile, latency.check),
    *(pruning.prune, allocation.allocate, speedup.speedup, learning.train, learning.evaluate, show),
)
for _command in _COMMANDS:
    app.command(**help_pages.page(_command.__name__))(spreading.spread(_command))
app.add_typer(sweep.app, name="sweep", **help_pages.page("sweep"))
