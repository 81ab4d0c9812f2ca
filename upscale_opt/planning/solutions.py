"""Solving every segment of a network with every solver; knows no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from tqdm import tqdm

from problems import Objective, Problem
from solvers import Result, SolveInterrupted

Solutions = dict[str, dict[str, Result]]
"""Segment name to solver name to result."""


def each_solution(
    problems: Mapping[str, Problem],
    solvers: Sequence[str] = ("greedy", "auto"),
    *,
    objective: str | Objective = "copies",
    time_limit: float = 10.0,
    seed: int = 0,
    progress: bool = False,
    proof: bool = False,
) -> Iterator[tuple[str, str, Result]]:
    """Yield (segment, solver, result) one by one, so that an interrupted run keeps what it has.

    On Ctrl-C the best so far of the solve that was running is yielded, then the interrupt is raised
    (`solvers.SolveInterrupted`).

    Parameters
    ----------
    problems
        Segment name to problem.
    solvers
        Registered names.
    objective
        Name or `Objective`.
    time_limit
        Seconds per segment and solver.
    seed
        Of the solvers.
    progress
        Show a progress bar on standard error.
    proof
        Let the results say why their bounds hold; not those of segments with bundles, which have no proofs.
    """
    from solvers import solve  # loads every solver, SciPy and more

    jobs = [(segment, name) for segment in problems for name in solvers]
    with tqdm(jobs, desc="solve", unit="run", disable=None if progress else True, leave=False) as bar:
        for segment, name in bar:
            bar.set_postfix_str(f"{segment} {name}", refresh=False)
            try:
                result = solve(
                    problems[segment],
                    solver=name,
                    objective=objective,
                    time_limit=time_limit,
                    seed=seed,
                    proof=proof and not problems[segment].bundles,
                )
            except SolveInterrupted as stopped:
                yield segment, name, stopped.result
                raise
            yield segment, name, result


def total_in_units(results: Sequence[Result]) -> Fraction:
    """Sum of the objectives in units (nanoseconds for tables): segments may count in different ticks."""
    return sum((Fraction(result.objective, result.evaluation.ticks) for result in results), Fraction(0))


def best_solver(solutions: Solutions, solvers: Sequence[str]) -> str:
    """The solver of smallest total objective; the last one on ties (exact solvers are listed after greedy)."""
    totals = {name: total_in_units([results[name] for results in solutions.values()]) for name in solvers}
    return min(reversed(solvers), key=totals.__getitem__)
