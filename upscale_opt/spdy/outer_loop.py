"""The outer loop of SPDY: export and measure a choice, solve again with the times of that export, and so on.

Every choice and every time is noted in a `Journal` as soon as it is known, so that a run goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from problems import AllocationProblem, UnreachableSpeedupError
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
    """The rounds of a run, and which of them is taken.

    Attributes
    ----------
    choice
        The one to take.
    rounds
        What was measured, in order; empty if nothing was.
    exported
        The export of the choice; None if nothing was measured.
    notes
        What had to be said on the way.
    """

    choice: Choice
    rounds: tuple[Round, ...] = ()
    exported: Exported | None = None
    notes: tuple[str, ...] = ()


class OuterLoop:
    """The loop over one model and target.

    Parameters
    ----------
    choices
        Solves problems.
    problem
        The one of the table.
    layers
        Those of the problem, in its order.
    model, example_inputs
        Dense, in eval mode; and what it is measured on.
    speedup
        The target.
    how
        How choices are exported and measured.
    journal
        Where everything is noted.
    progress
        Show progress bars on standard error.
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
        progress: bool = False,
    ) -> None:
        self._choices, self._problem, self._layers = choices, problem, tuple(layers)
        self._model, self._example_inputs, self._speedup = model, example_inputs, speedup
        self._how, self._journal, self._progress = how, journal, progress

    def run(self, number: int) -> Rounds:
        """So many rounds, or fewer if the times of an export leave no choice; 0: the choice of the table alone.

        Of the rounds whose export was measured to be fast enough, that of least loss is taken; if none was, the
        fastest.
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
        """The choice of a round, found now or before."""
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
        """What the export of a choice takes, measured now or before."""
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
        """The export of a round, made once."""
        if index not in exports:
            stitched, masks = self._choices.stitched(allocation)
            exports[index] = solved_export(stitched, self._example_inputs, masks, self._how, progress=self._progress)
        return exports[index]


def _taken(rounds: Sequence[Round], speedup: float) -> tuple[int, tuple[str, ...]]:
    """The index of the round to take: of those measured to be fast enough that of least loss, or the fastest."""
    fast = [i for i, own in enumerate(rounds) if own.measured_speedup >= speedup]
    if fast:
        return min(fast, key=lambda i: rounds[i].score), ()
    note = f"no export was measured to reach {speedup:g}x; the fastest is taken, and more rounds may help"
    return max(range(len(rounds)), key=lambda i: rounds[i].measured_speedup), (note,)
