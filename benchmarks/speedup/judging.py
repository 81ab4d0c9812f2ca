"""Judges the network of a cell: measured times, distance to the dense network, size; before and after fine-tuning."""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from benchmarks.results import Row
from benchmarks.speedup.cells import KEY, MACS, Cell
from benchmarks.speedup.methods import Made, Settings, made
from benchmarks.speedup.searching import REFUSALS
from benchmarks.speedup.subjects import Subject
from upscale_opt.errors import first_line
from upscale_opt.learning.distillation import Distillation
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.models.running import reestimate_batch_norm
from upscale_opt.widths.measuring import Stopwatch, Unpruned, size_of

OK, REFUSED, FAILED = "ok", "refused", "failed"
PROCESSES = 3
"""Fresh processes that measure a finished network."""
TUNING = Recipe(epochs=2, lr=0.01, seed=10**6)
"""Fine-tuning of networks that were trained here, with the dense network as the teacher."""
SHORT = 0.97
"""A measured speedup below this share of the target counts as not reached; above it, the noise may be to blame."""


def judged(cell: Cell, subject: Subject, settings: Settings) -> Row:
    """The row of a cell. Errors become rows too, so that one cell cannot stop the others."""
    started = time.perf_counter()
    row: Row = dict(zip(KEY, cell.key, strict=True))
    stopwatch = Stopwatch(subject.model, (subject.x,), backend=cell.backend, repeats=settings.repeats)
    try:
        found = made(cell, subject, settings, stopwatch)
        row["seconds"] = round(time.perf_counter() - started, 1)
        row |= {"status": OK, **_figures(cell, found, subject, stopwatch)}
    except REFUSALS as error:
        row |= {"status": REFUSED, "reason": str(error)}
    except Exception as error:  # any error: a long run goes on with the next cell
        reason = f"{type(error).__name__}: {first_line(error)}"
        row |= {"status": FAILED, "reason": reason, "traceback": traceback.format_exc()}
    finally:
        stopwatch.close()
    return {**row, "total_seconds": round(time.perf_counter() - started, 1)}


def _figures(cell: Cell, found: Made, subject: Subject, stopwatch: Stopwatch) -> Row:
    inputs = (subject.x,)
    measured = [stopwatch.measure(Unpruned(found.module, inputs)) for _ in range(PROCESSES)]
    speedups = sorted(own.speedup for own in measured)
    dense, own = size_of(subject.model, inputs), size_of(found.module, inputs)
    macs = dense.macs / max(1, own.macs)
    reached = macs if cell.budget == MACS else float(np.median(speedups))
    row: Row = {
        "reached": reached >= SHORT * float(cell.target),
        "predicted": found.predicted,
        "measured": float(np.median(speedups)),
        "measured_low": speedups[0],
        "measured_high": speedups[-1],
        "dense_ms": 1e3 * float(np.median([own.dense_seconds for own in measured])),
        "how": str(stopwatch),
        "macs_ratio": macs,
        "parameters_ratio": dense.parameters / max(1, own.parameters),
        "loss": found.loss,
        "bound": found.bound,
        "gap": found.gap,
        "repair": found.repair,
        "pairs": [list(pair) for pair in found.pairs],
        **found.notes,
    }
    if found.before is not None:
        row["kl_before"] = _distances("", subject.model, found.before, subject.held_out)["kl"]
        reestimate_batch_norm(found.before, ((own,) for own in subject.images))
        row |= _distances("batch_norm_", subject.model, found.before, subject.held_out)
    row |= _distances("", subject.model, found.module, subject.held_out)
    if subject.alike:
        row |= _distances("alike_", subject.model, found.module, subject.alike)
    if subject.data is not None:
        row |= _distances("tuned_", subject.model, _tuned(found.module, subject, cell.seed), subject.held_out)
    return row


def _distances(prefix: str, dense: nn.Module, other: nn.Module, groups: Sequence[Sequence[Any]]) -> Row:
    """KL, agreement and accuracies on groups of images: means, and KL and accuracy of every group."""
    found = [compare_outputs(dense, other, group) for group in groups]
    weights = [own.images for own in found]
    row: Row = {
        f"{prefix}kl": float(np.average([own.kl for own in found], weights=weights)),
        f"{prefix}agreement": float(np.average([own.agreement for own in found], weights=weights)),
        f"{prefix}kl_groups": [round(own.kl, 6) for own in found],
        f"{prefix}images": sum(weights),
    }
    if all(own.accuracy is not None for own in found):
        row[f"{prefix}accuracy"] = _top1([own.accuracy for own in found], weights)
        row["dense_accuracy"] = _top1([own.dense_accuracy for own in found], weights)
    return row


def _top1(found: Sequence[Any], weights: Sequence[int]) -> float:
    return float(np.average([own.top1 for own in found], weights=weights))


def _tuned(module: nn.Module, subject: Subject, seed: int) -> nn.Module:
    """A fine-tuned copy."""
    assert subject.data is not None
    own = copy.deepcopy(module).requires_grad_(True)  # exports of frozen weights are frozen
    fit(own, subject.data, [replace(TUNING, seed=TUNING.seed + seed)], distillation=Distillation(subject.model))
    return own
