"""From a target to a network: ``upscale_opt.speedup(model, x, data, 2.0)``.

Widths of all blocks are chosen together: measured times of every layer over both of its widths must meet a budget, and
the estimated loss is least, with a bound. The network is exported, verified, repaired and measured, and the budget is
moved until the measured speedup is what was asked for. docs/speedup.md describes every step.
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
from upscale_opt.widths.candidates import LEAST_SHARE, candidate_widths, masked_graph_of
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
from upscale_opt.widths.group_calibration import GROUP_EFFORT, calibrate_groups
from upscale_opt.widths.measuring import Stopwatch, size_of
from upscale_opt.widths.operator_groups import partition
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.repairing import RIDGE, repaired, repaired_copy
from upscale_opt.widths.results import Speedup

BATCH = 32
"""Images per batch of the repair and of comparisons."""
HELD_OUT = 0.25
"""Share of the images that are held out, if none are given for it."""


@entrance(
    target=above(1, MaskError),
    method=a_text,
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
        published methods on the same tables.
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
    if method not in METHODS:
        raise MaskError(f"there is no method {method!r}; choose from {', '.join(METHODS)}")
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
        "settings": [method, step, least, rounds, networks, repeats, time_limit, seed, asdict(effort or GROUP_EFFORT)],
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
    }
    journal = Journal(directory, hashlib.sha256(json.dumps(asked).encode()).hexdigest())
    measured = calibrate_groups(
        graph, parts, candidates, inputs, backend=backend, directory=tables, effort=effort, progress=progress
    )
    scores = scores_to(journal, lambda: block_losses(graph, _batches(used), loss=loss, seed=seed))
    programme = Programme(graph, parts, candidates, scores, measured)
    programme.problem(1.0)  # fails early if a table does not fit
    stopwatch = Stopwatch(model, inputs, backend=backend, repeats=repeats)
    try:
        correction = correction_to(
            journal,
            lambda: measured_correction(programme, model, inputs, stopwatch, networks=networks, seed=seed),
        )
        tell(str(correction))

        def measure(widths: Any) -> float:
            return stopwatch.measure(exported_widths(programme, model, inputs, widths)).speedup

        loop, choices = Loop(target, method, rounds, time_limit), list[Choice]()
        while True:
            number = len(choices)
            choices = loop.run(programme, correction, measure, journal, tell, choices)
            best = best_of(choices, target)
            found = _finish(
                model, inputs, programme, best, choices, stopwatch, used, others,
                target=target, method=method, correction=correction, ridge=ridge,
                directory=directory, forms=forms, notes=notes, progress=progress,
            )  # fmt: skip
            if found.reached or len(choices) in (rounds, number):
                return found
            tell(f"the file of the final network: {found.measured:.3f}x")
            choices = remeasured(choices, best, found.measured)
    finally:
        stopwatch.close()


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
    correction: Any,
    ridge: float,
    directory: str | Path | None,
    forms: list[str],
    notes: tuple[str, ...],
    progress: bool,
) -> Speedup:
    """Repair, export, verify, save and measure the chosen network."""
    graph = programme.graph
    masked = masked_graph_of(graph, programme.scores, best.widths)
    plan = plan_of(masked)
    before = export(model, inputs, plan, verify=False, graph=graph)
    state = repaired(graph, masked.masks, [own for own, _ in used.batches(BATCH)], ridge=ridge, progress=progress)
    mended = repaired_copy(model, state)
    after: Exported = export(mended, inputs, plan)
    path = None
    if directory is not None:
        after.save(directory, forms)
        path = Path(directory) / FORMS[stopwatch.form].file if stopwatch.form in forms else None
    final = stopwatch.measure(after, path)
    return Speedup(
        target,
        final.speedup >= target,
        after,
        method,
        tuple(own.round for own in choices),
        best.round,
        final.speedup,
        final.dense_seconds,
        final.seconds,
        str(stopwatch),
        correction,
        compare_outputs(model, before.module, _batches(others)),
        compare_outputs(model, after.module, _batches(others)),
        size_of(model, inputs),
        size_of(after.module, inputs),
        {graph.blocks[b].name: reason for b, reason in programme.parts.fixed.items()},
        notes,
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
    return tqdm.write if progress else (lambda line: None)
