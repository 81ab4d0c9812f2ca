"""The closed loop: choose widths for a budget, export, measure, move the budget, choose again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from problems.allocation.problem import UnreachableSpeedupError
from solvers import choose_widths
from upscale_opt.errors import UpscaleError
from upscale_opt.exporting.exporter import carry_out
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.planning.extraction import extract
from upscale_opt.planning.plans import Plan, baseline_plan
from upscale_opt.rewriting.exports import Exported
from upscale_opt.spdy.journal import Journal
from upscale_opt.widths.candidates import masked_graph_of
from upscale_opt.widths.corrections import Correction, fitted, random_widths
from upscale_opt.widths.measuring import Stopwatch
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.results import Round

CLOSE = 1.03
"""Measured speedup over the target, up to which a choice is close enough: the machine's own noise is about as large."""
MORE = 1.005
"""Factor on what is asked for after a turn that was too slow."""
METHODS = {"joint": "auto", "uniform": "uniform", "halp": "halp", "mdp": "mdp"}
"""Ways to choose widths, with the solver of each."""


@dataclass(frozen=True)
class Choice:
    """A round of the loop with the widths of all free blocks, by block number."""

    round: Round
    widths: Mapping[int, int]


@dataclass(frozen=True)
class Loop:
    """Settings of the loop.

    Attributes
    ----------
    target
        Speedup of the whole network.
    method
        One of `METHODS`.
    rounds
        Most turns, at least 1.
    time_limit
        Seconds of the solver per turn.
    """

    target: float
    method: str = "joint"
    rounds: int = 4
    time_limit: float = 60.0

    def run(
        self,
        programme: Programme,
        correction: Correction,
        measure: Callable[[Mapping[int, int]], float],
        journal: Journal,
        tell: Callable[[str], None],
        made: Sequence[Choice] = (),
    ) -> list[Choice]:
        """All turns, in order. Turns that the journal knows are not taken again.

        Parameters
        ----------
        programme
            The network's blocks, losses and tables.
        correction
            How sums of tables become times.
        measure
            Measures the speedup of a choice.
        journal
            Where turns are noted.
        tell
            Called with a line per turn.
        made
            Turns that were taken before.

        Raises
        ------
        UnreachableSpeedupError
            If the tables allow no such speedup. The message has the largest one.
        """
        made = list(made)
        asked = self._next(made[-1]) if made else self.target
        for number in range(len(made), self.rounds):
            known = journal.recall(f"round {number}")
            if known is None:
                choice = self._turn(programme, correction, asked, measure, first=not made)
                if choice is None or any(choice.widths == own.widths for own in made):
                    break
                journal.note(f"round {number}", _plain(choice))
            else:
                choice = _choice(known)
            made.append(choice)
            tell(f"round {number + 1}: {choice.round}")
            if self.target <= choice.round.measured <= CLOSE * self.target:
                break
            asked = self._next(choice)
        return made

    def _next(self, choice: Choice) -> float:
        """The speedup to ask for after a choice: what was asked for, times how far the measurement is off."""
        own = choice.round
        return own.asked * self.target / own.measured * (MORE if own.measured < self.target else 1.0)

    def _turn(
        self,
        programme: Programme,
        correction: Correction,
        asked: float,
        measure: Callable[[Mapping[int, int]], float],
        *,
        first: bool,
    ) -> Choice | None:
        """One turn; None if a later one asks for more than the tables allow."""
        problem = programme.problem(1.0, scale=correction.scale, constant=correction.constant)
        try:
            found = choose_widths(problem.for_speedup(asked), METHODS[self.method], time_limit=self.time_limit)
        except UnreachableSpeedupError:
            if first:
                raise
            return None
        graph, unit = programme.graph, programme.loss_unit
        widths = {b: found.widths[graph.blocks[b].name] for b in programme.candidates}
        narrower = {graph.blocks[b].name: w for b, w in widths.items() if w < graph.blocks[b].size}
        predicted = problem.base / found.time
        return Choice(Round(asked, predicted, measure(widths), found.loss * unit, found.bound * unit, narrower), widths)


def best_of(choices: list[Choice], target: float) -> Choice:
    """The choice of least loss among those that reach the target; the fastest if none does.

    Raises
    ------
    UpscaleError
        If there is no choice.
    """
    if not choices:
        raise UpscaleError("no choice of widths was measured; give more rounds")
    reached = [own for own in choices if own.round.measured >= target]
    if reached:
        return min(reached, key=lambda own: own.round.loss)
    return max(choices, key=lambda own: own.round.measured)


def plan_of(masked: MaskedGraph) -> Plan:
    """The plan of a network whose readers agree: everything that is stored is read, in the original order."""
    problems = extract(masked.graph, masked.masks, output_masks=masked.output_masks)
    return baseline_plan(problems, masked.masks, output_masks=masked.output_masks)


def exported_widths(programme: Programme, model: Any, inputs: Any, widths: Mapping[int, int]) -> Exported:
    """An export of chosen widths with the network's own weights, for timing: it is not verified."""
    masked = masked_graph_of(programme.graph, programme.scores, widths)
    return carry_out(model, inputs, plan_of(masked), graph=programme.graph)


def measured_correction(
    programme: Programme,
    model: Any,
    inputs: Any,
    stopwatch: Stopwatch,
    *,
    networks: int,
    seed: int,
) -> Correction:
    """Fit the correction to exports of random widths and the unpruned network, measured in turn."""
    graph = programme.graph
    whole = {b: graph.blocks[b].size for b in programme.candidates}
    chosen = [whole, *random_widths(graph, programme.candidates, networks, seed)]
    modules = {"0": model}
    modules |= {
        str(i): exported_widths(programme, model, inputs, own).module for i, own in enumerate(chosen[1:], start=1)
    }
    times = stopwatch.times_of(modules)
    predicted = [programme.predicted(own) for own in chosen]
    return fitted(predicted, [1e9 * times[str(i)] for i in range(len(chosen))])


def remeasured(choices: Sequence[Choice], best: Choice, measured: float) -> list[Choice]:
    """The turns with another measurement of one of them, which is now the last."""
    again = replace(best, round=replace(best.round, measured=measured))
    return [*(own for own in choices if own is not best), again]


def _plain(choice: Choice) -> dict[str, Any]:
    own = choice.round
    fields = {name: getattr(own, name) for name in ("asked", "predicted", "measured", "loss", "bound")}
    return {**fields, "narrower": dict(own.widths), "widths": [[b, w] for b, w in choice.widths.items()]}


def _choice(raw: Mapping[str, Any]) -> Choice:
    fields = [raw[name] for name in ("asked", "predicted", "measured", "loss", "bound", "narrower")]
    return Choice(Round(*fields), {int(b): int(w) for b, w in raw["widths"]})


def correction_to(journal: Journal, make: Callable[[], Correction]) -> Correction:
    """The correction that a journal knows, or a new one that is noted."""
    known = journal.recall("correction")
    if known is not None:
        return replace(Correction(**known), predicted=tuple(known["predicted"]), measured=tuple(known["measured"]))
    found = make()
    journal.note("correction", {name: getattr(found, name) for name in found.__dataclass_fields__})
    return found


def scores_to(journal: Journal, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The scores that a journal knows, or new ones that are noted."""
    known = journal.recall("scores")
    if known is None:
        found = {name: np.asarray(own, dtype=np.float64) for name, own in make().items()}
        journal.note("scores", {name: own.tolist() for name, own in found.items()})
        return found
    return {name: np.asarray(own) for name, own in known.items()}
