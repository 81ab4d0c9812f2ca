"""The figures of a cell, kind by kind."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from problems import evaluate
from solvers import Result
from upscale_opt.comparing.comparison import export_all
from upscale_opt.comparing.masked_model import MaskedModel
from upscale_opt.errors import SweepError
from upscale_opt.latency.backends import ONNXRUNTIME
from upscale_opt.latency.profiling import profile_interleaved, without_drift
from upscale_opt.learning.evaluation import accuracy
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.models.preservation import unchanged
from upscale_opt.planning.solutions import total_in_units
from upscale_opt.rewriting.exports import Exported
from upscale_opt.sweeps import locks
from upscale_opt.sweeps.cells import ACCURACY, LATENCY, Cell, Masking, Training
from upscale_opt.sweeps.engines.interface import cores
from upscale_opt.sweeps.subjects import backend_of, costs_of, data_named, masked_of, subject_of

Figures = dict[str, Any]
UNPRUNED, BASELINE, FLOOR, OWN = "unpruned", "baseline", "floor", "latency"


def figures_of(cell: Cell) -> Figures:
    """Compute a cell.

    Raises
    ------
    UpscaleError, SolverError, ProblemError
        If it cannot be computed.
    """
    if cell.kind == LATENCY:
        return _latency(cell)
    with locks.computing():
        return _accuracy(cell) if cell.kind == ACCURACY else _orders(cell)


def _solved(cell: Cell) -> tuple[MaskedModel, dict[str, Result], Exported]:
    masked, objective = masked_of(cell), str(cell.objective)
    ready = masked.for_objective(objective, costs_of(cell, subject_of(cell)))
    results = ready.solve(str(cell.method), objective=objective, time_limit=float(cell.time_limit or 0), seed=cell.seed)
    return ready, results, ready.export(ready.plan(results), verify=bool(cell.verify))


def _orders(cell: Cell) -> Figures:
    """Values and bounds in units of the objective, sums over segments."""
    masked, results, exported = _solved(cell)
    value, bound = total_in_units(list(results.values())), _bound(results)
    evaluated = {
        name: sum(evaluate(masked.problems[segment], own.order, name).value for segment, own in results.items())
        for name in ("copies", "traffic")
    }
    return {
        "value": _number(value),
        "bound": None if bound is None else _number(bound),
        "gap": None if bound is None else float((value - bound) / max(Fraction(1), value)),
        "segments": len(results),
        "proven": sum(str(own.status) == "OPTIMAL" for own in results.values()),
        "copied_channels": evaluated["copies"],
        "copies": sum(own.evaluation.copies for own in results.values()),
        "traffic": evaluated["traffic"],
        **_sizes(masked, exported),
    }


def _bound(results: Mapping[str, Result]) -> Fraction | None:
    """The sum of the bounds, if every segment has one."""
    bounds = [None if own.bound is None else Fraction(own.bound, own.evaluation.ticks) for own in results.values()]
    known = [own for own in bounds if own is not None]
    return sum(known, Fraction(0)) if len(known) == len(bounds) else None


def _sizes(masked: MaskedModel, exported: Exported) -> Figures:
    verified = exported.verification
    return {
        "kept": sum(int(own.sum()) for own in masked.masks.values()),
        "channels": sum(map(len, masked.masks.values())),
        "parameters": _parameters(exported.module),
        "parameters_before": _parameters(masked.model),
        "relative_error": None if verified is None else float(f"{verified.relative_error:.0e}"),
    }


def _parameters(model: nn.Module) -> int:
    return sum(own.numel() for own in model.parameters())


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def _accuracy(cell: Cell) -> Figures:
    """Shares of the test images. The network is pruned, then fine-tuned with its masks, as an export."""
    masked = masked_of(cell)
    data = data_named(str(cell.data))
    data.require_labels("accuracy", "leave accuracy out of the key measure")
    exports = export_all(masked, {name: {"greedy": own} for name, own in masked.solve("greedy").items()}, ["greedy"])
    exported = exports["greedy"]
    module = copy.deepcopy(exported.module)
    pruned = accuracy(module, data.test_batches())
    training = cell.training or Training()
    figures = {
        "dense_top1": _dense_top1(replace(cell, amount="", masking=Masking(), training=None)),
        "pruned_top1": _share(pruned.top1),
        "images": pruned.images,
        **_sizes(masked, exported),
    }
    if not training.epochs:
        return figures
    epochs = fit(module, data, [Recipe(**asdict(training), seed=cell.seed)])
    return {**figures, "tuned_top1": _share(epochs[-1].test.top1), "epochs": training.epochs}


@functools.lru_cache(maxsize=64)
def _dense_top1(cell: Cell) -> float:
    """The accuracy of the unpruned network of a cell."""
    return _share(accuracy(subject_of(cell).model, data_named(str(cell.data)).test_batches()).top1)


def _share(top1: float) -> float:
    return round(top1, 6)


def _latency(cell: Cell) -> Figures:
    """Milliseconds of an export, and of others measured in turn with it. Ratios are medians over rounds."""
    with locks.computing():
        masked, _, exported = _solved(cell)
        backend = backend_of(cell, subject_of(cell))
        models = {UNPRUNED: masked.model, BASELINE: masked.export(masked.baseline_plan(), verify=False).module}
        models[OWN] = exported.module
        if backend != ONNXRUNTIME:
            models[FLOOR] = masked.floor()
    threads = cell.condition.threads or cores()
    before = torch.get_num_threads()
    with locks.measuring():
        torch.set_num_threads(threads)
        try:
            with unchanged(masked.model):
                profiles = profile_interleaved(models, masked.example_inputs, repeats=cell.repeats, backend=backend)
        finally:
            torch.set_num_threads(before)
    steady = without_drift(profiles)
    own = profiles[OWN]
    if not np.isfinite(own.median):
        raise SweepError("the latency is no finite number; measure again with --retry-failed")
    return {
        **{f"{name}_ms": round(1e3 * profile.median, 6) for name, profile in profiles.items()},
        "iqr_ms": round(1e3 * own.iqr, 6),
        **{
            f"ratio_to_{name}": round(float(np.median(steady[OWN] / steady[name])), 6)
            for name in (UNPRUNED, BASELINE, FLOOR)
            if name in steady
        },
        "device_ms": None if own.device_seconds is None else round(1e3 * own.device_seconds, 6),
        "stolen": own.stolen,
        "backend": own.backend,
        "repeats": len(own.seconds),
        "threads": threads,
    }
