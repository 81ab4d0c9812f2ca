"""From a dense model and a speedup to masks and weights: SPDY, the whole road in one call.

Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022; input channels take the place of
single weights. docs/spdy.md says what is guaranteed and what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from problems import AllocationProblem, TimingTable, UnreachableSpeedupError, allocation_problem
from upscale_opt.errors import MaskError
from upscale_opt.exports import Exported
from upscale_opt.spdy.calibration_data import CalibrationData, calibration_data
from upscale_opt.spdy.choices import Choice, ChoiceSearch, CoefficientSearch
from upscale_opt.spdy.global_adaprune import Tuning, global_adaprune
from upscale_opt.spdy.layer_runs import frozen_copy
from upscale_opt.spdy.layer_times import layer_times
from upscale_opt.spdy.outer_rounds import Exporting, Round, measured_beside, retimed, solved_export
from upscale_opt.spdy.prunable_layers import PrunableLayer, levels_of, listed_layers, prunable_layers
from upscale_opt.spdy.reconstructions import Repair, reconstruct
from upscale_opt.spdy.results import SpeedupAllocation
from upscale_opt.spdy.stitching import Loss, Stitching, mean_loss
from upscale_opt.tracing import as_tuple, trace

RECONSTRUCTIONS_DIRECTORY, CHECKPOINT_FILE = "reconstructions", "global-adaprune.safetensors"


def allocate_speedup(
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
        Where reconstructions are kept, to go on after an interrupt. Default: in memory.
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
    how = how or Exporting()
    target = _target(
        model, example_inputs, speedup, table, grid, ignore=ignore, linear=linear, tables=tables, how=how, bars=progress
    )
    folder = None if directory is None else Path(directory)
    num_inputs = len(as_tuple(example_inputs))
    calibration = calibration_data(data, model, num_inputs=num_inputs)
    dense = frozen_copy(model)
    dense_score = mean_loss(dense, calibration, loss)
    found = reconstruct(
        dense,
        target.layers,
        {own.name: own.sparsities for own in target.problem.layers},
        calibration,
        repair or Repair(seed=seed),
        directory=None if folder is None else folder / RECONSTRUCTIONS_DIRECTORY,
        progress=progress,
    )
    stitching = Stitching(dense, found, reestimate=reestimate, data=calibration)
    settings = search or CoefficientSearch(seed=seed)
    choices = ChoiceSearch(stitching, target.layers, calibration, loss, settings, progress=progress)
    choice = choices.solve(target.problem)
    history, notes = _outer_loop(choice, choices, target, model, example_inputs, rounds, how, progress)
    exported = None
    if history:
        taken, more = _taken(history, speedup)
        choice, exported = taken.choice, taken.exported
        notes = (*notes, *more)
    stitched, masks = choices.stitched(choice.allocation)
    final_score, tuned = choice.score, None
    if tuning is not None:
        checkpoint = None if folder is None else folder / CHECKPOINT_FILE
        tuned = global_adaprune(stitched, dense, masks, calibration, tuning, checkpoint=checkpoint, progress=progress)
        stitched, final_score = tuned.model, mean_loss(tuned.model, calibration, loss)
        if exported is not None:
            exported = solved_export(stitched, example_inputs, masks, how, progress=progress).exported
    outside = None
    if held_out is not None:
        others = calibration_data(held_out, model, num_inputs=num_inputs)
        outside = (mean_loss(dense, others, loss), mean_loss(stitched, others, loss))
    return SpeedupAllocation(
        speedup=speedup,
        profile=choice.allocation.profile,
        masks=masks,
        state={name: tensor.detach().clone() for name, tensor in stitched.state_dict().items()},
        table=target.table,
        problem=target.problem,
        rounds=tuple(own.round for own in history),
        allocation=choice.allocation,
        score=choice.score,
        uniform_score=choice.uniform_score,
        dense_score=dense_score,
        coefficients=choice.coefficients,
        final_score=final_score,
        held_out=outside,
        exported=exported,
        tuned=tuned,
        notes=(*target.notes, *notes),
    )


@dataclass(frozen=True)
class _Target:
    """What is to be solved, with the layers in the order of the problem."""

    speedup: float
    table: TimingTable
    problem: AllocationProblem
    layers: tuple[PrunableLayer, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A round with its choice and its export."""

    round: Round
    choice: Choice
    exported: Exported


def _target(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    speedup: float,
    table: TimingTable | None,
    grid: Sequence[float] | None,
    *,
    ignore: Iterable[str],
    linear: bool,
    tables: str | Path | None,
    how: Exporting,
    bars: bool,
) -> _Target:
    """The problem of a speedup, with times that were given or are measured now."""
    graph = trace(model, example_inputs)
    layers = prunable_layers(graph, linear=linear, ignore=ignore)
    notes: tuple[str, ...] = ()
    if table is None:
        timed = layer_times(
            model,
            example_inputs,
            layers,
            grid,
            backend=how.backend,
            directory=tables,
            effort=how.effort,
            runs=how.runs,
            progress=bars,
        )
        table, notes = timed.table, (str(timed),)
    else:
        layers = listed_layers(layers, table, graph)
    levels = levels_of(layers, table)
    problem = allocation_problem(
        table,
        speedup,
        dense=[own.name for own in table.layers if own.name not in levels],
        counts={own.name: own.counts(levels[own.name]) for own in layers},
        name=type(model).__name__,
    )
    by_name = {own.name: own for own in layers}
    return _Target(speedup, table, problem, tuple(by_name[own.name] for own in problem.layers), notes)


def _outer_loop(
    first: Choice,
    choices: ChoiceSearch,
    target: _Target,
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    rounds: int,
    how: Exporting,
    progress: bool,
) -> tuple[list[_Measured], tuple[str, ...]]:
    """Export and measure, solve again with the times of the export, and so on."""
    history: list[_Measured] = []
    choice = first
    while len(history) < rounds:
        stitched, masks = choices.stitched(choice.allocation)
        solved = solved_export(stitched, example_inputs, masks, how, progress=progress)
        dense, measured = measured_beside(model, solved.exported.module, example_inputs, how, progress=progress)
        verification = solved.exported.verification
        problem = choice.allocation.problem
        last = Round(
            allocation=choice.allocation,
            score=choice.score,
            uniform_score=choice.uniform_score,
            predicted=problem.fixed + choice.allocation.time,
            base=problem.base,
            measured=measured,
            dense=dense,
            error=None if verification is None else verification.relative_error,
        )
        history.append(_Measured(last, choice, solved.exported))
        if len(history) == rounds:
            break
        try:
            again = retimed(target.problem, target.layers, last, solved, example_inputs, target.speedup, how)
        except UnreachableSpeedupError as error:
            return history, (f"no further round: by the times of the export, {error}",)
        choice = choices.solve(again)
    return history, ()


def _taken(history: Sequence[_Measured], speedup: float) -> tuple[_Measured, tuple[str, ...]]:
    """The round to take: of those measured to be fast enough that of least loss, or the fastest; and a note."""
    fast = [own for own in history if own.round.measured_speedup >= speedup]
    if fast:
        return min(fast, key=lambda own: own.round.score), ()
    note = f"no export was measured to reach {speedup:g}x; the fastest is taken, and more rounds may help"
    return max(history, key=lambda own: own.round.measured_speedup), (note,)
