"""Cost against time, family by family: what each solver knows after 0.01, 0.1, 1, ... seconds.

Every solver solves a sample of every family, for every objective that applies. Each solve is appended to
``results/families.csv`` at once, with what was known at certain moments. Solves in this file are not repeated, so an
interrupted command continues where it stopped; ``--fresh`` begins again. The pages are ``results/families.md`` and one
in ``results/families/`` for every family, with pictures.

    python -m benchmarks.families --family classical/blocks --time-limit 10
    python -m benchmarks.families --pages
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import results
from benchmarks.families.pages import write_pages
from benchmarks.families.standings import moments, standings_text
from benchmarks.results import Row, read_rows
from benchmarks.solves import names_of, sample, solve_missing
from problems import OBJECTIVES, ProblemError
from problems.collection import LIBRARY
from solvers import SolverError, solve, solver_names

SOLVERS = ("auto", "cp-sat", "local-search")
"""Solvers that are compared by default."""

COLUMNS = (
    *("objective", "family", "instance", "solver", "time_limit", "seed", "status", "value", "bound", "seconds"),
    *("standings", "commit", "load"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows and write the pages; returns the exit code: 0, 2 for bad input, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.families", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    classical = [family for family in LIBRARY.families if family.startswith("classical/")]
    parser.add_argument(
        "--family", nargs="+", default=classical, choices=LIBRARY.families, metavar="FAMILY", help="[all classical]"
    )
    parser.add_argument("--per-family", type=int, default=3, help="instances of each family [3]")
    parser.add_argument("--time-limit", type=float, default=3.0, help="seconds per solve [3]")
    parser.add_argument("--solvers", nargs="+", default=SOLVERS, choices=solver_names(), metavar="SOLVER")
    parser.add_argument("--objectives", nargs="+", default=tuple(OBJECTIVES), choices=tuple(OBJECTIVES))
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of the solvers [0]")
    parser.add_argument("--pages", action="store_true", help="solve nothing; write the pages of what is there")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    given = parser.parse_args(arguments)
    path = results.DIRECTORY / "families.csv"
    try:
        if given.fresh:
            path.unlink(missing_ok=True)
        finished = given.pages or solve_missing(_wanted(given), path, COLUMNS, _solved)
        rows = read_rows(path)
        if rows:
            print(write_pages(rows))
        return 0 if finished else 130
    except ProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _wanted(given: argparse.Namespace) -> list[Row]:
    """The solves that were asked for, by the columns that identify them."""
    return [
        {
            "objective": objective,
            "family": family,
            "instance": name,
            "solver": solver,
            "time_limit": str(given.time_limit),
            "seed": str(given.seed),
        }
        for family in given.family
        for name in sample(family, names_of(family), given.per_family, seed=given.seed)
        for objective in LIBRARY.objectives(name)
        if objective in given.objectives
        for solver in given.solvers
    ]


def _solved(row: Row) -> dict[str, Any]:
    """The outcome of one solve."""
    limit = float(row["time_limit"])
    try:
        result = solve(
            LIBRARY.load(row["instance"]),
            solver=row["solver"],
            objective=row["objective"],
            time_limit=limit,
            seed=int(row["seed"]),
            progress=False,
        )
    except SolverError:
        return {"status": "refused"}
    return {
        "status": str(result.status),
        "value": result.value,
        "bound": "" if result.bound is None else result.bound,
        "seconds": f"{result.runtime:.4f}",
        "standings": standings_text(result.trajectory, moments(limit)),
    }


if __name__ == "__main__":
    sys.exit(main())
