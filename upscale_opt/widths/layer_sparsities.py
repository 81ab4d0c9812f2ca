"""SPDY on the road of `upscale_opt.speedup`: a sparsity per layer, ordered, exported, and measured as a file.

Every layer keeps its own input channels, so an export may have to copy channels, and its order is solved. All the rest
is as for widths: turns until the file is fast enough, fidelity on held-out images, one report.

Source: Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022 (`upscale_opt.allocate`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from problems import UnreachableSpeedupError
from problems.showing.progress import ShowProgress
from upscale_opt.exporting.exporter import export
from upscale_opt.importance.observation import Loss
from upscale_opt.latency.calibration import Effort
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.saving.forms import FORMS
from upscale_opt.spdy.allocation import allocate
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.choices import CoefficientSearch
from upscale_opt.spdy.journal import Journal
from upscale_opt.spdy.outer_rounds import Exporting
from upscale_opt.spdy.reconstructions import LEAST_SQUARES, Repair
from upscale_opt.spdy.results import SpeedupAllocation
from upscale_opt.widths.closed_loop import MORE
from upscale_opt.widths.making import batches_of
from upscale_opt.widths.measuring import Measured, Stopwatch, size_of
from upscale_opt.widths.results import Round, Speedup

SPDY = "spdy"
"""The method's name."""
GRID = (0.0, *(round(0.1 * i, 1) for i in range(1, 10)), 0.95)
"""Sparsities of a layer."""
NUM_TRIALS = 20
"""Random coefficients at the start of a search, and failures in a row that end it; by default, `upscale_opt.allocate`
takes 100 of each."""
DIRECTORY = "spdy"
"""Folder in the run's directory for reconstructions, and for the journal of a turn."""


@dataclass(frozen=True, eq=False)
class _Turn:
    """A choice for a speedup that was asked for. None for what an earlier run found; it is found again if needed."""

    asked: float
    measured: Measured
    found: SpeedupAllocation | None


@dataclass(frozen=True, eq=False)
class SparsityMaker:
    """What all turns of one call share.

    Attributes
    ----------
    model, inputs
        The unpruned network in eval mode, and its inputs.
    used, held_out
        Images to choose and repair with, and images to report on.
    journal
        What was measured before.
    stopwatch
        Measures networks beside the unpruned one.
    rounds
        Most turns.
    loss
        ``loss(outputs, labels)`` that scores a choice. Default: cross-entropy with the unpruned network's softmax.
    effort
        How carefully layers are timed.
    tables
        Directory of measured tables.
    seed
        Of the searches.
    notes
        What else should be known.
    tell
        Called with a line per turn.
    progress
        As for `upscale_opt.speedup`.
    """

    model: nn.Module
    inputs: tuple[Any, ...]
    used: CalibrationData
    held_out: CalibrationData
    journal: Journal
    stopwatch: Stopwatch
    rounds: int
    loss: Loss | None
    effort: Effort | None
    tables: str | Path | None
    seed: int
    notes: tuple[str, ...]
    tell: Callable[[str], None]
    progress: ShowProgress

    def make(self, target: float, directory: str | Path | None, forms: Sequence[str]) -> Speedup:
        """The network of least loss among the turns that reach the target; the fastest if none does.

        Ctrl-C ends the turns, and the best network so far is written. With none so far, it ends everything.

        Raises
        ------
        UnreachableSpeedupError
            If no choice reaches the target, by the tables. Then nothing was written.
        MaskError
            If layers or data do not fit.
        VerificationError
            If an export is wrong.
        """
        folder = None if directory is None else Path(directory) / DIRECTORY
        data = self.used if self.loss is not None else _taught(self.model, self.used)
        turns: list[_Turn] = []
        interrupted = False
        try:
            self._take_turns(target, data, folder, turns)
        except KeyboardInterrupt:
            if not turns:
                raise
            interrupted = True
            self.tell("interrupted: the best network so far is written; Ctrl-C again to stop at once")
        best = _best(turns, target)
        found = best.found or self._allocated(best.asked, data, folder)
        return self._finished(found, turns, best, target, directory, forms, interrupted=interrupted)

    def _take_turns(self, target: float, data: CalibrationData, folder: Path | None, turns: list[_Turn]) -> None:
        asked = target
        for number in range(self.rounds):
            known = self.journal.recall(f"turn {number}")
            found = None
            if known is None:
                try:
                    found = self._allocated(asked, data, folder)
                except UnreachableSpeedupError:
                    if not turns:
                        self.journal.discard()
                        raise
                    break
                assert found.exported is not None  # it was measured
                measured = self.stopwatch.measure(found.exported, is_final=False, wanted=target)
                figures = [measured.speedup, measured.dense_seconds]
                self.journal.note(f"turn {number}", [asked, *figures, found.base / found.predicted, found.score])
            else:
                measured = Measured(*known[1:3])
            turns.append(_Turn(asked, measured, found))
            self.tell(f"round {number + 1}: asked for {asked:.3f}x, measured {measured.speedup:.3f}x")
            if measured.speedup >= target:  # SPDY's own rounds have come as close to it as they could
                break
            asked *= MORE * target / measured.speedup

    def _allocated(self, asked: float, data: CalibrationData, folder: Path | None) -> SpeedupAllocation:
        how = Exporting(backend=self.stopwatch.backend, repeats=self.stopwatch.repeats, effort=self.effort or Effort())
        return allocate(
            self.model,
            self.inputs,
            data,
            asked,
            grid=GRID,
            repair=Repair(LEAST_SQUARES, seed=self.seed),
            search=CoefficientSearch(num_random=NUM_TRIALS, patience=NUM_TRIALS, seed=self.seed),
            loss=self.loss,
            reestimate=True,
            how=how,
            directory=folder,
            tables=self.tables,
            seed=self.seed,
            progress=self.progress,
        )

    def _finished(
        self,
        found: SpeedupAllocation,
        turns: Sequence[_Turn],
        best: _Turn,
        target: float,
        directory: str | Path | None,
        forms: Sequence[str],
        *,
        interrupted: bool,
    ) -> Speedup:
        """Save and measure the network of the best turn once more, and compare it with the unpruned one."""
        exported, model = found.exported, self.model
        assert exported is not None
        path, form = None, self.stopwatch.form
        if directory is not None:
            exported.save(directory, forms)
            path = Path(directory) / FORMS[form].file if form is not None and form in forms else None
        final = self.stopwatch.measure(exported, path)
        before = export(model, self.inputs, exported.plan, verify=False)
        kept = {name: int(mask.sum()) for name, mask in found.masks.items() if not mask.all()}
        rounds = []
        for number, turn in enumerate(turns):
            *_, predicted, loss = self.journal.recall(f"turn {number}")
            rounds.append(Round(turn.asked, predicted, turn.measured.speedup, loss, None, kept if turn is best else {}))
        stopped = (f"interrupted after {len(turns)} of {self.rounds} turns",) if interrupted else ()
        return Speedup(
            target,
            final.speedup >= target,
            exported,
            SPDY,
            tuple(rounds),
            rounds[turns.index(best)],
            final.speedup,
            final.dense_seconds,
            final.seconds,
            str(self.stopwatch),
            None,
            compare_outputs(model, before.module, batches_of(self.held_out)),
            compare_outputs(model, exported.module, batches_of(self.held_out)),
            compare_outputs(model, exported.module, batches_of(self.used)),
            size_of(model, self.inputs),
            size_of(exported.module, self.inputs),
            notes=(*self.notes, *found.notes, *stopped),
            interrupted=interrupted,
        )


def _best(turns: Sequence[_Turn], target: float) -> _Turn:
    """The turn that reaches the target, which is the last; else the fastest."""
    return turns[-1] if turns[-1].measured.speedup >= target else max(turns, key=lambda own: own.measured.speedup)


def _taught(model: nn.Module, data: CalibrationData) -> CalibrationData:
    """The same images with the network's own softmax as labels: their cross-entropy is the KL and a constant."""
    with torch.no_grad():
        labels = [torch.softmax(model(*inputs), dim=1) for inputs, _ in data.batches()]
    return CalibrationData(data.inputs, torch.cat(labels))
