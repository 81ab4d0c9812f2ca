"""What was gained, for a first look: orders by several solvers side by side, and measured latencies as bars.

Every word is explained where it first stands. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from problems import Problem, evaluate
from solvers import Result
from upscale_opt.comparing.reports import FLOOR, HEURISTICS, complete
from upscale_opt.planning.solutions import Solutions, total_in_units
from upscale_opt.screens.bars import bars
from upscale_opt.screens.grids import Column, grid
from upscale_opt.screens.lines import wrapped

if TYPE_CHECKING:
    from upscale_opt.latency.profiling import Profile

LATENCY, TRAFFIC, COPIES = "latency", "traffic", "copies"
_UNREST = 0.5  # interquartile range over median, above which rounds say nothing about factors
MEANINGS = {
    TRAFFIC: "traffic: a channel that is read but not wanted counts 1, a copied channel counts 2.",
    COPIES: "copies: channels to copy, if a layer reads in place only channels that lie side by side.",
    "span": "span: channels that are read but not wanted, if every layer reads from its first to its last wanted one.",
    "runs": "runs: in how many pieces the wanted channels lie, over all layers.",
    LATENCY: "latency: the time of the layers that select channels.",
}
_SOURCES = {
    "measured": "by calibrate, on this machine",
    "analytic": "estimated from shapes; nothing was measured here",
    "instance": "the cost tables of the file",
}
_BOUND = "bound: no order has less. gap: what may be left to gain. OPTIMAL: nothing is left."
_SOLVERS = {
    "greedy": "greedy: the order of UPSCALE (Wan et al., ICML 2023).",
    "auto": "auto: our exact method; it also says how good an order can be (bound).",
}
_VARIANTS = {
    "unpruned": "the network as it was",
    "baseline": "pruned, channels in their old order; every layer copies its channels",
    "upscale": "pruned, greedy's order; a layer copies where its channels are not side by side",
    FLOOR: "the time if nothing had to be selected (its outputs are wrong); no order can beat it",
}


class _Unit(NamedTuple):
    """A unit of an objective: its name in headings, and how much of the objective's own unit it is."""

    name: str
    size: int


_PLAIN = _Unit("", 1)


def orders_text(
    problems: Mapping[str, Problem],
    solutions: Solutions,
    solvers: Sequence[str],
    *,
    objective: str,
    costs: str | None = None,
) -> str:
    """Solvers side by side: the objective with its bound, then traffic and copies of the same orders; in words, too.

    Parameters
    ----------
    problems
        Segment name to problem.
    solutions
        Segment name to solver name to result.
    solvers
        Names of the solvers.
    objective
        Name of the objective.
    costs
        Where times come from, for the objective `latency`.
    """
    solved = complete(solutions, solvers)
    results = {name: [own[name] for own in solved.values()] for name in solvers}
    values = {name: total_in_units(results[name]) for name in solvers}
    bounds = {name: _bound(results[name]) for name in solvers if name not in HEURISTICS}
    unit = _unit(list(values.values())) if objective == LATENCY else _PLAIN
    columns = [
        Column("order by", list(solvers), right=False, is_name=True),
        Column(f"{objective}{unit.name}", [_written(values[name], unit) for name in solvers]),
        Column("bound", [_written(bounds.get(name), unit) for name in solvers]),
        Column("gap", [_gap(values[name], bounds.get(name)) if name in bounds else "-" for name in solvers]),
        Column("status", [_status(values[name], bounds[name]) if name in bounds else "-" for name in solvers], False),
    ]
    others = [other for other in (TRAFFIC, COPIES) if other != objective]
    for other in others:
        totals = [
            sum(evaluate(problems[segment], own[name].order, other).value for segment, own in solved.items())
            for name in solvers
        ]
        columns.append(Column(other, [f"{total:,}" for total in totals]))
    columns.append(Column("seconds", [f"{sum(own.runtime for own in results[name]):.2f}" for name in solvers]))
    words = [
        *(_SOLVERS[name] for name in solvers if name in _SOLVERS),
        MEANINGS.get(objective, f"{objective}: the objective."),
        *([_source(costs)] if objective == LATENCY and costs else []),
        *(MEANINGS[own] for own in others),
        _BOUND,
    ]
    gain = _gain(values, bounds, solvers, objective, unit)
    return "\n".join([grid(columns), "", *map(wrapped, words), *([wrapped(gain)] if gain else [])])


def _gain(
    values: Mapping[str, Fraction],
    bounds: Mapping[str, Fraction | None],
    solvers: Sequence[str],
    objective: str,
    unit: _Unit,
) -> str:
    """What the best order saves of greedy's, in one sentence. Empty without greedy."""
    if "greedy" not in values or len(solvers) < 2:
        return ""
    best = min(reversed(solvers), key=lambda name: values[name])
    if values[best] == values["greedy"]:
        found = f"Greedy's order is as good as the best one found in {objective}"
    else:
        share = float(1 - values[best] / values["greedy"])
        found = f"The order by {best} has {100 * share:.1f} % less {objective} than greedy's"
    proven = [bound for bound in bounds.values() if bound is not None]
    if not proven:
        return f"{found}."
    left = values[best] - max(proven)
    return (
        f"{found}, and no order has less."
        if left <= 0
        else f"{found}; no order has less than {_written(max(proven), unit)}."
    )


def _bound(results: Sequence[Result]) -> Fraction | None:
    """The sum of the bounds, in units. None if one is missing."""
    total = Fraction(0)
    for result in results:
        if result.bound is None:
            return None
        total += Fraction(result.bound, result.evaluation.ticks)
    return total


def _status(value: Fraction, bound: Fraction | None) -> str:
    return "OPTIMAL" if bound is not None and value <= bound else "FEASIBLE"


def _gap(value: Fraction, bound: Fraction | None) -> str:
    return "-" if bound is None else f"{100 * float((value - bound) / max(Fraction(1), value)):.1f} %"


def _source(costs: str) -> str:
    """Where times come from, in words."""
    known = _SOURCES.get(costs)
    return f"costs: {costs} ({known})." if known else f"costs: {costs}."


def _unit(values: Sequence[Fraction]) -> _Unit:
    """The unit of times: milliseconds, or microseconds where these would be small fractions."""
    return _Unit(" ms", 10**6) if any(value >= 10**5 for value in values) else _Unit(" us", 10**3)


def _written(value: Fraction | None, unit: _Unit) -> str:
    """A value of an objective in a unit: of latency with three digits after the point, else channels or pieces."""
    if value is None:
        return "-"
    own = value / unit.size
    return f"{int(own):,}" if unit is _PLAIN and own.denominator == 1 else f"{float(own):,.3f}"


def latency_text(latencies: Mapping[str, Profile], ours: str, *, how: str) -> str:
    """Measured latencies as bars, what each of them is, and what the export `ours` gains.

    Parameters
    ----------
    latencies
        Variant to latency, measured in turn.
    ours
        The variant to judge.
    how
        How they were measured, for the heading.
    """
    figures = {name: 1e3 * own.median for name, own in latencies.items()}
    digits = 1 if max(own.median for own in latencies.values()) >= 0.01 else 3
    texts = {name: f"{value:,.{digits}f} +- {500 * latencies[name].iqr:,.{digits}f}" for name, value in figures.items()}
    words = [f"{name}: {meaning}." for name, meaning in _VARIANTS.items() if name in latencies]
    solved = [name for name in latencies if name not in _VARIANTS]
    if solved:
        words.insert(-1 if FLOOR in latencies else len(words), f"{', '.join(solved)}: pruned, the orders above.")
    return "\n".join(
        [
            wrapped(f"Milliseconds per pass, {how} (+-: half the interquartile range):"),
            "",
            bars(figures, texts=texts),
            "",
            *map(wrapped, words),
            wrapped(_verdict(latencies, ours)),
        ]
    )


def _verdict(latencies: Mapping[str, Profile], ours: str) -> str:
    """What `ours` gains over the other variants, or that this is within the noise.

    The factor is that of the medians, which stand above. It counts only if most rounds agree with it.
    """
    restless = [name for name, found in latencies.items() if found.iqr > _UNREST * found.median]
    if restless:
        return (
            f"The rounds of {', '.join(restless)} differ by more than half, so something else was running, and these "
            "figures say little; measure again when nothing else runs."
        )
    own = np.array(latencies[ours].seconds)
    parts, same = [], []
    for name in ("unpruned", "baseline", "upscale"):
        if name not in latencies:
            continue
        factor = latencies[name].median / latencies[ours].median
        low, high = np.percentile(np.array(latencies[name].seconds) / own, (25, 75))
        if min(low, factor) > 1:
            parts.append(f"{factor:.2f} times as fast as {name}")
        elif max(high, factor) < 1:
            parts.append(f"{1 / factor:.2f} times as slow as {name}")
        else:
            same.append(name)
    if same:
        parts.append(f"not to be told apart from {' and '.join(same)} in these rounds")
    return f"{ours} is {', '.join(parts)}." if parts else ""
