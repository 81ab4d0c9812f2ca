"""What users read: the table on standard output and the JSON document; knows no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from problems import Problem
from solvers import Result
from upscale_opt.environment import environment
from upscale_opt.segments import Solutions

if TYPE_CHECKING:
    from upscale_opt.profiling import Profile

HEURISTICS = ("identity", "greedy")


def complete(solutions: Solutions, solvers: Sequence[str]) -> Solutions:
    """The segments that every solver has finished."""
    return {segment: results for segment, results in solutions.items() if all(name in results for name in solvers)}


def document(
    problems: Mapping[str, Problem],
    solutions: Solutions,
    solvers: Sequence[str],
    *,
    model: str | None,
    amount: float | None,
    objective: str,
    trace_seconds: float | None = None,
    verified: Mapping[str, float] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """The JSON document of a run; segments without a result from every solver are left out."""
    solved = complete(solutions, solvers)
    return {
        "model": model,
        "amount": amount,
        "objective": objective,
        "environment": environment(),
        "segments": [
            {
                "name": segment,
                "channels": problems[segment].num_channels,
                "accesses": len(problems[segment].accesses),
                "classes": len(problems[segment].classes),
                "solvers": {name: _solver_entry(results[name]) for name in solvers},
            }
            for segment, results in solved.items()
        ],
        "totals": {name: _totals([results[name] for results in solved.values()]) for name in solvers},
        "trace_seconds": trace_seconds,
        "verified": dict(verified or {}),
        **extra,
    }


def table(problems: Mapping[str, Problem], solutions: Solutions, solvers: Sequence[str], *, title: str) -> str:
    """Solvers side by side, one row per segment with at least two accesses, totals over all segments."""
    solved = complete(solutions, solvers)
    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_footer=True, pad_edge=False)
    shown = [segment for segment in solved if len(problems[segment].accesses) > 1]
    others = len(solved) - len(shown)
    footer = f"total (+{others} single-access)" if others else "total"
    totals = {name: _totals([results[name] for results in solved.values()]) for name in solvers}
    grid.add_column("segment", footer=footer, no_wrap=True)
    for heading in ("channels", "accesses", "classes"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for name in solvers:
        total = totals[name]
        grid.add_column(f"{name}\nobjective", justify="right", footer=str(total["objective"]), no_wrap=True)
        grid.add_column("\ncopies", justify="right", footer=str(total["copies"]), no_wrap=True)
        if name not in HEURISTICS:
            grid.add_column("\nbound", justify="right", footer=_or_dash(total["bound"]), no_wrap=True)
            grid.add_column("\ngap", justify="right", footer=_gap(total), no_wrap=True)
            grid.add_column("\nstatus", no_wrap=True)
        grid.add_column("\nseconds", justify="right", footer=f"{total['seconds']:.2f}", no_wrap=True)
    for segment in shown:
        problem = problems[segment]
        row = [segment, str(problem.num_channels), str(len(problem.accesses)), str(len(problem.classes))]
        for name in solvers:
            row += _cells(solved[segment][name], exact=name not in HEURISTICS)
        grid.add_row(*row)
    return render(grid)


def latency_table(latencies: Mapping[str, Profile]) -> str:
    """Measured latency of every variant, with its spread and the ratio to the unpruned model."""
    grid = Table(title="latency", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("variant", "median ms", "IQR ms", "mean ms", "std ms", "to first"):
        grid.add_column(heading, justify="left" if heading == "variant" else "right", no_wrap=True)
    first = next(iter(latencies.values()))
    for name, profile in latencies.items():
        figures = (profile.median, profile.iqr, profile.mean, profile.std)
        grid.add_row(name, *(f"{1e3 * x:.2f}" for x in figures), f"{profile.median / first.median:.2f}")
    return render(grid)


def render(grid: Table) -> str:
    """A rich table as plain text of its natural width, so that nothing is cut off in a pipe."""
    console = Console(file=io.StringIO(), width=1000, color_system=None)
    console.print(grid)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def _solver_entry(result: Result) -> dict[str, Any]:
    evaluation = result.evaluation
    return {
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "status": str(result.status.value),
        "seconds": result.runtime,
        "views": evaluation.views,
        "over_reads": evaluation.over_reads,
        "copies": evaluation.copies,
        "copied_channels": evaluation.copied_channels,
        "span": evaluation.span,
        "runs": evaluation.runs,
    }


def _totals(results: list[Result]) -> dict[str, Any]:
    bounds = [result.bound for result in results]
    return {
        "objective": sum(result.objective for result in results),
        "bound": sum(bound for bound in bounds if bound is not None) if None not in bounds else None,
        "copies": sum(result.evaluation.copies for result in results),
        "copied_channels": sum(result.evaluation.copied_channels for result in results),
        "seconds": sum(result.runtime for result in results),
    }


def _cells(result: Result, *, exact: bool) -> list[str]:
    cells = [str(result.objective), str(result.evaluation.copies)]
    if exact:
        gap = "-" if result.gap is None else f"{100 * result.gap:.1f} %"
        cells += [_or_dash(result.bound), gap, str(result.status.value)]
    return [*cells, f"{result.runtime:.2f}"]


def _gap(total: Mapping[str, Any]) -> str:
    if total["bound"] is None:
        return "-"
    return f"{100 * (total['objective'] - total['bound']) / max(1, total['objective']):.1f} %"


def _or_dash(value: Any) -> str:
    return "-" if value is None else str(value)
