"""The commands on latency: profile, calibrate, check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from upscale_opt.arguments.modes import AUTO
from upscale_opt.commands import options, spreading
from upscale_opt.commands.heartbeats import doing
from upscale_opt.commands.mask_choices import MaskChoice
from upscale_opt.commands.measuring import Measuring, Quick, documented, lint_all
from upscale_opt.commands.report_options import ReportPath, save_page, this_command
from upscale_opt.commands.sessions import (
    Setting,
    load_model_and_input,
    padding_summary,
    prepare_model,
    reference_of,
    refuse_beside,
    remark,
    required_model,
    say,
)
from upscale_opt.comparing import reports
from upscale_opt.errors import UpscaleError

if TYPE_CHECKING:
    from upscale_opt.comparing.masked_model import MaskedModel
    from upscale_opt.latency.cost_tables import CostTables

DEFAULT_SHAPE = "1,3,224,224"
DEFAULT_MASKS = MaskChoice()
DEFAULT_MEASURING = Measuring()


def profile(
    model: options.Model = None,
    plan: options.PlanIn = None,
    weights: options.Weights = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    verify: options.Verify = True,
    accesses: options.Accesses = False,
    batch: options.Batch = None,
    memory_format: options.MemoryFormat = "contiguous",
    backend: options.Backend = None,
    dtype: options.DType = "float32",
    json: options.JsonPath = None,
) -> None:
    """Measure the latency of a model; with --plan also of its baseline, planned export and floor, interleaved."""
    from upscale_opt.planning.plan_files import read_plan

    options.require_writable(json)
    options.require_dtype(dtype)
    in_onnx_runtime = backend == "onnxruntime"
    if accesses and in_onnx_runtime:
        raise UpscaleError("--accesses looks into operators of torch; leave out --backend onnxruntime")
    if plan is None:
        if accesses:
            raise UpscaleError("--accesses profiles a planned export; add --plan FILE")
        spreading.refuse(("verify",), "only exports are verified, and there is none without --plan")
    stored = read_plan(plan) if plan is not None else None
    if stored is not None:
        refuse_beside(stored, "seed", "input_shape")
    reference = reference_of(stored, model, weights, input_shape, seed)
    shape = options.settled_shape(reference.input_shape, batch, memory_format)
    from upscale_opt.comparing.floors import floor_of_plan
    from upscale_opt.exporting.exporter import export as run_export
    from upscale_opt.latency.access_profiles import profile_accesses
    from upscale_opt.latency.backends import require_backend, require_inputs_of
    from upscale_opt.latency.calibration import MEMORY_FORMATS
    from upscale_opt.latency.environment import environment
    from upscale_opt.latency.profiling import profile_interleaved
    from upscale_opt.models.loading import in_memory_format
    from upscale_opt.models.precisions import tf32_setting

    network, x, notes = load_model_and_input(replace(reference, input_shape=shape), device, precision=dtype)
    if backend is not None:
        require_backend(backend, x.device)
        require_inputs_of(backend, (x.to(memory_format=MEMORY_FORMATS[memory_format]) if x.ndim == 4 else x,))
    remark(notes)
    exports: dict[str, Any] = {}
    if stored is not None:
        exports["baseline"] = run_export(network, x, stored, baseline=True, verify=verify)
        exports["planned"] = run_export(network, x, stored, verify=verify)
    models = {"unpruned": network, **{name: exported.module for name, exported in exports.items()}}
    x = in_memory_format(memory_format, x, *models.values())
    if stored is not None and not in_onnx_runtime:  # nothing reads a part of a tensor in place there
        models[reports.FLOOR] = floor_of_plan(network, x, stored)
    doing("measuring")
    latencies = profile_interleaved(models, x, backend=backend, progress=True)
    say(reports.latency_table(latencies))
    linted = lint_all(backend or "", models, x)
    for name, found in linted.items():
        say(f"{name}: {found.summary()}")
    document: dict[str, Any] = {
        "model": reference.name,
        "environment": environment(),
        "input_shape": list(shape),
        "memory_format": memory_format,
        "dtype": dtype,
        "tf32": tf32_setting(x.device, x.dtype),
        "latency": {name: p.to_dict() for name, p in latencies.items()},
        **documented(linted),
    }
    if accesses:
        doing("measuring accesses")
        profiles = profile_accesses(exports["planned"], x, progress=True)
        say(reports.access_table(profiles))
        document["accesses"] = [own.to_dict() for own in profiles]
    options.write_json(document, json)


def calibrate(
    model: options.Model = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    quick: Quick = False,
    json: options.JsonPath = None,
) -> None:
    """Measure the cost of every way of reading, for `--objective latency`; measures only what is not yet stored."""
    options.require_writable(json)
    setting = Setting(required_model(model), weights, masks, input_shape, seed, device, measuring)
    prepared = prepare_model(setting, "latency").masked
    remark(prepared.messages)
    from upscale_opt.latency.cost_tables import SEARCH, TIMED

    prepared, tables = _calibrated(prepared, measuring, quick=quick)
    say(padding_summary(prepared))
    say(str(tables))
    say(f"{tables.made.total()} timings made now, {tables.made[SEARCH]} of them to choose spans")
    options.write_json(
        {
            "model": model,
            "conditions": tables.conditions.to_dict(),
            "tables": len(tables.entries),
            "timings": {name: tables.made[name] for name in (TIMED, SEARCH)},
            "file": str(measuring.directory / tables.conditions.file_name),
        },
        json,
    )


def check(
    model: options.Model = None,
    weights: options.Weights = None,
    masks: MaskChoice = DEFAULT_MASKS,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    time_limit: options.TimeLimit = 5.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    repeats: options.Repeats = None,
    verify: options.Verify = True,
    out: options.ScatterPath = None,
    report: ReportPath = None,
    json: options.JsonPath = None,
) -> None:
    """Predict and measure eleven orders of one masked model, to check whether the objective `latency` is accurate."""
    options.require_settings("latency", time_limit)
    options.require_writable(json, out, report)
    from upscale_opt.latency.environment import environment

    setting = Setting(required_model(model), weights, masks, input_shape, seed, device, measuring)
    prepared = prepare_model(setting, "latency").masked
    remark(prepared.messages)
    from upscale_opt.comparing.order_checks import check_orders

    prepared, tables = _calibrated(prepared, measuring)
    prepared = prepared.priced(measuring.costs(prepared.example_inputs))
    doing("solving, exporting and measuring orders")
    found = check_orders(
        prepared,
        time_limit=time_limit,
        seed=seed,
        repeats=repeats,
        backend=measuring.backend_on(device),
        verify=verify,
        accesses=measuring.backend_on(device) != "onnxruntime",  # they are measured in eager mode
        progress=True,
    )
    say(f"{setting.model}, {setting.masks}: {tables.conditions}")
    say(str(found))
    if out is not None:
        from upscale_opt.comparing.scatter import save_scatter

        save_scatter(found, out, title=f"{setting.model}, {setting.masks}")
        say(f"scatter plot: {out}")
    if report is not None:
        from upscale_opt.comparing.check_pages import check_page

        asked = {**setting.masks.to_dict(), "conditions": tables.conditions, "input shape": setting.input_shape}
        title = f"{setting.model}, {setting.masks}: is latency predicted?"
        save_page(check_page(found, title=title, asked=asked, command=this_command()), report)
    document = {"model": model, "conditions": tables.conditions.to_dict(), "environment": environment()}
    options.write_json(document | setting.masks.to_dict() | found.to_dict(), json)


def _calibrated(prepared: MaskedModel, measuring: Measuring, *, quick: bool = False) -> tuple[MaskedModel, CostTables]:
    """A prepared model in the stored widths asked for, and its tables; both measured where they were missing."""
    from upscale_opt.latency.calibration import QUICK
    from upscale_opt.latency.calibration import calibrate as run_calibration

    backend = measuring.backend_on(prepared.example_inputs.device.type)  # type: ignore[union-attr]
    where: dict[str, Any] = {"backend": backend, "directory": measuring.directory, "progress": True}
    where |= {"effort": QUICK} if quick else {}
    if measuring.align == AUTO:
        doing("measuring stored widths")
        prepared = prepared.align(AUTO, **where)
    doing("measuring what reading costs")
    tables = run_calibration(prepared, (prepared.example_inputs,), **where)
    return prepared, tables
