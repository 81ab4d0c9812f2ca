"""SPDY in one call: from a dense model and a speedup to masks and weights.

Source: Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022. Here, input channels take the
place of single weights. docs/spdy.md says what is guaranteed and what is measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from problems import AllocationProblem, LayerTimes, TimingTable, allocation_problem
from problems.showing.progress import ShowProgress
from upscale_opt.arguments.checks import above, several
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import MaskError
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.models.digests import state_digest
from upscale_opt.spdy.calibration_data import CalibrationData, calibration_data
from upscale_opt.spdy.choices import ChoiceSearch, CoefficientSearch
from upscale_opt.spdy.global_adaprune import Tuning, global_adaprune
from upscale_opt.spdy.journal import Journal
from upscale_opt.spdy.layer_runs import frozen_copy
from upscale_opt.spdy.layer_times import layer_times
from upscale_opt.spdy.outer_loop import OuterLoop
from upscale_opt.spdy.outer_rounds import Exporting, solved_export
from upscale_opt.spdy.prunable_layers import PrunableLayer, levels_of, listed_layers, prunable_layers
from upscale_opt.spdy.reconstructions import Repair, reconstruct
from upscale_opt.spdy.results import SpeedupAllocation
from upscale_opt.spdy.stitching import Loss, Stitching, mean_loss
from upscale_opt.tracing.trace import as_tuple, trace

RECONSTRUCTIONS_DIRECTORY, CHECKPOINT_FILE = "reconstructions", "global-adaprune.safetensors"


@entrance(grid=several(above(-1), "sparsities, such as [0, 0.25, 0.5]"))
def allocate(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    data: Iterable[Any] | CalibrationData,
    speedup: float,
    *,
    table: TimingTable | None = None,
    grid: Sequence[float] | None = None,
    ignore: Iterable[str] = (),
    linear: bool = False,
    repair: Repair | None = None,
    search: CoefficientSearch | None = None,
    tuning: Tuning | None = None,
    loss: Loss | None = None,
    reestimate: bool = False,
    rounds: int = 2,
    how: Exporting | None = None,
    held_out: Iterable[Any] | CalibrationData | None = None,
    directory: str | Path | None = None,
    tables: str | Path | None = None,
    seed: int = 0,
    progress: ShowProgress = None,
) -> SpeedupAllocation:
    """Choose a sparsity per layer for a speedup, repair the weights, and measure the result.

    Times come from a table. The error of a level is estimated by its rank times a coefficient per layer. A dynamic
    programme finds the choice with the least error within the time budget, with times rounded up to buckets. The
    coefficients are searched, and the loss of the stitched model scores them.

    Every round of the outer loop orders the channels of the choice, exports it, and measures it beside the dense model.
    The next round solves with the times of that export. Of the rounds whose measured export is fast enough, the one
    with the least loss is taken. If none is fast enough, the fastest is taken.

    Parameters
    ----------
    model
        The dense model in eval mode. It is not changed.
    example_inputs
        A tensor or the tuple of positional inputs. The times hold for their device, dtype, memory format and batch
        size.
    data
        Batches of (inputs, labels) for repair and score. All of them must fit in memory. SPDY uses 1024 images.
    speedup
        Target speedup of the whole model.
    table
        Times measured before, on this or another machine (`problems.read_timing_table`). Its levels are the possible
        levels. A layer stays dense if the table does not list it, or if it is not one of `prunable_layers`. It then
        takes its dense time. Default: the times are measured.
    grid
        Levels to measure. Default: `problems.sparsity_grid`.
    ignore
        Names of weights or modules that stay dense, wildcards allowed.
    linear
        Also prune linear layers.
    repair
        How weights are repaired. Default: AdaPrune with the authors' values and the seed `seed`.
    search
        How the choice is solved, and how long coefficients are searched. Default: as long as in SPDY, with the seed
        `seed`.
    tuning
        Settings of global AdaPrune for the chosen model. Default: no tuning.
    loss
        The loss that scores a choice. Default: cross-entropy.
    reestimate
        Estimate BatchNorm statistics again before every score. Default no.
    rounds
        Number of rounds of the outer loop. With 0, nothing is measured, and the choice depends on the table alone.
    how
        How choices are exported and measured. Default: solver `auto` on objective `latency`.
    held_out
        More batches. Losses on them are reported, but choices do not depend on them.
    directory
        Directory where reconstructions, times and choices are stored as they are made. After an interrupt, a run
        resumes from it with the same result. A different run (for example with another speedup) reuses its
        reconstructions if they fit. Default: in memory.
    tables
        Directory where measured layer times are stored. Default: as for `calibrate`.
    seed
        Seed of the search, and of the repair if `repair` is not given.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    UnreachableSpeedupError
        If the fastest levels are too slow. The message has the largest speedup. In this case, nothing was repaired or
        written.
    MaskError
        If layers, table, data or values do not fit.
    VerificationError
        If an export is wrong.
    """
    if rounds < 0:
        raise MaskError(f"rounds is {rounds}; give how often to measure the export, from 0 on")
    how, repair, settings = how or Exporting(), repair or Repair(seed=seed), search or CoefficientSearch(seed=seed)
    folder = None if directory is None else Path(directory)
    inputs = as_tuple(example_inputs)
    layers = prunable_layers(trace(model, example_inputs), linear=linear, ignore=ignore)
    if table is not None:
        layers = listed_layers(layers, table, model)
        _problem(table, layers, speedup, model)  # fails before images are read if out of reach
    calibration = calibration_data(data, model, num_inputs=len(inputs))
    dense = frozen_copy(model)
    asked = {
        "speedup": speedup,
        "model": state_digest(dense),
        "data": calibration.fingerprint,
        "layers": [own.name for own in layers],
        "inputs": [list(own.shape) for own in inputs if isinstance(own, torch.Tensor)],
        "conditions": str(conditions_of(inputs, backend=how.backend)),
        "table": None if table is None else _plain(table),
        "grid": None if grid is None else list(grid),
        "repair": asdict(repair),
        "search": asdict(settings),
        "export": [how.solver, how.objective, how.time_limit, how.seed, how.repeats, asdict(how.effort)],
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "reestimate": reestimate,
    }
    journal = Journal(folder, hashlib.sha256(json.dumps(asked).encode()).hexdigest())
    notes: tuple[str, ...] = ()
    times = table
    if times is None:
        times, notes = _times(model, example_inputs, layers, grid, journal, tables=tables, how=how, progress=progress)
    problem, layers = _problem(times, layers, speedup, model)
    if table is None and journal.recall("table") is None:  # only now: an unreachable target writes nothing
        journal.note("table", {**_plain(times), "notes": notes})
    dense_score = mean_loss(dense, calibration, loss)
    found = reconstruct(
        dense,
        layers,
        {own.name: own.sparsities for own in problem.layers},
        calibration,
        repair,
        directory=None if folder is None else folder / RECONSTRUCTIONS_DIRECTORY,
        progress=progress,
    )
    stitching = Stitching(dense, found, reestimate=reestimate, data=calibration)
    choices = ChoiceSearch(stitching, layers, calibration, loss, settings, progress=progress)
    loop = OuterLoop(choices, problem, layers, model, example_inputs, speedup, how, journal, progress=progress)
    outcome = loop.run(rounds)
    choice, exported = outcome.choice, outcome.exported
    stitched, masks = choices.stitched(choice.allocation)
    final_score, tuned = choice.score, None
    if tuning is not None:
        checkpoint = None if folder is None else folder / CHECKPOINT_FILE
        if checkpoint is not None and not journal.goes_on:
            checkpoint.unlink(missing_ok=True)  # from another run
        tuned = global_adaprune(stitched, dense, masks, calibration, tuning, checkpoint=checkpoint, progress=progress)
        stitched, final_score = tuned.model, mean_loss(tuned.model, calibration, loss)
        if exported is not None:
            exported = solved_export(stitched, example_inputs, masks, how, progress=progress).exported
    outside = None
    if held_out is not None:
        others = calibration_data(held_out, model, num_inputs=len(inputs))
        outside = (mean_loss(dense, others, loss), mean_loss(stitched, others, loss))
    return SpeedupAllocation(
        speedup=speedup,
        profile=choice.allocation.profile,
        masks=masks,
        state={name: tensor.detach().clone() for name, tensor in stitched.state_dict().items()},
        table=times,
        problem=problem,
        rounds=outcome.rounds,
        allocation=choice.allocation,
        score=choice.score,
        uniform_score=choice.uniform_score,
        dense_score=dense_score,
        coefficients=choice.coefficients,
        final_score=final_score,
        held_out=outside,
        exported=exported,
        tuned=tuned,
        notes=(*notes, *outcome.notes),
    )


def _times(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    layers: Sequence[PrunableLayer],
    grid: Sequence[float] | None,
    journal: Journal,
    *,
    tables: str | Path | None,
    how: Exporting,
    progress: ShowProgress,
) -> tuple[TimingTable, tuple[str, ...]]:
    """Layer times, measured now or recalled from the journal, and notes."""
    known = journal.recall("table")
    if known is not None:
        table = TimingTable(tuple(LayerTimes(*own) for own in known["layers"]), known["base"])
        return table, (*known["notes"], "times and choices so far are those of the journal; delete it to begin anew")
    timed = layer_times(
        model,
        example_inputs,
        layers,
        grid,
        backend=how.backend,
        directory=tables,
        effort=how.effort,
        repeats=how.repeats,
        progress=progress,
    )
    return timed.table, (str(timed),)


def _problem(
    table: TimingTable, layers: Sequence[PrunableLayer], speedup: float, model: nn.Module
) -> tuple[AllocationProblem, tuple[PrunableLayer, ...]]:
    """The allocation problem of a speedup, and the layers in the problem's order."""
    levels = levels_of(layers, table)
    problem = allocation_problem(
        table,
        speedup,
        dense=[own.name for own in table.layers if own.name not in levels],
        counts={own.name: own.counts(levels[own.name]) for own in layers},
        name=type(model).__name__,
    )
    by_name = {own.name: own for own in layers}
    return problem, tuple(by_name[own.name] for own in problem.layers)


def _plain(table: TimingTable) -> dict[str, Any]:
    """Convert a timing table to plain values."""
    return {"base": table.base, "layers": [[own.name, own.sparsities, own.seconds] for own in table.layers]}
