"""The closed loop: choose widths (and windows) for a budget, export, measure, move the budget, choose again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from problems import UnreachableSpeedupError
from upscale_opt.errors import UpscaleError
from upscale_opt.exporting.exporter import carry_out
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.windows import WindowChoice
from upscale_opt.planning.extraction import extract
from upscale_opt.planning.plans import Plan, baseline_plan
from upscale_opt.planning.window_plans import window_plan
from upscale_opt.rewriting.exports import Exported
from upscale_opt.spdy.journal import Journal
from upscale_opt.widths.candidates import Widths, masked_graph_of, windows_in
from upscale_opt.widths.choosers import Chooser, WidthChooser
from upscale_opt.widths.corrections import Correction, fitted, random_widths
from upscale_opt.widths.measuring import Stopwatch
from upscale_opt.widths.programme import Programme
from upscale_opt.widths.results import Round

CLOSE = 1.03
"""Measured speedup over the target, up to which a choice is close enough: the machine's own noise is about as large."""
MORE = 1.005
"""Factor on what is asked for after a turn that was too slow."""
LEAST_ASKED = 1.01
"""Least speedup that the tables are asked for: the unpruned network is no answer."""
METHODS = {"joint": "auto", "uniform": "uniform", "halp": "halp", "mdp": "mdp"}
"""Ways to choose widths, with the solver of each."""


@dataclass(frozen=True)
class Choice:
    """A round of the loop with the widths, or windows, of all free blocks, by block number."""

    round: Round
    widths: Widths


@dataclass(frozen=True)
class Loop:
    """Settings of the loop.

    Attributes
    ----------
    target
        Speedup of the whole network.
    method
        One of `METHODS`, if there is no chooser.
    rounds
        Most turns, at least 1.
    time_limit
        Seconds of the solver per turn.
    chooser
        Chooses instead of the method.
    label
        Stands in front of the turns' names in the journal.
    off
        Measured speedups over what was asked for, as other turns of the same network found: how far the tables are off.
    """

    target: float
    method: str = "joint"
    rounds: int = 4
    time_limit: float = 60.0
    chooser: Chooser | None = None
    label: str = ""
    off: float = 1.0

    def run(
        self,
        programme: Programme,
        correction: Correction,
        measure: Callable[[Widths], float],
        journal: Journal,
        tell: Callable[[str], None],
        made: list[Choice] | None = None,
    ) -> list[Choice]:
        """Take turns until one is close enough, or none is left.

        Turns that the journal knows are not taken again, and no choice is measured twice.

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
            Turns that were taken before, in order. New ones are appended, so that an interrupt leaves them here.

        Returns
        -------
        list of Choice
            All turns; `made`, if it was given.

        Raises
        ------
        UnreachableSpeedupError
            If the tables allow no such speedup, and the fastest network was measured and is too slow.
        """
        made = [] if made is None else made
        for number in range(len(made), self.rounds):
            known = journal.recall(f"{self.label}round {number}")
            if known is None:
                choice = self._turn(programme, correction, self._next(made), measure, made)
                if choice is None:
                    break
                journal.note(f"{self.label}round {number}", _plain(choice))
            else:
                choice = _choice(known)
            if not made and choice.round.asked < self._next(made) and choice.round.measured < self.target:
                raise UnreachableSpeedupError(self.target, choice.round.measured)
            made.append(choice)
            tell(f"round {number + 1}: {choice.round}")
            if self.target <= choice.round.measured <= CLOSE * self.target:
                break
        return made

    def _next(self, made: Sequence[Choice]) -> float:
        """The speedup to ask the tables for: the last one, by as much more or less as the measurement was off.

        Between one that was too slow and one that was too fast, it stays between them.
        """
        least = min(LEAST_ASKED, self.target)
        if not made:
            return max(self.target / self.off, least)
        last = made[-1].round
        slow = max((own.round.asked for own in made if own.round.measured < self.target), default=0.0)
        fast = min((own.round.asked for own in made if own.round.measured >= self.target), default=np.inf)
        asked = last.asked * self.target / last.measured * (MORE if last.measured < self.target else 1.0)
        if 0 < slow < fast < np.inf and not slow < asked < fast:
            return float(np.sqrt(slow * fast))
        return max(asked, least)

    def _turn(
        self,
        programme: Programme,
        correction: Correction,
        asked: float,
        measure: Callable[[Widths], float],
        made: Sequence[Choice],
    ) -> Choice | None:
        """One turn: a choice that was not measured before; None if there is none that could be closer."""
        chooser = self.chooser or WidthChooser(METHODS[self.method])
        while True:
            try:
                found = chooser.choose(programme, correction, asked, self.time_limit)
            except UnreachableSpeedupError as error:
                most = max((own.round.asked for own in made), default=0.0)
                if not most < error.max_speedup < asked:
                    return None
                asked = error.max_speedup  # the fastest that there is; corrected tables may be too hopeless
                continue
            same = next((own.round for own in made if _plain_widths(own.widths) == _plain_widths(found.widths)), None)
            if same is None:
                break
            if same.measured >= self.target:
                return None  # what is slower was too slow, or loses as much
            asked = found.predicted * (1 + 1e-6)  # a budget that this choice does not keep
        measured = float(measure(found.widths))
        narrower, windows = _shown(programme, found.widths)
        # What the last measurement said of the tables' scale corrects what they say of this choice.
        predicted = found.predicted * (made[-1].round.measured / made[-1].round.asked if made else self.off)
        return Choice(Round(asked, predicted, measured, found.loss, found.bound, narrower, windows), found.widths)


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


def plan_of(masked: MaskedGraph, windows: Mapping[str, WindowChoice] | None = None) -> Plan:
    """The plan of a network whose readers agree, but for windows: all that is stored is read, in the original order."""
    problems = extract(masked.graph, masked.masks, output_masks=masked.output_masks)
    if windows:
        return window_plan(masked, problems, windows)
    return baseline_plan(problems, masked.masks, output_masks=masked.output_masks)


def exported_widths(programme: Programme, model: Any, inputs: Any, widths: Widths) -> Exported:
    """An export of chosen widths with the network's own weights, for timing: it is not verified."""
    masked = masked_graph_of(programme.graph, programme.scores, widths)
    plan = plan_of(masked, windows_in(programme.graph, widths))
    return carry_out(model, inputs, plan, graph=programme.graph)


def measured_correction(
    programme: Programme,
    model: Any,
    inputs: Any,
    stopwatch: Stopwatch,
    *,
    networks: int,
    seed: int,
) -> Correction:
    """Fit the correction to the unpruned network and to random widths, measured as the final network will be."""
    graph = programme.graph
    whole = {b: graph.blocks[b].size for b in programme.candidates}
    chosen = random_widths(graph, programme.candidates, networks, seed)
    measured = stopwatch.measure_all([exported_widths(programme, model, inputs, own) for own in chosen])
    dense = float(np.median([own.dense_seconds for own in measured]))
    times = [dense, *(dense / own.speedup for own in measured)]
    return fitted([programme.predicted(own) for own in (whole, *chosen)], [1e9 * own for own in times])


def off_by(choices: Sequence[Round]) -> float:
    """How far measured speedups are off what was asked for: the median ratio of some turns."""
    return float(np.median([own.measured / own.asked for own in choices]))


def remeasured(choices: Sequence[Choice], best: Choice, measured: float) -> list[Choice]:
    """The turns with another measurement of one of them, which is now the last."""
    again = replace(best, round=replace(best.round, measured=measured))
    return [*(own for own in choices if own is not best), again]


def _shown(programme: Programme, widths: Widths) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Block name to width, of the narrower blocks, and block name to the widths of its windows."""
    narrower, windows = {}, {}
    for b, own in widths.items():
        block = programme.graph.blocks[b]
        width = len(own.order) if isinstance(own, WindowChoice) else own
        if width < block.size:
            narrower[block.name] = width
        if isinstance(own, WindowChoice) and own.windows:
            windows[block.name] = {name: stop - start for name, (start, stop) in own.windows.items()}
    return narrower, windows


def _plain(choice: Choice) -> dict[str, Any]:
    own = choice.round
    fields = {name: getattr(own, name) for name in ("asked", "predicted", "measured", "loss", "bound")}
    shown = {"narrower": dict(own.widths), "windows": {name: dict(w) for name, w in own.windows.items()}}
    return {**fields, **shown, "widths": _plain_widths(choice.widths)}


def _plain_widths(widths: Widths) -> list[list[Any]]:
    """Block number and width; or block number, order and windows."""
    return [
        [b, own.order.tolist(), {name: list(ends) for name, ends in own.windows.items()}]
        if isinstance(own, WindowChoice)
        else [b, own]
        for b, own in sorted(widths.items())
    ]


def _choice(raw: Mapping[str, Any]) -> Choice:
    fields = [raw[name] for name in ("asked", "predicted", "measured", "loss", "bound", "narrower", "windows")]
    widths: dict[int, int | WindowChoice] = {}
    for b, own, *windows in raw["widths"]:
        if windows:
            ranges = {name: (start, stop) for name, (start, stop) in windows[0].items()}
            widths[int(b)] = WindowChoice(own, ranges)
        else:
            widths[int(b)] = int(own)
    return Choice(Round(*fields), widths)


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
