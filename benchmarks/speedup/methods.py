"""Makes the network of a cell, by the library's methods, by SPDY, by masks of every consumer's own, by Torch-Pruning.

Every method gets the same images and moves its own setting until the measured target is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import upscale_opt.widths.speedup as library
from benchmarks.speedup import torch_pruning
from benchmarks.speedup.cells import MACS, MASKS, SPDY, TORCH_PRUNING, Cell
from benchmarks.speedup.searching import least_amount
from benchmarks.speedup.subjects import Subject
from upscale_opt import Importance, Plan, export, importance_masks, importance_scores, prune, trace
from upscale_opt.latency.calibration import Effort
from upscale_opt.models.running import reestimate_batch_norm
from upscale_opt.widths.measuring import Stopwatch, Unpruned, size_of
from upscale_opt.widths.repairing import repaired, repaired_copy

BATCH_NORM, WITH_LEAST_SQUARES = "BatchNorm statistics", "BatchNorm statistics and least squares"


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where files are.

    Attributes
    ----------
    work
        Directory of the journals of runs that were stopped.
    tables
        Directory of measured tables. None: the package's own.
    repeats
        Rounds of a measurement.
    rounds
        Most turns of the library's closed loop.
    steps
        Most networks of a bisection.
    time_limit
        Seconds per segment of the exact order.
    effort
        How carefully tables are measured. None: the library's own.
    """

    work: Path
    tables: Path | None = None
    repeats: int = 15
    rounds: int = 4
    steps: int = 7
    time_limit: float = 1.0
    effort: Effort | None = None

    def journal_of(self, cell: Cell) -> Path:
        """The directory in which a cell is continued after it was stopped."""
        return self.work / "cells" / cell.name


@dataclass(frozen=True, eq=False)
class Made:
    """A network that a method made.

    Attributes
    ----------
    module
        The network after repair.
    repair
        What was repaired.
    predicted
        Its speedup as predicted; None if nothing was.
    loss, bound, gap
        Estimated loss, the bound for it, and the share of the loss between them; None without.
    before
        The network before repair, where it is known.
    pairs
        Predicted and measured speedups of all turns.
    notes
        Setting that was found, and other remarks.
    """

    module: nn.Module
    repair: str
    predicted: float | None = None
    loss: float | None = None
    bound: float | None = None
    gap: float | None = None
    before: nn.Module | None = None
    pairs: tuple[tuple[float, float], ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def missing(cell: Cell) -> str | None:
    """Why a cell cannot be made with what is installed; None if it can."""
    if cell.method == SPDY and cell.budget == MACS:
        return "SPDY here has measured times only"
    if cell.method == TORCH_PRUNING:
        return torch_pruning.missing()
    return None


def made(cell: Cell, subject: Subject, settings: Settings, stopwatch: Stopwatch) -> Made:
    """Make the network of a cell.

    Raises
    ------
    UpscaleError, ProblemError, SolverError
        If the method refuses: the target is out of reach, or the network is not supported.
    """
    make: Callable[[Cell, Subject, Settings, Stopwatch], Made] = _MAKERS.get(cell.method, _by_library)
    return make(cell, subject, settings, stopwatch)


def _by_library(cell: Cell, subject: Subject, settings: Settings, stopwatch: Stopwatch) -> Made:
    found = library.speedup(
        subject.model,
        subject.x,
        subject.images,
        float(cell.target),
        held_out=[own for group in subject.held_out for own in group],
        method=cell.method,
        budget=cell.budget,
        backend=cell.backend,
        rounds=settings.rounds,
        repeats=settings.repeats,
        effort=settings.effort,
        tables=settings.tables,
        directory=settings.journal_of(cell),
        progress=True,
    )
    chosen = found.chosen
    return Made(
        found.module,
        WITH_LEAST_SQUARES,
        chosen.predicted,
        chosen.loss,
        chosen.bound,
        chosen.gap,
        unrepaired(subject, found.plan),
        pairs=tuple((own.predicted, own.measured) for own in found.rounds),
        notes={"turns": len(found.rounds), "table_error": None if found.correction is None else found.correction.error},
    )


def _by_masks(cell: Cell, subject: Subject, settings: Settings, stopwatch: Stopwatch) -> Made:
    graph = trace(subject.model, subject.x)
    scores = importance_scores(graph, "fisher", data=subject.images)
    scored = Importance("known", lambda evidence, weight: scores[weight], "the same scores for every amount")

    def make(amount: float) -> Any:
        masks = importance_masks(graph, scored, amount)
        masked = prune(subject.model, subject.x, masks=masks, graph=graph)
        solved = masked.solve("auto", objective="traffic", time_limit=settings.time_limit)
        return masked, masked.export(masked.plan(solved), verify=False)

    amount, (masked, exported) = least_amount(
        make,
        lambda own: _ratio(cell, subject, stopwatch, own[1].module, own[1]),
        float(cell.target),
        steps=settings.steps,
    )
    state = repaired(graph, masked.masks, [(own,) for own in subject.images])
    after = export(repaired_copy(subject.model, state), subject.x, exported.plan)
    return Made(after.module, WITH_LEAST_SQUARES, before=exported.module, notes={"amount": amount})


def _by_torch_pruning(cell: Cell, subject: Subject, settings: Settings, stopwatch: Stopwatch) -> Made:
    def make(ratio: float) -> nn.Module:
        return torch_pruning.pruned(subject.model, subject.x, ratio)

    ratio, module = least_amount(
        make, lambda own: _ratio(cell, subject, stopwatch, own), float(cell.target), steps=settings.steps
    )
    before = torch_pruning.copied(module)
    reestimate_batch_norm(module, ((own,) for own in subject.images))
    return Made(module, BATCH_NORM, before=before, notes={"ratio": ratio})


def unrepaired(subject: Subject, plan: Plan) -> nn.Module:
    """The network of a plan with the dense network's own weights."""
    return export(subject.model, subject.x, plan, verify=False).module


def _ratio(cell: Cell, subject: Subject, stopwatch: Stopwatch, module: nn.Module, savable: Any = None) -> float:
    """Measured speedup, or how many times fewer multiply-accumulates."""
    inputs = (subject.x,)
    if cell.budget == MACS:
        return size_of(subject.model, inputs).macs / max(1, size_of(module, inputs).macs)
    own = savable or Unpruned(module, inputs)
    return stopwatch.measure(own, is_final=False, wanted=float(cell.target)).speedup


_MAKERS: dict[str, Callable[[Cell, Subject, Settings, Stopwatch], Made]] = {
    MASKS: _by_masks,
    TORCH_PRUNING: _by_torch_pruning,
}
