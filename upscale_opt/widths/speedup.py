"""From a target to a network: ``upscale_opt.speedup(model, x, data, 2.0)``.

Widths of all blocks are chosen together: measured times of every layer over both of its widths must meet a budget, and
the estimated loss is least, with a bound. The network is exported, verified, repaired and measured, and the budget is
moved until the measured speedup is what was asked for. docs/speedup.md describes every step.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from upscale_opt.arguments.checks import a_text, above, at_least, names, whole
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import MaskError
from upscale_opt.exporting.exporter import export
from upscale_opt.importance.fisher import block_losses
from upscale_opt.importance.observation import Loss
from upscale_opt.latency.calibration import Effort, conditions_of
from upscale_opt.latency.profiling import default_backend
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.models.digests import state_digest
from upscale_opt.rewriting.exports import Exported
from upscale_opt.saving.forms import FORMS, require_forms
from upscale_opt.spdy.calibration_data import CalibrationData, calibration_data
from upscale_opt.spdy.journal import Journal
from upscale_opt.tracing.trace import as_tuple, trace
from upscale_opt.widths.candidates import LEAST_SHARE, Widths, candidate_widths, masked_graph_of, windows_in
from upscale_opt.widths.choosers import Chooser, WindowChooser
from upscale_opt.widths.closed_loop import (
    METHODS,
    Choice,
    Loop,
    best_of,
    correction_to,
    exported_widths,
    measured_correction,
    plan_of,
    remeasured,
    scores_to,
)
from upscale_opt.widths.corrections import Correction
from upscale_opt.widths.group_calibration import GROUP_EFFORT, calibrate_groups
from upscale_opt.widths.macs import macs_tables
from upscale_opt.widths.measuring import Stopwatch, size_of
from upscale_opt.widths.operator_groups import partition
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.repairing import RIDGE, repaired, repaired_copy
from upscale_opt.widths.results import MACS, TIME, Speedup
from upscale_opt.widths.window_streams import WindowStream, window_streams

WINDOWS, BEST = "windows", "best"
"""Methods beside those of `METHODS`."""
BATCH = 32
"""Images per batch of the repair and of comparisons."""
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
    method: str = "joint",
    budget: str = TIME,
    backend: str | None = None,
    step: int | None = None,
    least: float = LEAST_SHARE,
    rounds: int = 4,
    networks: int = 6,
    repeats: int = 15,
    ridge: float = RIDGE,
    time_limit: float = 60.0,
    effort: Effort | None = None,
    tables: str | Path | None = None,
    directory: str | Path | None = None,
    forms: Iterable[str] = (),
    seed: int = 0,
    progress: bool = False,
) -> Speedup:
    """Make a network that is `target` times as fast, and as close to the given one as the estimate allows.

    Parameters
    ----------
    model
        The network in eval mode. It is not changed.
    example_inputs
        A tensor or the tuple of positional inputs. Times hold for their device, dtype, memory format and batch size.
    data
        Batches of images, with or without labels, for scores and repair. All of them must fit in memory.
    target
        Speedup of the whole network, above 1.
    held_out
        Other images, on which fidelity is reported. Default: the last quarter of `data`.
    loss
        ``loss(outputs, labels)``, for networks whose outputs are no logits. Default: cross-entropy with labels drawn
        from the network's own softmax.
    method
        ``joint``: all widths together, with a bound. ``uniform``: the same share of every block. ``halp``, ``mdp``: the
        published methods on the same tables. ``windows``: every writer and reader of a stream has a range of its
        channels (docs/windows.md), and the other blocks have widths. ``best``: `joint` and `windows` are made and
        measured, and of those that reach the target, the one with the smaller KL on held-out images is taken.
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
        Of the repair; see `upscale_opt.widths.repairing.repaired`.
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
        Show progress bars and the turns on standard error.

    Raises
    ------
    UnreachableSpeedupError
        If no widths reach the target, by the tables. The message has the largest speedup.
    MaskError
        If a value or the data does not fit.
    VerificationError
        If an export is wrong.

    Notes
    -----
    The programme generalises HALP (Shen et al., NeurIPS 2022) and MDP (Sun et al., CVPR 2025): two-dimensional tables,
    streams and concats, and a bound for the choice.
    """
    if method not in (*METHODS, WINDOWS, BEST):
        raise MaskError(f"there is no method {method!r}; choose from {', '.join((*METHODS, WINDOWS, BEST))}")
    if budget not in (TIME, MACS):
        raise MaskError(f"there is no budget {budget!r}; choose from {TIME}, {MACS}")
    if budget == MACS:
        rounds = 1  # counts come true
    forms = list(dict.fromkeys([forms] if isinstance(forms, str) else forms))
    require_forms(forms)
    inputs = as_tuple(example_inputs)
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    backend = backend or default_backend(device)
    conditions = conditions_of(inputs, backend=backend)
    graph = trace(model, example_inputs)
    parts = partition(graph)
    candidates = candidate_widths(graph, parts, step=step, least=least)
    if not any(len(own) > 1 for own in candidates.values()):
        raise MaskError("no block of this network has a free width; see the pinned channels that `solve` lists")
    used, others, notes = _images(data, held_out, model, len(inputs))
    tell = _teller(progress)
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
    if budget == MACS:
        measured = macs_tables(graph, parts, candidates)
    else:
        measured = calibrate_groups(
            graph, parts, candidates, inputs, backend=backend, directory=tables, effort=effort, progress=progress
        )
    scores = scores_to(journal, lambda: block_losses(graph, _batches(used), loss=loss, seed=seed))
    programme = Programme(graph, parts, candidates, scores, measured)
    programme.problem(1.0)  # fails early if a table does not fit
    choosers: dict[str, Chooser | None] = {method: None}
    if method in (WINDOWS, BEST):
        streams, left_out = window_streams(graph, parts, candidates, _batches(used), loss=loss, seed=seed)
        whole = tuple(f"stream {name} has no windows: {reason}" for name, reason in left_out.items())
        choosers, notes = _with_windows(method, streams, whole, seed), (*notes, *whole)
    stopwatch = Stopwatch(model, inputs, backend=backend, repeats=repeats)
    try:
        if budget == MACS:
            correction, full = Correction(1.0, 0.0, (), (), 0.0), size_of(model, inputs).macs
        else:
            correction = correction_to(
                journal,
                lambda: measured_correction(programme, model, inputs, stopwatch, networks=networks, seed=seed),
            )
        tell(str(correction))

        def measure(widths: Widths) -> float:
            exported = exported_widths(programme, model, inputs, widths)
            if budget == MACS:
                return full / size_of(exported.module, inputs).macs
            return stopwatch.measure(exported).speedup

        def reached(name: str, chooser: Chooser | None, folder: str | Path | None) -> Speedup:
            """One method's network: the loop goes on if the final file is too slow."""
            label = "" if len(choosers) == 1 else f"{name} "
            loop, choices = Loop(target, name, rounds, time_limit, chooser, label), list[Choice]()
            while True:
                number = len(choices)
                choices = loop.run(programme, correction, measure, journal, tell, choices)
                best = best_of(choices, target)
                found = _finish(
                    model, inputs, programme, best, choices, stopwatch, used, others,
                    target=target, method=name, budget=budget, correction=correction, ridge=ridge,
                    directory=folder, forms=forms, notes=notes, progress=progress,
                )  # fmt: skip
                if found.reached or len(choices) in (rounds, number):
                    return found
                tell(f"the file of the final network: {found.measured:.3f}x")
                choices = remeasured(choices, best, found.measured)

        if len(choosers) == 1:
            return next(reached(name, chooser, directory) for name, chooser in choosers.items())
        winner = best_result([reached(name, chooser, None) for name, chooser in choosers.items()])
        if directory is not None:
            winner.exported.save(directory, forms)
        return winner
    finally:
        stopwatch.close()


def best_result(results: Sequence[Speedup]) -> Speedup:
    """Of those that reach the target, the network with the least KL on held-out images; the fastest if none does.

    The others are listed in `Speedup.others`.
    """
    able = [own for own in results if own.reached]
    if able:
        winner = min(able, key=lambda own: own.repaired.kl)
        note = "of the networks that reach the target, the one with the least KL on the held-out images was taken"
    else:
        winner = max(results, key=lambda own: own.measured)
        note = "no network reaches the target, so the fastest one was taken"
    others = tuple(own for own in results if own is not winner)
    return replace(winner, others=others, notes=(*winner.notes, note))


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


def _finish(
    model: nn.Module,
    inputs: tuple[Any, ...],
    programme: Programme,
    best: Choice,
    choices: list[Choice],
    stopwatch: Stopwatch,
    used: CalibrationData,
    others: CalibrationData,
    *,
    target: float,
    method: str,
    budget: str,
    correction: Correction,
    ridge: float,
    directory: str | Path | None,
    forms: list[str],
    notes: tuple[str, ...],
    progress: bool,
) -> Speedup:
    """Repair, export, verify, save and measure the chosen network."""
    graph = programme.graph
    masked = masked_graph_of(graph, programme.scores, best.widths)
    plan = plan_of(masked, windows_in(graph, best.widths))
    before = export(model, inputs, plan, verify=False, graph=graph)
    images = [own for own, _ in used.batches(BATCH)]
    state = repaired(graph, masked.masks, images, output_masks=masked.output_masks, ridge=ridge, progress=progress)
    mended = repaired_copy(model, state)
    after: Exported = export(mended, inputs, plan)
    path = None
    if directory is not None:
        after.save(directory, forms)
        path = Path(directory) / FORMS[stopwatch.form].file if stopwatch.form in forms else None
    final = stopwatch.measure(after, path)
    sizes = size_of(model, inputs), size_of(after.module, inputs)
    counts = budget == MACS
    measured = sizes[0].macs / sizes[1].macs if counts else final.speedup
    return Speedup(
        target,
        measured >= target,
        after,
        method,
        tuple(own.round for own in choices),
        best.round,
        measured,
        final.dense_seconds,
        final.seconds,
        f"multiply-accumulates; times: {stopwatch}" if counts else str(stopwatch),
        correction,
        compare_outputs(model, before.module, _batches(others)),
        compare_outputs(model, after.module, _batches(others)),
        *sizes,
        {graph.blocks[b].name: reason for b, reason in programme.parts.fixed.items()},
        notes,
        budget,
    )


def _images(
    data: Iterable[Any] | CalibrationData,
    held_out: Iterable[Any] | CalibrationData | None,
    model: nn.Module,
    number: int,
) -> tuple[CalibrationData, CalibrationData, tuple[str, ...]]:
    """Images to choose and repair with, held-out images, and a note about them."""
    used = calibration_data(data, model, num_inputs=number)
    if held_out is not None:
        return used, calibration_data(held_out, model, num_inputs=number), ()
    rest = max(1, round(HELD_OUT * used.num_images))
    if used.num_images < 2:
        raise MaskError("one image cannot be split into images to use and images to hold out; give more")
    labels = used.labels
    first, second = (
        CalibrationData(tuple(x[own] for x in used.inputs), None if labels is None else labels[own])
        for own in (slice(None, -rest), slice(-rest, None))
    )
    return first, second, (f"held out: the last {rest} of {used.num_images} images; give other ones to be surer",)


def _batches(data: CalibrationData) -> list[tuple[torch.Tensor, ...]]:
    return [inputs if labels is None else (*inputs, labels) for inputs, labels in data.batches(BATCH)]


def _teller(progress: bool) -> Any:
    return (lambda line: tqdm.write(line, file=sys.stderr)) if progress else (lambda line: None)
