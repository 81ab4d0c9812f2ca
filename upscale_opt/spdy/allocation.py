"""From a dense model and a speedup to masks and weights: SPDY, the whole road in one call.

Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022; input channels take the place of
single weights. docs/spdy.md says what is guaranteed and what is measured.
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
from upscale_opt.arguments.checks import above, several
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import MaskError
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.spdy.calibration_data import CalibrationData, calibration_data
from upscale_opt.spdy.choices import ChoiceSearch, CoefficientSearch
from upscale_opt.spdy.global_adaprune import Tuning, global_adaprune
from upscale_opt.spdy.journal import Journal
from upscale_opt.spdy.layer_runs import frozen_copy, state_digest
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
    progress: bool = False,
) -> SpeedupAllocation:
    """Choose a sparsity per layer for a speedup, repair the weights, and measure what comes of it.

    Times are taken from a table, errors are guessed by the rank of a level times a coefficient per layer, and a
    dynamic programme finds the choice of least error within the budget, times rounded up to buckets. Coefficients are
    searched for: the loss of the stitched model judges them. In every round of the outer loop the choice is exported,
    its channels ordered, and measured beside the dense model; the next round solves with the times of that export.
    Of the rounds whose export was measured to be fast enough, that of least loss is taken; if none was, the fastest.

    Parameters
    ----------
    model
        Dense, in eval mode; it is not changed.
    example_inputs
        A tensor or the tuple of positional inputs. Times hold for their device, dtype, memory format and batch.
    data
        Batches of (inputs, labels) for repair and score, as many as fit in memory; SPDY takes 1024 images.
    speedup
        Of the whole model.
    table
        Times measured before, here or elsewhere (`problems.read_timing_table`); its levels are the choice. Layers that
        it does not list, or lists but are not of `prunable_layers`, stay dense and take their time. Default: measured.
    grid
        Levels to measure. Default: `problems.sparsity_grid`.
    ignore
        Names of weights or modules that stay dense, wildcards allowed.
    linear
        Take linear layers, too.
    repair
        How weights are repaired. Default: AdaPrune with the authors' values, seeded by `seed`.
    search
        How the choice is solved, and how long coefficients are searched for. Default: as long as in SPDY, seeded by
        `seed`.
    tuning
        Global AdaPrune of the choice. Default: none.
    loss
        The score. Default: cross-entropy.
    reestimate
        Estimate BatchNorm statistics again before every score. Default no.
    rounds
        Of the outer loop; 0 measures nothing, and the choice is that of the table alone.
    how
        How choices are exported and measured. Default: solver `auto` on objective `latency`.
    held_out
        More batches, on which losses are reported and nothing is chosen.
    directory
        Where reconstructions, times and choices are kept as they are made, to go on from after an interrupt with the
        same outcome. Another run there (another speedup, say) takes reconstructions over if they fit. Default: in
        memory.
    tables
        Where measured layer times are kept. Default: as for `calibrate`.
    seed
        Of the search, and of the repair if that is not given.
    progress
        Show progress bars on standard error.

    Raises
    ------
    UnreachableSpeedupError
        If the fastest levels are too slow; the message has the largest speedup. Nothing was repaired or written then.
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
        _problem(table, layers, speedup, model)  # out of reach? said before images are looked at
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
    if table is None and journal.recall("table") is None:  # only now: a target out of reach leaves nothing behind
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
            checkpoint.unlink(missing_ok=True)  # of another run
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
    progress: bool,
) -> tuple[TimingTable, tuple[str, ...]]:
    """Times that are measured now, or were before; and notes."""
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
    """The problem of a speedup, and the layers in its order."""
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
    """A timing table as plain values."""
    return {"base": table.base, "layers": [[own.name, own.sparsities, own.seconds] for own in table.layers]}
