"""The page of a comparison (`solve`, `compare`, `Comparison.save_report`), and of results of `MaskedModel.solve`.

This module does not import torch, so that instances have pages without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from problems import Objective, Order, Problem, evaluate, objective_named
from problems.objectives import OVER_READ
from upscale_opt.comparing.reports import FLOOR, HEURISTICS, complete, totals_of
from upscale_opt.comparing.tables import (
    ORIGINAL,
    WAYS,
    latency_table,
    measure_table,
    reading_table,
    segment_table,
)
from upscale_opt.comparing.variants import BASELINE, UNPRUNED, WORDS, role
from upscale_opt.pages import orders
from upscale_opt.pages.bars import BEFORE, LIMIT, Bar, Bars, of_seconds
from upscale_opt.pages.facts import facts, repeat, where
from upscale_opt.pages.page import Figure, Page, Section
from upscale_opt.pages.tables import Table
from upscale_opt.planning.solutions import Solutions, best_solver

if TYPE_CHECKING:
    from upscale_opt.latency.profiling import Profile
    from upscale_opt.planning.reading import Reading

GREEDY = "greedy"
_SAME = 5e-4
"""Shares below this are shown as none."""


@dataclass(frozen=True)
class Compared:
    """What a page of a comparison shows.

    Attributes
    ----------
    title
        The network's or the instance's name.
    problems, solutions, solvers
        Segment name to problem; segment name to solver name to result; the solvers, greedy first.
    objective
        What was minimised.
    asked
        Name to value of what was asked for: masks, objective, input shape.
    latencies
        Variant to measured latency. Empty if nothing was measured.
    answer
        What the measurements say (`upscale_opt.comparing.fastest.Answer`), in one line.
    predicted
        Predicted times, if nothing was measured.
    readings
        Solver name to access name to reading, of the exports.
    verified
        Variant to relative error of its verification.
    notes
        What a reader must know, one sentence each.
    remarks
        What else was found, such as pinned channels, one sentence each. They stand at the end.
    costs
        Where cost tables come from, in one line.
    command
        The command that made it.
    """

    title: str
    problems: Mapping[str, Problem]
    solutions: Solutions
    solvers: Sequence[str]
    objective: str | Objective
    asked: Mapping[str, Any] = field(default_factory=dict)
    latencies: Mapping[str, Profile] = field(default_factory=dict)
    answer: str = ""
    predicted: Bars | None = None
    readings: Mapping[str, Mapping[str, Reading]] = field(default_factory=dict)
    verified: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    costs: str = ""
    command: str = ""

    @property
    def name(self) -> str:
        """Name of the objective."""
        return objective_named(self.objective).name

    @property
    def unit(self) -> str:
        """Unit of the objective; empty for counts."""
        return "ns" if objective_named(self.objective).uses_tables else ""

    def segments(self, *, every: bool = False) -> Table:
        """The table of segments (`segment_table`)."""
        return replace(
            segment_table(self.problems, self.solutions, self.solvers, unit=self.unit, every=every),
            title=f"{self.title}: orders for {self.name}",
        )

    def tables(self, form: str) -> dict[str, Table]:
        """The tables for a file in a form: part of the file's name to table. The first has none: ``""``.

        Parameters
        ----------
        form
            ``csv``: all segments and all columns. ``latex``: what a paper has room for.
        """
        segments = self.segments(every=form == "csv")
        if form != "csv":
            segments = segments.without(*WAYS, "classes", "status")
        latency = replace(latency_table(self.latencies), title=f"{self.title}: latency") if self.latencies else None
        return {"": segments, **({"latency": latency} if latency is not None else {})}

    def bars(self) -> tuple[Bars, ...]:
        """What is shown at the top: times, if there are any, and objectives."""
        times = _measured(self.latencies) if self.latencies else self.predicted
        return (*([times] if times is not None else []), _objectives(self))

    def page(self) -> Page:
        """The page."""
        best = best_solver(complete(self.solutions, self.solvers), self.solvers)
        latency = (Section("Measured latency", (latency_table(self.latencies),)),) if self.latencies else ()
        sections = (
            Section("What was asked", (facts({**self.asked, "costs": self.costs}),)),
            *latency,
            Section("Segments", (_ABOUT_SEGMENTS, replace(self.segments().without(if_empty=WAYS), title=""))),
            Section("The same orders by other measures", (measure_table(self.problems, self.solutions, self.solvers),)),
            *self._orders(),
            Section("Readers, and how they read", (
                "A view reads its channels in place. Whatever else a reader does costs something.",
                reading_table(self.problems, self.solutions, self.solvers, self.readings),
            )),
            *((Section("Remarks", self.remarks),) if self.remarks else ()),
            where(),
            *repeat(self.command),
        )  # fmt: skip
        shown = {bar.name for panel in self.bars() for bar in panel.bars}
        words = {word: meaning for word, meaning in WORDS.items() if word in shown}
        notes = (*self.notes, *self._warnings(best))
        return Page(self.title, self._sentence(best), self._figures(best), self.bars(), sections, words, notes)

    def _warnings(self, best: str) -> list[str]:
        """What predicted times say against the orders that were chosen."""
        if self.predicted is None or self.unit:
            return []
        seconds = {own.name: own.value for own in self.predicted.bars}
        faster = [name for name in (UNPRUNED, BASELINE) if seconds[name] < seconds[best]]
        return (
            [
                f"By the predicted times, {' and '.join(faster)} would be faster than the orders of {best}, because "
                f"{self.name} is not time. Measure it (compare), or choose orders for time (--objective latency)."
            ]
            if faster
            else []
        )

    def _orders(self) -> tuple[Section, ...]:
        shown = {name: own for name, own in self.problems.items() if len(own.accesses) > 1 and name in self.solutions}
        solved = complete(self.solutions, self.solvers)
        shown = {name: own for name, own in shown.items() if name in solved}
        if not shown:
            return ()
        ways = {
            own.mode for name in shown for result in solved[name].values() for own in result.evaluation.accesses
        } | {OVER_READ}  # fmt: skip
        drawn = [
            orders.segment(
                problem,
                {ORIGINAL: Order.identity(problem), **{one: solved[name][one].order for one in self.solvers}},
                self.objective,
            )
            for name, problem in shown.items()
        ]
        return (Section("Orders, segment by segment", (_ABOUT_ORDERS, orders.legend(ways), *drawn)),)

    @property
    def reference(self) -> str:
        """The solver that others are compared with: greedy, or the first one."""
        return GREEDY if GREEDY in self.solvers else self.solvers[0]

    def _sentence(self, best: str) -> str:
        own, other = (_total(self, name) for name in (best, self.reference))
        unit = f" {self.unit}" if self.unit else ""
        if own >= other * (1 - _SAME):
            order = f"No order was found that is better than {self.reference}'s: {self.name} {own:,.0f}{unit}."
        else:
            order = (
                f"The orders of {best} have {100 * (other - own) / other:.1f} % less {self.name} than "
                f"{self.reference}'s: {own:,.0f} instead of {other:,.0f}{unit}."
            )
        return f"{order} {self.answer[:1].upper()}{self.answer[1:]}." if self.answer else order

    def _figures(self, best: str) -> tuple[Figure, ...]:
        found = []
        if UNPRUNED in self.latencies and best in self.latencies:
            before, after = (1e3 * self.latencies[name].median for name in (UNPRUNED, best))
            meaning = f"as fast as unpruned, measured: {before:.2f} to {after:.2f} ms"
            found.append(Figure(f"{before / after:.2f}x", meaning, before > after))
        if self.predicted is not None:
            seconds, unit = {own.name: own.value for own in self.predicted.bars}, self.predicted.unit
            before, after = seconds[UNPRUNED], seconds[best]
            meaning = f"as fast as unpruned, predicted, not measured: {before:.1f} to {after:.1f} {unit}"
            found.append(Figure(f"{before / after:.2f}x", meaning))
        if best != self.reference:
            own, other = (_total(self, name) for name in (best, self.reference))
            share = (own - other) / other if other else 0.0
            value = f"{100 * share:+.1f} %" if abs(share) >= _SAME else "0 %"
            meaning = f"{self.name} against {self.reference}: {other:,.0f} to {own:,.0f}"
            found.append(Figure(value, meaning, share < -_SAME or None))
        found += self._proof(best)
        if self.verified:
            worst = max(self.verified.values())
            found.append(Figure(f"{worst:.0e}", "largest relative error against the masked network, in float64"))
        return tuple(found)

    def _proof(self, best: str) -> list[Figure]:
        results = [own[best] for own in complete(self.solutions, self.solvers).values()]
        sums = totals_of(results)
        if sums["bound"] is None:
            return []
        gap = 100 * (sums["objective"] - sums["bound"]) / max(1, sums["objective"])
        proven = sum(own.gap == 0 for own in results)
        if proven == len(results):
            return [Figure("optimal", f"proven for all {len(results)} segments: no order is better", True)]
        return [Figure(f"≤ {gap:.1f} %", f"above the best order; {proven} of {len(results)} segments proven optimal")]


_ABOUT_SEGMENTS = (
    "A segment is a set of channels whose order is chosen together. Segments with one reader only are left out here: "
    "there is nothing to decide. They are in the last row."
)
_ABOUT_ORDERS = (
    "One strip per reader, one column per stored channel. What costs something is in strong colours; what is read in "
    "place is grey. The number behind a strip counts what is in strong colours; +8 means 8 channels read in vain."
)


def _total(compared: Compared, solver: str) -> float:
    results = [own[solver] for own in complete(compared.solutions, compared.solvers).values()]
    return float(totals_of(results)["objective"])


def _objectives(compared: Compared) -> Bars:
    """Objectives of the original order and of every solver's, and the bound."""
    solved = complete(compared.solutions, compared.solvers)
    original = 0.0
    for name in solved:
        found = evaluate(compared.problems[name], Order.identity(compared.problems[name]), compared.objective)
        original += found.value / found.ticks
    bars = [Bar(f"{ORIGINAL} order", original, BEFORE)]
    for name in compared.solvers:
        bars.append(Bar(name, _total(compared, name), role(name)))
    bounds = [
        totals_of([own[name] for own in solved.values()])["bound"]
        for name in compared.solvers
        if name not in HEURISTICS
    ]
    known = [own for own in bounds if own is not None]
    if known:
        bars.append(Bar("bound", max(known), LIMIT))
    title = f"Objective: {compared.name}"
    how = "summed over all segments; no order is below the bound"
    if compared.unit:
        return of_seconds(title, [_scaled(own) for own in bars], how=f"{how}; expected by cost tables")
    return Bars(title, tuple(bars), how=how)


def _scaled(bar: Bar) -> Bar:
    return Bar(bar.name, bar.value / 1e9, bar.role)


def _measured(latencies: Mapping[str, Profile]) -> Bars:
    """Measured medians with their quartiles."""
    bars = []
    for name, own in latencies.items():
        low, high = np.percentile(own.seconds, (25, 75))
        bars.append(Bar(name, own.median, role(name), float(low), float(high)))
    first = next(iter(latencies.values()))
    how = (
        f"measured: median of {len(first.seconds)} rounds in turn on {first.device} ({first.backend}); lines: quartiles"
    )
    if FLOOR in latencies:
        how += "; no order is below the floor"
    return of_seconds("Latency per pass", bars, how=how)
