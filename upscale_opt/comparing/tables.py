"""The tables of a comparison as data (`upscale_opt.pages.tables`), for pages, CSV and LaTeX. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from problems import AccessCost, Order, Problem, evaluate, in_units
from problems.objectives import COPY, OVER_READ
from solvers import Result
from upscale_opt.comparing.reports import FLOOR, HEURISTICS, complete, totals_of
from upscale_opt.pages.tables import Cell, Column, Table
from upscale_opt.planning.solutions import Solutions

if TYPE_CHECKING:
    from upscale_opt.latency.profiling import Profile
    from upscale_opt.planning.reading import Reading

ORIGINAL = "original"
"""Name of the order that channels have in the unpruned network."""
MEASURES = {
    "copies": "channels copied",
    "traffic": "channels moved in vain",
    "span": "channels over-read",
    "runs": "contiguous runs",
}
WAYS = ("views", "over-reads", "pieces", "copies", "copied channels")
"""Columns that count ways of reading."""


def segment_table(
    problems: Mapping[str, Problem],
    solutions: Solutions,
    solvers: Sequence[str],
    *,
    unit: str = "",
    every: bool = False,
) -> Table:
    """One row per segment: its size, and every solver's objective and ways of reading. The last row has the totals.

    Parameters
    ----------
    problems, solutions, solvers
        Segment name to problem; segment name to solver name to result; the solvers to show.
    unit
        The unit of objectives, such as ``ns``.
    every
        Also have segments with a single access, where there is nothing to decide. They are always in the totals.
    """
    solved = complete(solutions, solvers)
    columns = [Column("segment"), Column("channels"), Column("readers"), Column("classes")]
    for name in solvers:
        columns += [Column("objective", unit, name)]
        columns += [Column(own, group=name) for own in WAYS]
        if name not in HEURISTICS:
            columns += [
                Column("bound", unit, name), Column("gap", "%", name, 1), Column("status", group=name)
            ]  # fmt: skip
        columns.append(Column("seconds", group=name, digits=2))
    shown = [segment for segment in solved if every or len(problems[segment].accesses) > 1]
    rows: list[tuple[Cell, ...]] = []
    for segment in shown:
        problem = problems[segment]
        row: list[Cell] = [segment, problem.num_channels, len(problem.accesses), len(problem.classes)]
        for name in solvers:
            row += _cells(solved[segment][name], exact=name not in HEURISTICS)
        rows.append(tuple(row))
    others = len(solved) - len(shown)
    footer: list[Cell] = [f"all, with {others} of one reader" if others else "all", "", "", ""]
    for name in solvers:
        own = totals_of([results[name] for results in solved.values()])
        footer += [own["objective"], own["views"], own["over_reads"], own["pieces"], own["copies"]]
        footer += [own["copied_channels"]]
        if name not in HEURISTICS:
            bound, value = own["bound"], own["objective"]
            gap = None if bound is None else 100 * (value - bound) / max(1, value)
            footer += [bound, gap, ""]
        footer.append(own["seconds"])
    return Table(tuple(columns), tuple(rows), tuple(footer))


def measure_table(problems: Mapping[str, Problem], solutions: Solutions, solvers: Sequence[str]) -> Table:
    """The same orders by every measure, summed over segments: the original order's row, and one for each solver."""
    solved = complete(solutions, solvers)
    orders = {ORIGINAL: {segment: Order.identity(problems[segment]) for segment in solved}}
    orders |= {name: {segment: results[name].order for segment, results in solved.items()} for name in solvers}
    rows: list[tuple[Cell, ...]] = []
    for name, own in orders.items():
        values = (
            sum(evaluate(problems[segment], order, one).value for segment, order in own.items()) for one in MEASURES
        )
        rows.append((name, *values))
    return Table.of(["order", *(Column(name, unit) for name, unit in MEASURES.items())], rows)


def latency_table(latencies: Mapping[str, Profile]) -> Table:
    """Measured latencies: the spread of every variant, and its ratios to the first variant and to the floor."""
    first = next(iter(latencies.values()))
    references = {"to first": first, **({"to floor": latencies[FLOOR]} if FLOOR in latencies else {})}
    columns = [Column("variant"), *(Column(own, "ms", digits=3) for own in ("median", "IQR", "mean", "std"))]
    columns += [Column(own, digits=3) for own in references]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            *(1e3 * own for own in (profile.median, profile.iqr, profile.mean, profile.std)),
            *(profile.median / other.median for other in references.values()),
        )
        for name, profile in latencies.items()
    ]
    return Table(tuple(columns), tuple(rows))


def reading_table(
    problems: Mapping[str, Problem],
    solutions: Solutions,
    solvers: Sequence[str],
    readings: Mapping[str, Mapping[str, Reading]] | None = None,
) -> Table:
    """One row per access: what it keeps, and how it is read under every solver's order.

    Parameters
    ----------
    problems, solutions, solvers
        As for `segment_table`.
    readings
        Solver name to access name to reading, of the exports. They have kernels and widths, which orders do not decide.
    """
    solved = complete(solutions, solvers)
    made = readings or {}
    columns = [Column("segment"), Column("reader"), Column("keeps"), Column("of")]
    for name in solvers:
        columns += [Column("way", group=name, ways=True), Column("extra channels", group=name)]
        columns += [Column("how", group=name)] if any(map(_how, made.get(name, {}).values())) else []
    rows: list[tuple[Cell, ...]] = []
    for segment, results in solved.items():
        problem = problems[segment]
        for a, access in enumerate(problem.accesses):
            stored = sum(len(problem.stored[b]) for b in access.blocks)
            row: list[Cell] = [segment, access.name, access.num_kept, stored]
            for name in solvers:
                own = results[name].evaluation.accesses[a]
                reading = made.get(name, {}).get(access.name)
                row += [own.mode if reading is None else reading.mode, _extra(own, reading, stored)]
                row += [_how(reading)] if Column("how", group=name) in columns else []
            rows.append(tuple(row))
    return Table(tuple(columns), tuple(rows), sortable=True)


def _cells(result: Result, *, exact: bool) -> list[Cell]:
    found = result.evaluation
    cells: list[Cell] = [in_units(result.value, found.ticks)]
    cells += [found.views, found.over_reads, found.pieces, found.copies, found.copied_channels]
    if exact:
        bound = None if result.bound is None else in_units(result.bound, found.ticks)
        cells += [bound, None if result.gap is None else 100 * result.gap, str(result.status.value)]
    return [*cells, result.runtime]


def _extra(own: AccessCost, reading: Reading | None, stored: int) -> int:
    """Channels that are copied, or read although they are dropped."""
    mode = own.mode if reading is None else reading.mode
    if mode == OVER_READ:
        width = own.span if reading is None or reading.width is None else reading.width
        return min(width, stored) - own.kept
    return own.kept if mode == COPY else 0


def _how(reading: Reading | None) -> str:
    """Kernel, width and place of a reading, where they are not the usual ones."""
    if reading is None:
        return ""
    width = f"{reading.width} wide" if reading.width is not None else ""
    return ", ".join(own for own in (reading.kernel, width, "late" if reading.late else "") if own)
