"""What solve and compare show: what was asked, what was gained, what was checked, and what to do next.

A reader who knows nothing of the field can read it from top to bottom; every word is explained where it first stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from upscale_opt.commands.next_steps import Step, again, next_text
from upscale_opt.commands.sessions import Run, padding_summary, say
from upscale_opt.comparing import reports
from upscale_opt.comparing.gains import latency_text, orders_text
from upscale_opt.planning.solutions import best_solver

if TYPE_CHECKING:
    from upscale_opt.latency.profiling import Profile
    from upscale_opt.rewriting.exports import Exported

_WHY = (
    "Where several layers read one tensor, each may keep other channels of it. A layer reads fast what lies side by "
    "side in memory; else it reads unwanted channels, too, or copies the wanted ones first. So the order in which "
    "channels are stored decides how much is read and copied."
)
_VERIFIED = "verified against the masked model in float64 (the network, with zeros for what is not kept)"
_RANDOM = (
    "Its weights are random, and so is the choice of channels: the times are as with trained weights, accuracy is not, "
    "and the gain of the order differs."
)


def show(
    run: Run, exports: Mapping[str, Exported], latencies: Mapping[str, Profile], *, how: str, segments: bool
) -> None:
    """Print everything but the next steps.

    Parameters
    ----------
    run
        A run whose segments are solved.
    exports
        Solver to export.
    latencies
        Variant to measured latency. Empty: no bars.
    how
        How latencies were measured.
    segments
        Whether to print a table of the segments and more on the channels.
    """
    prepared, search = run.prepared, run.search
    say(f"{_asked(run)}\n", hanging=0)
    say(f"{_WHY}\n", hanging=0)
    costs = reports.cost_name(prepared.costs)
    objective = search.settled
    say(orders_text(prepared.problems, run.solutions, search.solvers, objective=objective, costs=costs) + "\n")
    if latencies:
        say(latency_text(latencies, best_solver(run.solutions, search.solvers), how=how) + "\n")
    if segments:
        title = f"Groups of channels that are ordered on their own (segments), objective {objective}"
        table = reports.table(prepared.problems, run.solutions, search.solvers, title=title, costs=prepared.costs)
        say(f"{table}\n")
        say(run.census_summary())
    for line in _facts(run, exports):
        say(line)


def _asked(run: Run) -> str:
    """The network and what is dropped, and whether its weights mean anything."""
    from upscale_opt.models.loading import has_random_weights

    kept, inputs = (sum(getattr(own, field) for own in run.prepared.report) for field in ("kept", "inputs"))
    text = (
        f"{run.setting.model}, {run.setting.masks}: its layers keep {kept:,} of the {inputs:,} channels that they read."
    )
    if has_random_weights(run.reference):
        text += f" {_RANDOM}"
    return text


def _facts(run: Run, exports: Mapping[str, Exported]) -> list[str]:
    """What was verified, and what could not be reordered."""
    lines = []
    errors = run.errors(exports)
    if errors:
        figures = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
        lines.append(f"{_VERIFIED}, relative error: {figures}")
        found = {own.verification for own in exports.values() if own.verification is not None}
        known = [own.gradients for own in found if own.gradients is not None]
        notes = dict.fromkeys(own.learning for own in found if own.gradients is None)
        parts = [lines.pop(), *([f"gradients {max(known):.1e}"] if known else []), *notes]
        lines.append("; ".join(parts))
    else:
        lines.append("not verified (--no-verify)")
    lines += [run.masks_summary(), padding_summary(run.prepared)]
    graph = run.prepared.graph
    lines += [
        f"pinned (cannot move): {pin.num_channels} channels at {pin.node} ({pin.reason})"
        for pin in graph.unsupported
        if pin.num_channels  # else it is a skipped layer
    ]
    lines += [f"fixed: the value of {name} is part of the traced code, which depends on it" for name in graph.used]
    unused = dict.fromkeys(part for exported in exports.values() for part in exported.unused)
    if unused:
        lines.append(f"not exported, nor is its loss: {', '.join(unused)} (not used in eval mode)")
    return [*lines, *dict.fromkeys(note for exported in exports.values() for note in exported.training_notes)]


def next_steps(run: Run, command: str, *, saved: bool = False, segments: bool = False) -> str:
    """What to do after `solve` or `compare`.

    Parameters
    ----------
    run
        The run.
    command
        Name of the command.
    saved
        Whether an export was written.
    segments
        Whether the table of segments was printed.
    """
    from upscale_opt.models.loading import has_random_weights

    steps = []
    if not run.is_calibrated:
        purpose = (
            "order for the time of this machine, which traffic only guesses: measure once what reading costs here "
            "(within a minute; without --quick longer and more exactly), and go on from there"
        )
        steps.append(Step(purpose, [again("calibrate", "--quick"), again(command, without=("objective",))]))
    if has_random_weights(run.reference):
        steps.append(Step("use trained weights, which are downloaded", [again(command, "--weights", "DEFAULT")]))
    if command == "solve":
        steps.append(Step("measure with care", [again("compare")]))
    if not saved:
        steps.append(Step("write the smaller network", [again("export", "--export", "DIR")]))
    if not segments:
        steps.append(Step("see every group of channels that is ordered by itself", [again(command, "--segments")]))
    return next_text(steps)
