"""The outer loop of SPDY: exports and measures a choice, solves again with the times of that export, and repeats.

All choices and times are noted in a `Journal` at once, so a stopped run can resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from problems import AllocationProblem, UnreachableSpeedupError
from problems.showing.progress import ShowProgress
from solvers import Allocation
from solvers.allocation.gate import allocation_of
from solvers.common.result import Status
from upscale_opt.rewriting.exports import Exported
from upscale_opt.spdy.choices import Choice, ChoiceSearch
from upscale_opt.spdy.journal import Journal
from upscale_opt.spdy.outer_rounds import (
    Exporting,
    Round,
    SolvedExport,
    measured_beside,
    realised_times,
    retimed,
    solved_export,
)
from upscale_opt.spdy.prunable_layers import PrunableLayer


@dataclass(frozen=True, eq=False)
class Rounds:
    """The rounds of a run, and the choice of the best round.

    Attributes
    ----------
    choice
        The choice to take.
    rounds
        The measured rounds, in order. Empty if nothing was measured.
    exported
        The export of the choice. None if nothing was measured.
    notes
        Messages of the run.
    """

    choice: Choice
    rounds: tuple[Round, ...] = ()
    exported: Exported | None = None
    notes: tuple[str, ...] = ()


class OuterLoop:
    """The outer loop for one model and one target.

    Parameters
    ----------
    choices
        The search that solves problems.
    problem
        The problem with the times of the table.
    layers
        The layers of the problem, in the problem's order.
    model, example_inputs
        The dense model in eval mode, and the inputs for measurements.
    speedup
        The target speedup.
    how
        How choices are exported and measured.
    journal
        The journal of the run.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).
    """

    def __init__(
        self,
        choices: ChoiceSearch,
        problem: AllocationProblem,
        layers: Sequence[PrunableLayer],
        model: nn.Module,
        example_inputs: torch.Tensor | Sequence[Any],
        speedup: float,
        how: Exporting,
        journal: Journal,
        *,
        progress: ShowProgress = None,
    ) -> None:
        self._choices, self._problem, self._layers = choices, problem, tuple(layers)
        self._model, self._example_inputs, self._speedup = model, example_inputs, speedup
        self._how, self._journal, self._progress = how, journal, progress

    def run(self, number: int) -> Rounds:
        """Run the given number of rounds. Stop early if no choice meets the target with the times of an export.

        With 0 rounds, the result is the choice by the table alone. Of the rounds whose measured export is fast enough,
        the one with the least loss is taken. If none is fast enough, the fastest is taken.
        """
        choice = self._choice(0, self._problem)
        if not number:
            return Rounds(choice)
        history: list[tuple[Round, Choice]] = []
        notes: tuple[str, ...] = ()
        exports: dict[int, SolvedExport] = {}
        while True:
            index = len(history)
            history.append((self._round(index, choice, exports), choice))
            if len(history) == number:
                break
            try:
                problem = self._again(index, history[-1][0], exports)
            except UnreachableSpeedupError as error:
                notes = (f"no further round: by the times of the export, {error}",)
                break
            choice = self._choice(index + 1, problem)
        taken, more = _taken([own for own, _ in history], self._speedup)
        exported = self._export(taken, history[taken][1].allocation, exports).exported
        return Rounds(history[taken][1], tuple(own for own, _ in history), exported, (*notes, *more))

    def _choice(self, index: int, problem: AllocationProblem) -> Choice:
        """The choice of a round, solved now or recalled from the journal."""
        known = self._journal.recall(f"choice {index}")
        if known is not None:
            method = self._choices.settings.method
            allocation = allocation_of(problem, known["levels"], method=method, status=Status(known["status"]))
            coefficients = tuple(known["coefficients"])
            return Choice(allocation, known["score"], known["uniform_score"], coefficients, known["num_scored"])
        found = self._choices.solve(problem)
        self._journal.note(
            f"choice {index}",
            {
                "levels": [int(own) for own in found.allocation.levels],
                "status": found.allocation.status.value,
                "score": found.score,
                "uniform_score": found.uniform_score,
                "coefficients": [float(own) for own in found.coefficients],
                "num_scored": found.num_scored,
            },
        )
        return found

    def _round(self, index: int, choice: Choice, exports: dict[int, SolvedExport]) -> Round:
        """The measured times of a round's export, measured now or recalled from the journal."""
        known = self._journal.recall(f"round {index}")
        if known is None:
            exported = self._export(index, choice.allocation, exports).exported
            dense, measured = measured_beside(
                self._model, exported.module, self._example_inputs, self._how, progress=self._progress
            )
            verification = exported.verification
            error = None if verification is None else verification.relative_error
            known = {"dense": dense, "measured": measured, "error": error}
            self._journal.note(f"round {index}", known)
        problem = choice.allocation.problem
        return Round(
            allocation=choice.allocation,
            score=choice.score,
            uniform_score=choice.uniform_score,
            predicted=problem.fixed + choice.allocation.time,
            base=problem.base,
            **known,
        )

    def _again(self, index: int, last: Round, exports: dict[int, SolvedExport]) -> AllocationProblem:
        """The problem with the times of an export."""
        seconds = self._journal.recall(f"times {index}")
        if seconds is None:
            solved = self._export(index, last.allocation, exports)
            seconds = realised_times(self._layers, solved, self._example_inputs, self._how)
            self._journal.note(f"times {index}", seconds)
        return retimed(self._problem, self._layers, last, seconds, self._speedup)

    def _export(self, index: int, allocation: Allocation, exports: dict[int, SolvedExport]) -> SolvedExport:
        """The export of a round. It is made only once."""
        if index not in exports:
            stitched, masks = self._choices.stitched(allocation)
            exports[index] = solved_export(stitched, self._example_inputs, masks, self._how, progress=self._progress)
        return exports[index]


def _taken(rounds: Sequence[Round], speedup: float) -> tuple[int, tuple[str, ...]]:
    """The index of the best round: the least loss among those that are fast enough, or else the fastest."""
    fast = [i for i, own in enumerate(rounds) if own.measured_speedup >= speedup]
    if fast:
        return min(fast, key=lambda i: rounds[i].score), ()
    note = f"no export was measured to reach {speedup:g}x; the fastest is taken, and more rounds may help"
    return max(range(len(rounds)), key=lambda i: rounds[i].measured_speedup), (note,)
