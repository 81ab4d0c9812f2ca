"""Reports for users: the table on standard output and the JSON document. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from problems import Problem, in_units
from problems.order_files import order_to_dict
from solvers import Result, SolveInterrupted
from upscale_opt.arguments.entrance import entrance
from upscale_opt.latency.environment import environment, stolen_note
from upscale_opt.planning.solutions import Solutions, total_in_units
from upscale_opt.screens.grids import Column, grid
from upscale_opt.screens.lines import wrapped

if TYPE_CHECKING:
    from upscale_opt.latency.access_profiles import AccessProfile
    from upscale_opt.latency.profiling import Profile
    from upscale_opt.planning.cost_model import CostModel

HEURISTICS = ("identity", "greedy")
MODES = ("views", "over_reads", "pieces", "copies")
FLOOR = "floor"
"""Name of the floor (`upscale_opt.comparing.floors`) among the variants."""
ACCESS_LINES = 15


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
    costs: CostModel | str | None = None,
    stopped: KeyboardInterrupt | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """The JSON document of a run. Segments without a result from every solver are left out.

    After an interrupt (`stopped`), it has all results so far, with their orders. The result of the interrupted solve is
    marked. Totals still include only segments with a result from every solver.

    Objectives and bounds are in units of the objective. `costs` names the source of the cost tables. If it is not None,
    the unit is nanoseconds.
    """
    solved = complete(solutions, solvers)
    shown = solved if stopped is None else solutions
    return {
        "model": model,
        "amount": amount,
        "objective": objective,
        "costs": cost_name(costs),
        "cost_model": None if costs is None or isinstance(costs, str) else str(costs),
        "environment": environment(),
        "segments": [
            {
                "name": segment,
                "channels": problems[segment].num_channels,
                "accesses": len(problems[segment].accesses),
                "classes": len(problems[segment].classes),
                "solvers": {
                    name: _solver_entry(results[name])
                    | ({} if stopped is None else _interrupted_entry(problems[segment], results[name], stopped))
                    for name in solvers
                    if name in results
                },
            }
            for segment, results in shown.items()
            if results
        ],
        "totals": {name: totals_of([results[name] for results in solved.values()]) for name in solvers},
        "trace_seconds": trace_seconds,
        "verified": dict(verified or {}),
        **({} if stopped is None else {"interrupted": True}),
        **extra,
    }


def cost_name(costs: CostModel | str | None) -> str | None:
    """The source of cost tables in one word. None if there are no tables."""
    return costs if costs is None or isinstance(costs, str) else costs.name


def table(
    problems: Mapping[str, Problem],
    solutions: Solutions,
    solvers: Sequence[str],
    *,
    title: str,
    costs: CostModel | str | None = None,
) -> str:
    """A table of solvers side by side. One row per segment with at least two accesses, and totals over all segments.

    `costs` is the source of cost tables. If it is given, objectives are in nanoseconds and every read mode is counted.
    """
    if costs is not None:
        title = f"{title} in nanoseconds, costs: {cost_name(costs)}"
    modes = MODES if costs is not None else ("copies",)
    solved = complete(solutions, solvers)
    shown = [segment for segment in solved if len(problems[segment].accesses) > 1]
    others = len(solved) - len(shown)
    footer = f"total (+{others} single)" if others else "total"
    of = [problems[segment] for segment in shown]
    columns = [
        Column("segment", shown, right=False, footer=footer, is_name=True),
        Column("channels", [str(problem.num_channels) for problem in of]),
        Column("accesses", [str(len(problem.accesses)) for problem in of]),
        Column("classes", [str(len(problem.classes)) for problem in of]),
    ]
    for name in solvers:
        results = [solved[segment][name] for segment in shown]
        columns += _solver_columns(name, results, totals_of([own[name] for own in solved.values()]), modes, costs)
    source = f"\n{wrapped(f'costs: {cost_name(costs)} ({costs})')}" if costs and not isinstance(costs, str) else ""
    return f"{wrapped(title)}\n\n{grid(columns)}{source}"


def _solver_columns(
    name: str, results: Sequence[Result], total: Mapping[str, Any], modes: Sequence[str], costs: CostModel | str | None
) -> list[Column]:
    """The columns of one solver: what its orders cost, how they are read, and what was proven."""
    entries = [_solver_entry(result) for result in results]
    found = [
        ("objective" if costs is None else "ns", [_figure(own["objective"]) for own in entries], total["objective"])
    ]
    found += [(mode.replace("_", "-"), [str(own[mode]) for own in entries], total[mode]) for mode in modes]
    if name not in HEURISTICS:
        found.append(("bound", [_figure(own["bound"]) for own in entries], total["bound"]))
    columns = [Column(heading, cells, footer=_figure(own), group=name) for heading, cells, own in found]
    if name not in HEURISTICS:
        gaps = ["-" if result.gap is None else f"{100 * result.gap:.1f} %" for result in results]
        columns.append(Column("gap", gaps, footer=_gap(total), group=name))
        statuses = [str(result.status.value) for result in results]
        columns.append(Column("status", statuses, right=False, group=name))
    seconds = [f"{result.runtime:.2f}" for result in results]
    return [*columns, Column("seconds", seconds, footer=f"{total['seconds']:.2f}", group=name)]


def latency_table(latencies: Mapping[str, Profile]) -> str:
    """A table of measured latencies: the spread of every variant, and its ratios to the first variant and to the floor.

    The ratio to the floor is shown if the floor was measured. If the host of a virtual machine disturbed the
    measurement, a line below says so (`upscale_opt.latency.environment.stolen_note`).
    """
    first = next(iter(latencies.values()))
    profiles = latencies.values()
    columns = [
        Column("variant", list(latencies), right=False, is_name=True),
        *(
            Column(f"{heading} ms", [f"{1e3 * getattr(own, field):.2f}" for own in profiles])
            for heading, field in (("median", "median"), ("IQR", "iqr"), ("mean", "mean"), ("std", "std"))
        ),
    ]
    references = {"to first": first, **({"to floor": latencies[FLOOR]} if FLOOR in latencies else {})}
    for heading, other in references.items():
        columns.append(Column(heading, [f"{own.median / other.median:.2f}" for own in profiles]))
    note = stolen_note(first.stolen)
    return "\n".join(["latency", "", grid(columns), *([wrapped(note)] if note else [])])


@entrance()
def access_table(profiles: Sequence[AccessProfile]) -> str:
    """A table of the accesses of an export, worst first: hidden copies, then by time spent on copies and selection.

    It has at most 15 rows, and a last line that counts all accesses. Times are microseconds.
    """
    worst = sorted(profiles, key=lambda own: (not own.is_hidden_copy, -own.copy_seconds - own.selection_seconds))
    shown = worst[:ACCESS_LINES]

    def times(field: str) -> list[str]:
        return [f"{1e6 * getattr(own, field):.1f}" if getattr(own, field) else "-" for own in shown]

    columns = [
        Column("access", [own.name for own in shown], right=False, is_name=True),
        Column("mode", [own.mode for own in shown], right=False),
        Column("kept", [f"{own.kept} of {own.stored}" for own in shown]),
        Column("read us", times("seconds")),
        Column("select us", times("selection_seconds")),
        Column("prologue us", times("prologue_seconds")),
        Column("copy us", times("copy_seconds")),
        Column("copies", [_copies(own) for own in shown], right=False),
    ]
    hidden = [own for own in profiles if own.is_hidden_copy]
    moved = f", {_size(sum(own.copied_bytes for own in hidden))} a pass" if hidden else ""
    others = f"; {len(worst) - ACCESS_LINES} not shown" if len(worst) > ACCESS_LINES else ""
    counted = f"accesses: {len(profiles)}, with hidden copies: {len(hidden)}{moved}{others}"
    return f"accesses\n\n{grid(columns)}\n{counted}"


def _copies(access: AccessProfile) -> str:
    """The copies that one access makes, in words."""
    copies = ", ".join(f"{copy.count} x {copy.operator} of {_size(copy.bytes)}" for copy in access.copies)
    return f"{copies}: hidden copy" if access.is_hidden_copy else copies or "-"


def _solver_entry(result: Result) -> dict[str, Any]:
    evaluation = result.evaluation
    ticks = evaluation.ticks
    return {
        "objective": in_units(result.value, ticks),
        "bound": None if result.bound is None else in_units(result.bound, ticks),
        "gap": result.gap,
        "status": str(result.status.value),
        "seconds": result.runtime,
        "views": evaluation.views,
        "over_reads": evaluation.over_reads,
        "pieces": evaluation.pieces,
        "copies": evaluation.copies,
        "copied_channels": evaluation.copied_channels,
        "span": evaluation.span,
        "runs": evaluation.runs,
        "reads": {access.name: access.mode for access in evaluation.accesses},
    }


def _interrupted_entry(problem: Problem, result: Result, stopped: KeyboardInterrupt) -> dict[str, Any]:
    """Additional fields of an interrupted run: the order, and whether its search was stopped."""
    was_stopped = isinstance(stopped, SolveInterrupted) and stopped.result is result
    return order_to_dict(problem, result.order) | ({"interrupted": True} if was_stopped else {})


def totals_of(results: list[Result]) -> dict[str, Any]:
    """Sums over segments: objective and bound in units of the objective, ways of reading, copied channels, seconds."""
    bounds = [None if r.bound is None else Fraction(r.bound, r.evaluation.ticks) for r in results]
    objective = total_in_units(results)
    bound = sum((own for own in bounds if own is not None), Fraction(0)) if None not in bounds else None
    return {
        "objective": in_units(*objective.as_integer_ratio()),
        "bound": None if bound is None else in_units(*bound.as_integer_ratio()),
        **{mode: sum(getattr(result.evaluation, mode) for result in results) for mode in MODES},
        "copied_channels": sum(result.evaluation.copied_channels for result in results),
        "seconds": sum(result.runtime for result in results),
    }


def _size(num_bytes: int) -> str:
    if num_bytes < 1024:
        return f"{num_bytes} B"
    return f"{num_bytes / 1024:.0f} KiB" if num_bytes < 1024**2 else f"{num_bytes / 1024**2:.1f} MiB"


def _gap(total: Mapping[str, Any]) -> str:
    if total["bound"] is None:
        return "-"
    return f"{100 * (total['objective'] - total['bound']) / max(1, total['objective']):.1f} %"


def _figure(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
