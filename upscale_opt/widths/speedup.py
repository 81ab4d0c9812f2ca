"""From a target to a network: ``upscale_opt.speedup(model, x, data, 2.0)``.

Widths of all blocks are chosen together: measured times of every layer over both of its widths must meet a budget, and
the estimated loss is least, with a bound. The network is exported, verified, repaired and measured, and the budget is
moved until the measured speedup is what was asked for. docs/speedup.md describes every step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from problems import UnreachableSpeedupError
from problems.showing.progress import ShowProgress, tell
from solvers import least_time
from upscale_opt.arguments.checks import a_text, above, at_least, names, whole
from upscale_opt.arguments.entrance import entrance
from upscale_opt.arguments.modes import AUTO
from upscale_opt.errors import MaskError
from upscale_opt.importance.fisher import block_losses
from upscale_opt.importance.observation import Loss
from upscale_opt.latency.calibration import Effort, conditions_of
from upscale_opt.latency.profiling import default_backend
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.models.digests import state_digest
from upscale_opt.models.network_checks import require_values, with_values
from upscale_opt.saving.forms import require_forms
from upscale_opt.spdy.calibration_data import CalibrationData, calibration_data
from upscale_opt.spdy.journal import Journal
from upscale_opt.tracing.trace import as_tuple, trace
from upscale_opt.widths.candidates import LEAST_SHARE, candidate_widths
from upscale_opt.widths.choosers import Chooser, WindowChooser
from upscale_opt.widths.closed_loop import METHODS, Loop, off_by, scores_to
from upscale_opt.widths.group_calibration import GROUP_EFFORT, calibrate_groups
from upscale_opt.widths.layer_sparsities import SPDY, SparsityMaker
from upscale_opt.widths.macs import macs_tables
from upscale_opt.widths.making import Maker, batches_of, best_result
from upscale_opt.widths.measuring import Stopwatch, saved_form
from upscale_opt.widths.operator_groups import partition
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.results import MACS, TIME, Speedup
from upscale_opt.widths.window_streams import WindowStream, window_streams

WINDOWS, BEST = "windows", "best"
"""Methods beside those of `METHODS`."""
ALL_METHODS = (*METHODS, WINDOWS, BEST, SPDY)
HELD_OUT = 0.25
"""Share of the images that are held out, if none are given for it."""


@entrance(
    target=above(1, MaskError),
    method=a_text,
    budget=a_text,
    step=whole(1, MaskError),
    least=at_least(0, MaskError),
    rounds=whole(1, MaskError),
    networks=whole(2, MaskError),
    ridge=at_least(0, MaskError),
    forms=names,
)
def speedup(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    data: Iterable[Any] | CalibrationData,
    target: float,
    *,
    held_out: Iterable[Any] | CalibrationData | None = None,
    loss: Loss | None = None,
    method: str = "best",
    budget: str = TIME,
    backend: str | None = None,
    step: int | None = None,
    least: float = LEAST_SHARE,
    rounds: int = 4,
    networks: int = 6,
    repeats: int = 15,
    ridge: float | None = None,
    time_limit: float = 60.0,
    effort: Effort | None = None,
    tables: str | Path | None = None,
    directory: str | Path | None = None,
    forms: Iterable[str] = (),
    seed: int = 0,
    progress: ShowProgress = None,
    front_end: str = AUTO,
) -> Speedup:
    """Make a network that is `target` times as fast, and as close to the given one as the estimate allows.

    Parameters
    ----------
    model
        The network in eval mode. It is not changed.
    example_inputs
        A tensor, or a tuple of one. Times hold for its device, dtype, memory format and batch size.
    data
        Batches of images, with or without labels, for scores and repair. All of them must fit in memory.
    target
        Speedup of the whole network, above 1.
    held_out
        Other images, on which fidelity is reported. Default: the last quarter of `data`.
    loss
        ``loss(outputs, labels)`` with the labels of the data. Default: cross-entropy with labels drawn from the
        network's own softmax.
    method
        ``joint``: all widths together, with a bound. ``uniform``: the same share of every block. ``halp``, ``mdp``: the
        published methods on the same tables. ``windows``: every writer and reader of a stream has a range of its
        channels (docs/windows.md), and the other blocks have widths. ``best``: `joint` and `windows` are made and
        measured, and of those that reach the target, the one with the smaller KL on held-out images is taken.
        ``spdy``: SPDY's sparsities per layer (`upscale_opt.allocate`): layers that share a tensor keep channels of
        their own, and the order of the channels is solved. It uses only `loss`, `backend`, `rounds`, `repeats`,
        `effort`, `tables`, `directory`, `forms` and `seed` of what follows, and needs no free width.
    budget
        ``time``: measured. ``macs``: multiply-accumulates, counted; then `target` is their ratio, and nothing is
        calibrated. Times of the final network are measured in both cases.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`. Default: as for `upscale_opt.profile`.
    step
        Distance of candidate widths, in channels. Default: 8 for blocks of 64 channels and more, less for smaller ones.
    least
        Share of its channels that every block keeps.
    rounds
        Most turns of choosing, exporting and measuring.
    networks
        Networks of random widths that are measured to correct the sum of the tables.
    repeats
        Rounds of every measurement.
    ridge
        Of the repair; see `upscale_opt.widths.repairing.repaired`. Default: other images choose it, layer by layer.
    time_limit
        Seconds of the solver per turn.
    effort
        How carefully layers are timed.
    tables
        Directory of measured tables. Default: as for `upscale_opt.calibrate`.
    directory
        Where plan, weights and other forms are written; the journal of a run that was killed is there, too.
    forms
        More forms to write: ``pt2``, ``onnx``, ``torchscript``.
    seed
        Of drawn labels and random widths.
    progress
        Show what is done, and the turns. Default: on a terminal and in a notebook (`problems.showing.progress`).
    front_end
        What captures the network: ``fx``, ``export`` or ``auto`` (`upscale_opt.trace`).

    Raises
    ------
    UnreachableSpeedupError
        If no widths reach the target, by the tables. The message has the largest speedup.
    MaskError
        If a value or the data does not fit, no width is free, or the network has several inputs.
    LearningError
        If the network's outputs are no logits.
    VerificationError
        If an export is wrong.

    Notes
    -----
    The programme generalises HALP (Shen et al., NeurIPS 2022) and MDP (Sun et al., CVPR 2025): two-dimensional tables,
    streams and concats, and a bound for the choice.
    """
    if method not in ALL_METHODS:
        raise MaskError(f"there is no method {method!r}; choose from {', '.join(ALL_METHODS)}")
    if budget not in (TIME, MACS):
        raise MaskError(f"there is no budget {budget!r}; choose from {TIME}, {MACS}")
    if budget == MACS:
        if method == SPDY:
            raise MaskError("SPDY counts measured time here; use budget='time', or method='joint'")
        rounds = 1  # counts come true
    forms = list(dict.fromkeys([forms] if isinstance(forms, str) else forms))
    require_forms(forms)
    require_values(model)
    inputs = as_tuple(with_values(example_inputs, model))
    if len(inputs) != 1:
        raise MaskError(f"the network takes {len(inputs)} inputs, and speedup needs one; wrap it in a module with one")
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    backend = backend or default_backend(device)
    conditions = conditions_of(inputs, backend=backend)
    graph = trace(model, inputs, front_end=front_end)
    parts = partition(graph)
    candidates = candidate_widths(graph, parts, step=step, least=least)
    if method != SPDY and not any(len(own) > 1 for own in candidates.values()):
        raise MaskError("no block of this network has a free width; see the pinned channels that `solve` lists")
    used, others, notes = _images(data, held_out, model)
    compare_outputs(model, model, batches_of(others)[:1])  # fails early if outputs are no logits
    asked = {
        "target": target,
        "model": state_digest(model),
        "data": used.fingerprint,
        "conditions": str(conditions),
        "inputs": [list(x.shape) for x in inputs if isinstance(x, torch.Tensor)],
        "settings": [
            method,
            budget,
            step,
            least,
            rounds,
            networks,
            repeats,
            time_limit,
            seed,
            asdict(effort or GROUP_EFFORT),
        ],
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
    }
    journal = Journal(directory, hashlib.sha256(json.dumps(asked).encode()).hexdigest())
    if method == SPDY:
        with closing(Stopwatch(model, inputs, backend=backend, repeats=repeats)) as stopwatch:
            sparse = SparsityMaker(
                model, inputs, used, others, journal, stopwatch, rounds, loss, effort, tables, seed, notes,
                _teller(progress), progress,
            )  # fmt: skip
            return sparse.make(target, directory, forms)
    scores = scores_to(journal, lambda: block_losses(graph, batches_of(used), loss=loss, seed=seed))
    if budget == MACS:
        measured = macs_tables(graph, parts, candidates)
    else:
        retained = saved_form(backend, device.type) is None  # as the network will be measured
        measured = calibrate_groups(
            graph, parts, candidates, inputs, backend=backend, directory=tables, effort=effort, retained=retained,
            progress=progress,
        )  # fmt: skip
    programme = Programme(graph, parts, candidates, scores, measured)
    choosers: dict[str, Chooser | None] = {method: None}
    try:
        _require_reachable(programme, target)
        if method in (WINDOWS, BEST):
            streams, left_out = window_streams(graph, parts, candidates, batches_of(used), loss=loss, seed=seed)
            whole = tuple(f"stream {name} has no windows: {reason}" for name, reason in left_out.items())
            choosers, notes = _with_windows(method, streams, whole, seed), (*notes, *whole)
    except (UnreachableSpeedupError, MaskError):
        journal.discard()
        raise
    stopwatch = Stopwatch(model, inputs, backend=backend, repeats=repeats)
    try:
        maker = Maker(
            model, inputs, programme, used, others, journal, stopwatch, budget, networks, seed, ridge, forms, notes,
            _teller(progress), progress,
        )  # fmt: skip
        loops = [
            Loop(target, name, rounds, time_limit, chooser, "" if len(choosers) == 1 else f"{name} ")
            for name, chooser in choosers.items()
        ]
        if len(loops) == 1:
            return maker.make(loops[0], directory)
        made: list[Speedup] = []
        for loop in loops:
            # What tables of times are off by, another method knows. Counts are never off.
            off = off_by(made[-1].rounds) if made and budget == TIME else 1.0
            made.append(maker.make(replace(loop, off=off), None))
            if made[-1].interrupted:
                break
        winner = best_result(made)
        if directory is not None:
            winner.exported.save(directory, forms)
        return winner
    except UnreachableSpeedupError:
        journal.discard()
        raise
    finally:
        stopwatch.close()


def _require_reachable(programme: Programme, target: float) -> None:
    """Fail before networks are measured, if no sum of the tables is small enough."""
    problem = programme.problem(target)
    least = least_time(problem)
    if least > problem.budget:
        raise UnreachableSpeedupError(target, problem.base / least)


def _with_windows(
    method: str, streams: list[WindowStream], whole: tuple[str, ...], seed: int
) -> dict[str, Chooser | None]:
    """The choosers of a method with windows, by the name of the method that each of them makes."""
    if not streams and method == WINDOWS:
        raise MaskError(
            "this network has no stream that can have windows, which is a block of free width that several layers add "
            f"to and several read{'; ' * bool(whole)}{'; '.join(whole)}; use method='joint'"
        )
    chooser: dict[str, Chooser | None] = {WINDOWS: WindowChooser(streams, seed)} if streams else {}
    return chooser if method == WINDOWS else {"joint": None, **chooser}


def _images(
    data: Iterable[Any] | CalibrationData,
    held_out: Iterable[Any] | CalibrationData | None,
    model: nn.Module,
) -> tuple[CalibrationData, CalibrationData, tuple[str, ...]]:
    """Images to choose and repair with, held-out images, and a note about them."""
    used = calibration_data(data, model)
    if held_out is not None:
        return used, calibration_data(held_out, model), ()
    rest = max(1, round(HELD_OUT * used.num_images))
    if used.num_images < 2:
        raise MaskError("one image cannot be split into images to use and images to hold out; give more")
    labels = used.labels
    first, second = (
        CalibrationData(tuple(x[own] for x in used.inputs), None if labels is None else labels[own])
        for own in (slice(None, -rest), slice(-rest, None))
    )
    return first, second, (f"held out: the last {rest} of {used.num_images} images; give other ones to be surer",)


def _teller(progress: ShowProgress) -> Any:
    return lambda line: tell(line, progress)
