"""Solves every segment of a network with every solver. This module does not import torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from problems import Objective, Problem, objective_named
from problems.showing.progress import ProgressBar, ShowProgress
from solvers import Result, SolveInterrupted
from solvers.showing.progress import noted

Solutions = dict[str, dict[str, Result]]
"""Segment name to solver name to result."""


def each_solution(
    problems: Mapping[str, Problem],
    solvers: Sequence[str] = ("greedy", "auto"),
    *,
    objective: str | Objective = "copies",
    time_limit: float = 10.0,
    seed: int = 0,
    progress: ShowProgress = None,
    proof: bool = False,
    **settings: Any,
) -> Iterator[tuple[str, str, Result]]:
    """Yield (segment, solver, result) one by one, so an interrupted run keeps its finished results.

    On Ctrl-C, the running solve yields its best result so far. Then the interrupt is raised
    (`solvers.SolveInterrupted`).

    Parameters
    ----------
    problems
        Segment name to problem.
    solvers
        Names of registered solvers.
    objective
        Name of an objective, or an `Objective`.
    time_limit
        Seconds per segment and solver.
    seed
        Seed of the solvers.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).
    proof
        Let the results explain why their bounds hold. Segments with bundles or constraints have no such proofs.
    settings
        Other arguments of `solvers.solve`: when to stop, workers, a log.
    """
    from solvers import solve  # this import loads every solver, SciPy and more

    jobs = [(segment, name) for segment in problems for name in solvers]
    with ProgressBar("solve", jobs, unit="run", progress=progress) as bar:
        for segment, name in bar:
            bar.note(f"{segment} {name}")
            watch = noted(bar, objective_named(objective).ticks_of(problems[segment]), f"{segment} {name}")
            try:
                result = solve(
                    problems[segment],
                    solver=name,
                    objective=objective,
                    time_limit=time_limit,
                    seed=seed,
                    progress=watch,
                    proof=proof and not problems[segment].bundles and not problems[segment].constraints,
                    **settings,
                )
            except SolveInterrupted as stopped:
                yield segment, name, stopped.result
                raise
            yield segment, name, result


def total_in_units(results: Sequence[Result]) -> Fraction:
    """Sum of the values in units (nanoseconds for tables), because segments may count in different ticks."""
    return sum((Fraction(result.value, result.evaluation.ticks) for result in results), Fraction(0))


def best_solver(solutions: Solutions, solvers: Sequence[str]) -> str:
    """The solver with the smallest total objective. On ties, the last one, because exact solvers come after greedy."""
    totals = {name: total_in_units([results[name] for results in solutions.values()]) for name in solvers}
    return min(reversed(solvers), key=totals.__getitem__)
