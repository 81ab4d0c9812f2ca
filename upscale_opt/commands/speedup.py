"""The command `speedup`: from a target to a network in files that keep it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import typer

from upscale_opt.arguments.modes import AUTO
from upscale_opt.commands import data_options, options
from upscale_opt.commands.measuring import Measuring
from upscale_opt.commands.report_options import ReportPath, save_page, this_command
from upscale_opt.commands.sessions import load_model_and_input, remark, required_model, say
from upscale_opt.errors import MaskError, UpscaleError

DEFAULT_MEASURING = Measuring()
IMAGES = 256
REPORT_FILE = "report.html"
CHECKPOINT = "checkpoint.pt"


def speedup(
    target: options.Target,
    model: options.Model = None,
    weights: options.Weights = None,
    data: data_options.Data = None,
    images: options.SpeedupImages = IMAGES,
    workers: data_options.Workers = 0,
    method: options.WidthMethod = "best",
    budget: options.WidthBudget = "time",
    rounds: options.SpeedupRounds = 4,
    epochs: options.TuningEpochs = 0,
    time_limit: options.TimeLimit = 60.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    repeats: options.Repeats = None,
    out: options.SpeedupDirectory = None,
    report: ReportPath = None,
    json: options.JsonPath = None,
) -> None:
    """Make a network TARGET times as fast: choose all widths together, repair, export, verify, and measure the file."""
    name = required_model(model)
    if target <= 1:
        raise UpscaleError(f"the target is {target:g}; give a speedup above 1, such as 2")
    if measuring.align != AUTO:
        raise UpscaleError("speedup chooses widths that suit the device itself; leave out --align")
    options.require_writable(json, report)
    options.require_creatable(out)
    dataset = data_options.loaded(data, workers)
    from upscale_opt.latency.environment import environment
    from upscale_opt.models.references import ModelReference
    from upscale_opt.widths.pages import page
    from upscale_opt.widths.speedup import speedup as make

    shape = measuring.shape((1, *dataset.input_shape))
    network, x, notes = load_model_and_input(
        ModelReference(name, weights, seed, shape), device, measuring.memory_format, measuring.dtype
    )
    remark(notes)
    backend = measuring.backend_on(device)
    forms, without = _forms()
    document: dict[str, Any] = {"model": name, "weights": weights, "data": data, "input_shape": list(shape)}
    document |= {"backend": backend, "seed": seed, "environment": environment()}
    if dataset.train is None:
        raise MaskError(f"{dataset.name} has only images to test on; speedup also needs images to choose with")
    used, held_out = (dataset.sampled(images, test=test, seed=seed) for test in (False, True))
    try:
        found = make(
            network,
            x,
            used,
            target,
            held_out=held_out,
            method=method,
            budget=budget,
            backend=backend,
            rounds=rounds,
            repeats=repeats or 15,
            time_limit=time_limit,
            tables=measuring.directory,
            directory=out,
            forms=forms if out is not None else (),
            seed=seed,
            progress=True,
        )
        if epochs and not found.interrupted:
            from upscale_opt.widths.tuning import tuned

            checkpoint = None if out is None else out / CHECKPOINT
            how: dict[str, Any] = {"seed": seed, "checkpoint": checkpoint, "progress": True}
            found = tuned(found, network, dataset, epochs, held_out, **how)
            if out is not None:
                found.exported.save(out, forms)
    except KeyboardInterrupt:
        kept = f"what was done is in {out}; go on with the same command" if out else "nothing is kept without --out"
        print(f"interrupted; {kept}", file=sys.stderr)
        options.write_json({**document, "interrupted": True}, json)
        raise
    say(found.report())
    shown = page(found, title=name, command=this_command())
    save_page(shown, report)
    if out is not None:
        remark((without,) if without else ())
        shown.save(out / REPORT_FILE)
        others = ", ".join(f"model.{own}" for own in forms)
        say(f"written: plan.json, model.safetensors, {others}, {REPORT_FILE} in {out}")
        if not epochs:
            say(f"next, to win accuracy back: {_next(name, weights, data, out)}, or --epochs 10 with this command")
    options.write_json(document | found.to_dict(), json)
    if not found.reached:
        raise typer.Exit(1)


def _forms() -> tuple[list[str], str]:
    """The forms to save, and a note on one that cannot be."""
    from upscale_opt.saving.forms import require_forms

    try:
        require_forms(["onnx"])
    except UpscaleError as error:
        return ["pt2"], f"no model.onnx: {error}"
    return ["pt2", "onnx"], ""


def _next(model: str, weights: str | None, data: str | None, out: Path) -> str:
    """The command that fine-tunes the result with the unpruned network as its teacher."""
    words = ["train", "--model", model, "--data", str(data), "--plan", str(out / "plan.json")]
    words += ["--weights", str(out / "model.safetensors")] + (["--distill", weights] if weights else [])
    return "upscale-opt " + shlex.join([*words, "--out", f"{out}-tuned"])
