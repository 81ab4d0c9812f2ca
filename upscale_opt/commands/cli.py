"""The commands on orders (solve, compare, export, show), and the program with all commands.

Every command reads its options, checks outputs before any work starts, and calls the library. Functions import torch
only where they need it, so ``solve --instance`` and ``--help`` run without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import typer

from problems import Order, Problem, read_problem
from problems.proofs import require_provable
from upscale_opt.commands import allocation, latency, learning, options, proofs, pruning, speedup, spreading
from upscale_opt.commands.mask_choices import MaskChoice
from upscale_opt.commands.measuring import Measuring, documented, lint_all
from upscale_opt.commands.sessions import (
    Run,
    Search,
    Setting,
    export_by_plan,
    prepare_model,
    remark,
    required_model,
    say,
    solve_instance,
)
from upscale_opt.commands.stopping import Stopping
from upscale_opt.commands.values import chosen_solvers
from upscale_opt.comparing import reports
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
_OF_STOPPING = tuple(field.name for field in fields(Stopping))
_NO_MODEL = "an instance has no model to build, mask, measure, plan or export"
DEFAULT_MASKS = MaskChoice()
DEFAULT_MEASURING = Measuring()
DEFAULT_STOPPING = Stopping()


@app.command()
@spreading.spread
@spreading.alone("instance", (*_OF_INSTANCES, *_OF_STOPPING, "proof", "save_proof", "json"), _NO_MODEL)
def solve(
    model: options.Model = None,
    instance: options.Instance = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    verify: options.Verify = True,
    save_plan: options.PlanOut = None,
    export: options.ExportDirectory = None,
    forms: options.Forms = NO_FORMS,
    proof: options.Proof = False,
    save_proof: options.ProofPath = None,
    stopping: Stopping = DEFAULT_STOPPING,
    json: options.JsonPath = None,
) -> None:
    """Trace and mask a model, order every segment with greedy and other solvers, verify the exports; print a table."""
    if (model is None) == (instance is None):
        raise UpscaleError("give either --model or --instance")
    solvers = chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_writable(json, save_plan)
    options.require_export(forms, export)
    proofs.require_proof_path(save_proof, single=instance is not None)
    search = Search(solvers, objective, time_limit, seed, proof=proof or save_proof is not None, stopping=stopping)
    if instance is not None:
        problem = read_problem(instance)
        if search.proof:
            require_provable(problem)
        solutions = solve_instance(problem, search, json)
        _prove({problem.name: problem}, solutions, solvers, proof, save_proof)
        return
    assert model is not None
    setting = Setting(model, weights, masks, input_shape, seed, device, measuring)
    run = Run(setting, search, json)
    run.solve()
    exports = run.export(verify=verify)
    run.report(exports)
    _prove(run.prepared.problems, run.solutions, solvers, proof, save_proof)
    remark(proofs.without_proofs(run.prepared.problems) if search.proof else ())
    best = run.answer(exports, verify=verify)
    if save_plan is not None:
        from upscale_opt.planning.plan_files import save_plan as save_to

        save_to(exports[best].plan, save_plan)
        say(f"plan of {best}: {save_plan}")
    if export is not None:
        exports[best].save(export, forms)
        say(f"export of {best}: {export}")


def _prove(
    problems: Mapping[str, Problem], solutions: Solutions, solvers: list[str], proof: bool, save_proof: Path | None
) -> None:
    """Print and write the proofs for --proof and --save-proof."""
    if proof:
        say(proofs.proof_text(problems, solutions, solvers))
    if save_proof is not None:
        number = proofs.save_proofs(problems, solutions, solvers, save_proof)
        say(f"proofs: {save_proof}" if number else f"proofs: none to write to {save_proof}")


@app.command()
@spreading.spread
def compare(
    model: options.Model = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    repeats: options.Repeats = None,
    verify: options.Verify = True,
    json: options.JsonPath = None,
) -> None:
    """Like solve, and also measure the unpruned model, the baseline, all exports and the floor, interleaved."""
    solvers = chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_writable(json)
    setting = Setting(required_model(model), weights, masks, input_shape, seed, device, measuring)
    run = Run(setting, Search(solvers, objective, time_limit, seed), json)
    run.solve()
    exports = run.export(verify=verify, baseline=True)
    from upscale_opt.comparing.comparison import measure_all
    from upscale_opt.comparing.fastest import fastest_measured

    latencies = measure_all(run.prepared, exports, repeats=repeats, backend=measuring.backend_on(device), progress=True)
    conditions = measuring.conditions(run.prepared.example_inputs).to_dict()
    linted = lint_all(
        measuring.backend_on(device),
        {"unpruned": run.prepared.model, **{name: own.module for name, own in exports.items()}},
        run.prepared.example_inputs,
    )
    figures = {name: profile.to_dict() for name, profile in latencies.items()}
    run.report(exports, conditions=conditions, latency=figures, **documented(linted))
    say(reports.latency_table(latencies))
    for name, found in linted.items():
        say(f"{name}: {found.summary()}")
    say(str(fastest_measured(latencies, best_solver(run.solutions, solvers))))


@app.command()
@spreading.spread
@spreading.alone(
    "plan",
    ("model", "weights", "input_shape", "seed", "device", "verify", "out", "forms", "json"),
    "a plan says what is exported, in which order and under which masks",
)
def export(
    model: options.Model = None,
    plan: options.PlanIn = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    verify: options.Verify = True,
    out: options.ExportDirectory = None,
    forms: options.Forms = NO_FORMS,
    json: options.JsonPath = None,
) -> None:
    """Export a model by a saved plan, or solve first; --export DIR writes plan, pruned weights and other forms."""
    options.require_writable(json)
    options.require_export(forms, out)
    if plan is not None:
        exported = export_by_plan(plan, model, weights, input_shape, seed, device, verify=verify)
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
        setting = Setting(required_model(model), weights, masks, input_shape, seed, device, measuring)
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


@app.command()
@spreading.spread
@spreading.alone("instance", (*_OF_INSTANCES, "segment", "out"), _NO_MODEL)
def show(
    model: options.Model = None,
    instance: options.Instance = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    solver: options.Solvers = DEFAULT_SOLVERS,
    objective: options.ObjectiveName = "copies",
    time_limit: options.TimeLimit = 10.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    segment: options.Segment = None,
    out: options.PictureDirectory = Path("pictures"),
) -> None:
    """Draw the access x channel matrix of every segment with at least two accesses, before and after, as PNG."""
    from upscale_opt.comparing.pictures import save_picture

    if (model is None) == (instance is None):
        raise UpscaleError("give either --model or --instance")
    solvers = chosen_solvers(solver)
    options.require_settings(objective, time_limit)
    options.require_directory(out)
    search = Search(solvers, objective, time_limit, seed)
    if instance is not None:
        problem = read_problem(instance)
        problems = {problem.name: problem}
    else:
        assert model is not None
        setting = Setting(model, weights, masks, input_shape, seed, device)
        problems = dict(prepare_model(setting, objective)[0].problems)
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
            say(str(path))


app.command()(spreading.spread(latency.profile))
app.command()(spreading.spread(latency.calibrate))
app.command()(spreading.spread(latency.check))
app.command()(spreading.spread(pruning.prune))
app.command()(spreading.spread(learning.train))
app.command()(spreading.spread(learning.evaluate))
app.command()(spreading.spread(allocation.allocate))
app.command()(spreading.spread(speedup.speedup))
