"""Makes the network of one method: turns of the closed loop, then repair, verified export, files and measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from problems.showing.progress import ShowProgress
from upscale_opt.exporting.exporter import export
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.saving.forms import FORMS
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.journal import Journal
from upscale_opt.widths.candidates import Widths, masked_graph_of, windows_in
from upscale_opt.widths.closed_loop import (
    Choice,
    Loop,
    best_of,
    correction_to,
    exported_widths,
    measured_correction,
    plan_of,
    remeasured,
)
from upscale_opt.widths.corrections import Correction
from upscale_opt.widths.measuring import Stopwatch, size_of
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.repairing import repaired, repaired_copy
from upscale_opt.widths.results import MACS, Speedup

BATCH = 32
"""Images per batch of the repair and of comparisons."""


@dataclass(frozen=True, eq=False)
class Maker:
    """What all methods of one call share.

    Attributes
    ----------
    model, inputs
        The unpruned network in eval mode, and its inputs.
    programme
        Its blocks, losses and tables.
    used, held_out
        Images to repair with, and images to report on.
    journal
        What was measured and chosen before.
    stopwatch
        Measures networks beside the unpruned one.
    budget
        `upscale_opt.widths.results.TIME` or `MACS`.
    networks, seed
        Networks of random widths for the correction, and their seed.
    ridge
        Of the repair.
    forms
        More forms to write.
    notes
        What else should be known.
    tell
        Called with a line per turn.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).
    """

    model: nn.Module
    inputs: tuple[Any, ...]
    programme: Programme
    used: CalibrationData
    held_out: CalibrationData
    journal: Journal
    stopwatch: Stopwatch
    budget: str
    networks: int
    seed: int
    ridge: float | None
    forms: Sequence[str]
    notes: tuple[str, ...]
    tell: Callable[[str], None]
    progress: ShowProgress

    @cached_property
    def correction(self) -> Correction:
        """What turns sums of tables into times of this network."""
        if self.budget == MACS:
            return Correction(1.0, 0.0, (), (), 0.0)

        def measured() -> Correction:
            return measured_correction(
                self.programme, self.model, self.inputs, self.stopwatch, networks=self.networks, seed=self.seed
            )

        found = correction_to(self.journal, measured)
        self.tell(str(found))
        return found

    @cached_property
    def _macs(self) -> int:
        return size_of(self.model, self.inputs).macs

    def measure(self, widths: Widths, target: float) -> float:
        """The speedup of a choice, or the ratio of multiply-accumulates. What is too slow is measured only once."""
        exported = exported_widths(self.programme, self.model, self.inputs, widths)
        if self.budget == MACS:
            return self._macs / size_of(exported.module, self.inputs).macs
        return self.stopwatch.measure(exported, is_final=False, wanted=target).speedup

    def make(self, loop: Loop, directory: str | Path | None) -> Speedup:
        """The network of one method. The loop goes on if the final file is too slow.

        Ctrl-C ends the turns; the network of the best turn so far is still repaired and written. A second one ends
        everything.
        """
        choices: list[Choice] = []
        measure = partial(self.measure, target=loop.target)
        while True:
            number, interrupted = len(choices), False
            try:
                loop.run(self.programme, self.correction, measure, self.journal, self.tell, choices)
            except KeyboardInterrupt:
                if not choices:
                    raise
                interrupted = True
                self.tell("interrupted: the best network so far is finished and written; Ctrl-C again to stop at once")
            best, name = best_of(choices, loop.target), f"{loop.label}final {len(choices)}"
            last = interrupted or len(choices) in (loop.rounds, number)
            measured: float | None = self.journal.recall(name)
            if last or measured is None or measured >= loop.target:
                found = self._finish(best, choices, loop, directory, interrupted=interrupted)
                if last or found.reached:
                    return found
                measured = found.measured
                self.journal.note(name, measured)
            self.tell(f"the file of the final network: {measured:.3f}x")
            choices = remeasured(choices, best, measured)

    def _finish(
        self, best: Choice, choices: Sequence[Choice], loop: Loop, directory: str | Path | None, *, interrupted: bool
    ) -> Speedup:
        """Repair, export, verify, save and measure the chosen network."""
        graph, model, inputs = self.programme.graph, self.model, self.inputs
        masked = masked_graph_of(graph, self.programme.scores, best.widths)
        plan = plan_of(masked, windows_in(graph, best.widths))
        before = export(model, inputs, plan, verify=False, graph=graph)
        images = [own for own, _ in self.used.batches(BATCH)]
        how: dict[str, Any] = {"output_masks": masked.output_masks, "ridge": self.ridge, "progress": self.progress}
        after = export(repaired_copy(model, repaired(graph, masked.masks, images, **how)), inputs, plan)
        path, form = None, self.stopwatch.form
        if directory is not None:
            after.save(directory, self.forms)
            path = Path(directory) / FORMS[form].file if form is not None and form in self.forms else None
        final = self.stopwatch.measure(after, path)
        sizes = size_of(model, inputs), size_of(after.module, inputs)
        counts = self.budget == MACS
        measured = sizes[0].macs / sizes[1].macs if counts else final.speedup
        stopped = (f"interrupted after {len(choices)} of {loop.rounds} turns",) if interrupted else ()
        return Speedup(
            loop.target,
            measured >= loop.target,
            after,
            loop.method,
            tuple(own.round for own in choices),
            best.round,
            measured,
            final.dense_seconds,
            final.seconds,
            f"multiply-accumulates; times: {self.stopwatch}" if counts else str(self.stopwatch),
            self.correction,
            compare_outputs(model, before.module, batches_of(self.held_out)),
            compare_outputs(model, after.module, batches_of(self.held_out)),
            compare_outputs(model, after.module, batches_of(self.used)),
            *sizes,
            {graph.blocks[b].name: reason for b, reason in self.programme.parts.fixed.items()},
            (*self.notes, *stopped),
            self.budget,
            interrupted=interrupted,
        )


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
    if not others:
        return winner
    return replace(winner, others=others, notes=(*winner.notes, note))


def batches_of(data: CalibrationData) -> list[tuple[torch.Tensor, ...]]:
    """Batches of images, with labels if there are any."""
    return [inputs if labels is None else (*inputs, labels) for inputs, labels in data.batches(BATCH)]
