"""Compares several solvers on one masked model: solves, exports, verifies, measures, and shows them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from problems import Objective, objective_named
from problems.showing.progress import ProgressBar, ShowProgress
from problems.showing.reprs import clipped
from upscale_opt.comparing import reports
from upscale_opt.comparing.compared import compared
from upscale_opt.comparing.comparison_pages import Compared
from upscale_opt.comparing.fastest import BASELINE, UPSCALE, Answer, fastest_measured, upscale_plan
from upscale_opt.comparing.masked import Masked
from upscale_opt.exporting.exporter import export
from upscale_opt.latency.backends import ONNXRUNTIME
from upscale_opt.latency.profiling import Profile, profile_interleaved
from upscale_opt.models.preservation import unchanged
from upscale_opt.models.references import ModelReference
from upscale_opt.planning.plans import plan
from upscale_opt.planning.solutions import Solutions, each_solution, total_in_units
from upscale_opt.rewriting.exports import Exported, gradients_of
from upscale_opt.showing.cards import comparison_card
from upscale_opt.tracing.census import census


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Solvers compared on one masked model.

    Attributes
    ----------
    masked
        The traced and masked model.
    solutions
        Segment name to solver name to `solvers.Result`.
    exports
        Variant (``baseline`` or a solver's name) to verified export.
    latencies
        ``unpruned``, ``baseline``, every solver's name and ``floor`` (`upscale_opt.comparing.floors`) to the measured
        latency. Empty if nothing was measured.
    objective
        Name of the objective.
    """

    masked: Masked
    solutions: Solutions
    exports: Mapping[str, Exported]
    latencies: Mapping[str, Profile]
    objective: str

    @property
    def solvers(self) -> tuple[str, ...]:
        """The solvers' names."""
        return tuple(name for name in self.exports if name not in (BASELINE, UPSCALE))

    @property
    def answer(self) -> Answer | None:
        """The fastest variant, beside the export of the last solver. None if no latency was measured."""
        return fastest_measured(self.latencies, self.solvers[-1]) if self.latencies else None

    def total(self, solver: str) -> Fraction:
        """The objective of a solver's orders, summed over all segments."""
        return total_in_units([results[solver] for results in self.solutions.values()])

    def __repr__(self) -> str:
        return f"<{self._words()}>"

    def _words(self) -> str:
        found = ", ".join(f"{name} {float(self.total(name)):g}" for name in self.solvers)
        times = ", ".join(f"{name} {1e3 * own.median:.3g}" for name, own in self.latencies.items())
        measured = f"; milliseconds: {times}" if times else ""
        return clipped(f"Comparison of {len(self.solutions)} segments: {self.objective} {found}{measured}")

    def _repr_html_(self) -> str:
        return comparison_card(self)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of docs/formats.md, with latencies: all figures of all segments and solvers."""
        verified = {name: e.verification.relative_error for name, e in self.exports.items() if e.verification}
        return reports.document(
            self.masked.problems,
            self.solutions,
            self.solvers,
            model=type(self.masked.model).__name__,
            amount=None,
            objective=self.objective,
            costs=self.masked.costs,
            trace_seconds=self.masked.trace_seconds,
            verified=verified,
            gradients=gradients_of(self.exports),
            messages=list(self.masked.messages),
            pinned=[vars(pin) for pin in self.masked.graph.unsupported],
            skipped=[vars(own) for own in self.masked.graph.skipped],
            channels=census(self.masked.graph).to_dict(),
            masks=[own.to_dict() for own in self.masked.report],
            latency={name: profile.to_dict() for name, profile in self.latencies.items()},
        )

    @property
    def page(self) -> Compared:
        """What the page of `save_report` shows: its tables and its bars."""
        title = type(self.masked.model).__name__
        own = (self.masked, self.solutions, self.solvers, self.objective, self.exports, self.latencies)
        return compared(*own, title=title, answer=str(self.answer) if self.answer is not None else "")

    def save_report(self, path: str | Path, *, title: str = "", command: str = "") -> None:
        """Write one page of HTML: what was gained, every order and reader, the machine; see `upscale_opt.save_report`.

        Parameters
        ----------
        path
            The file to write. It needs no other files, and no network.
        title
            The network's name. Default: that of its class.
        command
            The command that repeats it, to be shown on the page.

        Raises
        ------
        UpscaleError
            If the file cannot be written.
        """
        shown = self.page
        replace(shown, title=title or shown.title, command=command).page().save(path)

    def __str__(self) -> str:
        title = f"objective {self.objective}"
        text = reports.table(self.masked.problems, self.solutions, self.solvers, title=title, costs=self.masked.costs)
        if not self.latencies:
            return text
        return f"{text}\n{reports.latency_table(self.latencies)}\n{self.answer}"


def export_all(
    masked: Masked,
    solutions: Solutions,
    solvers: Sequence[str],
    *,
    reference: ModelReference | None = None,
    baseline: bool = False,
    verify: bool = True,
    progress: ShowProgress = None,
) -> dict[str, Exported]:
    """Export every solver's plan, and the baseline if wanted. All are verified against the same masked model.

    With measured cost tables, UPSCALE's own export goes with the baseline (`upscale_opt.comparing.fastest`).

    Raises
    ------
    VerificationError
        If an export differs from the masked model.
    """
    verifier = None
    if verify:
        verifier = masked.verifier()
    exports = {}
    simple = [BASELINE, *([UPSCALE] if masked.tables else [])] if baseline else []
    variants = simple + list(solvers)
    for name in ProgressBar("export and verify", variants, unit="export", progress=progress):
        chosen = None
        if name == UPSCALE:
            chosen = upscale_plan(masked.problems, masked.masks, output_masks=masked.output_masks, model=reference)
        elif name != BASELINE:
            results = {segment: solutions[segment][name] for segment in masked.problems}
            chosen = plan(masked.problems, masked.masks, results, model=reference, output_masks=masked.output_masks)
            chosen = masked.read_cheaply(chosen)
        exports[name] = export(
            masked.model,
            masked.example_inputs,
            chosen,
            masks=masked.masks if chosen is None else None,
            output_masks=masked.output_masks if chosen is None else None,
            baseline=chosen is None,
            verify=verifier if verifier is not None else False,
            graph=masked.graph,
        )
    return exports


def compare_solvers(
    masked: Masked,
    solvers: Sequence[str],
    objective: str | Objective,
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    verify: bool = True,
    measure: bool = True,
    repeats: int | None = None,
    progress: ShowProgress = None,
) -> Comparison:
    """Compare solvers, for `upscale_opt.MaskedModel.compare`. The problems must have what the objective needs."""
    solutions: Solutions = {}
    for segment, name, result in each_solution(
        masked.problems, solvers, objective=objective, time_limit=time_limit, seed=seed, progress=progress
    ):
        solutions.setdefault(segment, {})[name] = result
    exports = export_all(masked, solutions, solvers, baseline=True, verify=verify, progress=progress)
    latencies: Mapping[str, Profile] = {}
    if measure:
        latencies = measure_all(masked, exports, repeats=repeats, progress=progress)
    return Comparison(masked, solutions, exports, latencies, objective_named(objective).name)


def measure_all(
    masked: Masked,
    exports: Mapping[str, Exported],
    *,
    repeats: int | None = None,
    backend: str | None = None,
    progress: ShowProgress = None,
) -> dict[str, Profile]:
    """Interleaved latencies of the unpruned model, of every export, and of the floor (which no order can beat).

    In ONNX Runtime there is no floor: no operator there reads a part of a tensor in place.
    """
    models = {"unpruned": masked.model, **{name: exported.module for name, exported in exports.items()}}
    if backend != ONNXRUNTIME:
        models[reports.FLOOR] = masked.floor()
    with unchanged(masked.model):
        return profile_interleaved(models, masked.example_inputs, repeats=repeats, backend=backend, progress=progress)
