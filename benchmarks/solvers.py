"""Solvers side by side on the instance library: proofs, gaps to the best known and times, family by family.

There are also the families `cbm/a` to `cbm/i` of matrices for `runs`, see `benchmarks.block_matrices`. Every solver
solves a random sample of every family, for every objective that applies. Each solve is appended to
``results/solvers.csv`` at once. Solves in this file are not repeated, so an interrupted command continues where it
stopped; ``--fresh`` begins again. All solvers have the same time limit, greedy's order as a start, and the same gate.
They run one after the other.

    python -m benchmarks.solvers --per-family 3 --time-limit 1
    python -m benchmarks.solvers --instances classical/sparse/50x100-d0.05-s0 --solvers auto --name bounds
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import block_matrices, solves
from benchmarks.profiles import performance_profile
from benchmarks.results import DIRECTORY, Row, markdown_table, read_rows, save_markdown
from benchmarks.solves import KEY, names_of, solve_missing
from problems import OBJECTIVES, ProblemError
from problems.collection import LIBRARY
from problems.solutions import Solution
from solvers import SolverError, solve, solver_names

SOLVERS = (*("identity", "greedy", "local-search", "pair-of-chains", "cp-sat", "auto"),)
"""Solvers that are compared by default, if they are registered."""

COLUMNS = (
    *("objective", "family", "instance", "solver", "status", "value", "bound", "seconds"),
    *("time_limit", "seed", "commit", "load"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows, print and save the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.solvers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--time-limit", type=float, default=1.0, help="seconds per solve [1]")
    parser.add_argument("--per-family", type=int, default=3, help="instances of each family [3]")
    parser.add_argument("--solvers", nargs="+", default=SOLVERS)
    parser.add_argument("--objectives", nargs="+", default=tuple(OBJECTIVES), choices=tuple(OBJECTIVES))
    parser.add_argument("--families", nargs="+", default=families(), choices=families())
    parser.add_argument("--instances", nargs="+", help="of the library, in place of samples of the families")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of the solvers [0]")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--name", default="solvers", help="of the files in benchmarks/results [solvers]")
    given = parser.parse_args(arguments)
    path = DIRECTORY / f"{given.name}.csv"
    try:
        if given.fresh:
            path.unlink(missing_ok=True)
        wanted = [
            {
                "objective": objective,
                "family": family,
                "instance": name,
                "solver": solver,
                "time_limit": str(given.time_limit),
                "seed": str(given.seed),
            }
            for family, name in _asked(given)
            for objective in objectives_of(name)
            if objective in given.objectives
            for solver in given.solvers
            if solver in solver_names()
        ]
        finished = measure(wanted, path)
        absent = [solver for solver in given.solvers if solver not in solver_names()]
        rows = _chosen(read_rows(path), wanted)
        if rows:
            print(report(rows, name=given.name, absent=absent, complete=finished))
        return 0 if finished else 130
    except ProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _asked(given: argparse.Namespace) -> list[tuple[str, str]]:
    """Family and name of the instances that are asked for."""
    if given.instances is not None:
        return [(LIBRARY.entry(name).family, name) for name in given.instances]
    return [(family, name) for family in given.families for name in sample(family, given.per_family, seed=given.seed)]


def families() -> tuple[str, ...]:
    """The families of the library, and the matrices."""
    return (*LIBRARY.families, *block_matrices.FAMILIES)


def objectives_of(name: str) -> Sequence[str]:
    """The objectives that apply to an instance."""
    return block_matrices.OBJECTIVES if block_matrices.is_block_matrix(name) else LIBRARY.objectives(name)


def sample(family: str, number: int, *, seed: int = 0) -> list[str]:
    """A sample of one family (all instances if there are fewer), always the same for the same seed."""
    own = block_matrices.names(family) if block_matrices.is_block_matrix(family) else names_of(family)
    return solves.sample(family, own, number, seed=seed)


def measure(wanted: Sequence[Row], path: Path) -> bool:
    """Do the solves that are not in the file yet, and append them. Returns whether all are done."""
    return solve_missing(wanted, path, COLUMNS, _solved)


def summarise(rows: Sequence[Row], known: dict[tuple[str, str], Solution | None]) -> list[Row]:
    """One row per family and solver, from the rows of one objective.

    A bound is *wrong* if it is above a known value, see `judged`. The gap of a solve is ``(value - best known) / max(1,
    value)``. It is negative if the value is better than the library's.

    Parameters
    ----------
    rows
        Rows of one objective, as from `read_rows`.
    known
        (instance, objective) to best-known solution.
    """
    greedy = {row["instance"]: int(row["value"]) for row in rows if row["solver"] == "greedy" and row["value"]}
    table = []
    for family in dict.fromkeys(row["family"] for row in rows):
        for solver in dict.fromkeys(row["solver"] for row in rows):
            own = [row for row in rows if (row["family"], row["solver"]) == (family, solver)]
            solved = [row for row in own if row["status"] != "refused"]
            gaps = []
            for row in solved:
                best = known[row["instance"], row["objective"]]
                if best is not None:
                    gaps.append((int(row["value"]) - best.value) / max(1, int(row["value"])))
            left = [
                (int(row["value"]) - int(row["bound"])) / max(1, int(row["value"]))
                for row in solved
                if row.get("bound")
            ]
            seconds = [float(row["seconds"]) for row in solved]
            worse = sum(int(row["value"]) > greedy.get(row["instance"], int(row["value"])) for row in solved)
            table.append(
                {
                    "family": family,
                    "solver": solver,
                    "instances": len(own),
                    "refused": len(own) - len(solved),
                    "wrong": sum(row["status"] == "WRONG" for row in own),
                    "proven": f"{sum(row['status'] == 'OPTIMAL' for row in own) / max(1, len(own)):.0%}",
                    "mean gap": f"{statistics.mean(gaps):.1%}" if gaps else "",
                    "worst gap": f"{max(gaps):.1%}" if gaps else "",
                    "mean open": f"{statistics.mean(left):.1%}" if left else "",
                    "beats best known": sum(gap < 0 for gap in gaps),
                    "worse than greedy": worse,
                    "median s": statistics.median(seconds) if seconds else "",
                    "worst s": max(seconds) if seconds else "",
                }
            )
    return table


def proven_shares(rows: Sequence[Row]) -> list[Row]:
    """One row per family: per solver, the share of solves with a proof, over all objectives."""
    table = []
    for family in dict.fromkeys(row["family"] for row in rows):
        line: Row = {"family": family}
        for solver in dict.fromkeys(row["solver"] for row in rows):
            own = [row["status"] == "OPTIMAL" for row in rows if (row["family"], row["solver"]) == (family, solver)]
            line[solver] = f"{sum(own) / max(1, len(own)):.0%}"
        table.append(line)
    return table


def judged(rows: Sequence[Row], known: dict[tuple[str, str], Solution | None]) -> tuple[list[Row], list[str]]:
    """The rows, with status ``WRONG`` if a bound is above a known value, and a sentence for each wrong bound.

    The best-known solutions are checked in the same way, but only give a sentence.

    Parameters
    ----------
    rows
        As `read_rows` returns them.
    known
        (instance, objective) to best-known solution.
    """
    best = {key: solution.value for key, solution in known.items() if solution is not None}
    for row in rows:
        if row["value"]:
            key = (row["instance"], row["objective"])
            best[key] = min(int(row["value"]), best.get(key, int(row["value"])))
    result, sentences = [], []
    for key, solution in known.items():
        if solution is not None and solution.bound is not None and solution.bound > best[key]:
            sentences.append(_contradiction(f"{solution.bound_solver} (best known)", key, solution.bound, best[key]))
    for row in rows:
        key = (row["instance"], row["objective"])
        wrong = bool(row["bound"]) and int(row["bound"]) > best[key]
        result.append({**row, "status": "WRONG"} if wrong else row)
        if wrong:
            sentences.append(_contradiction(row["solver"], key, int(row["bound"]), best[key]))
    return result, sentences


def _contradiction(solver: str, key: tuple[str, str], bound: int, value: int) -> str:
    return f"{solver} claims that {key[1]} of {key[0]} is at least {bound}, but there is an order of {value}"


def report(rows: Sequence[Row], *, name: str, absent: Sequence[str], complete: bool) -> str:
    """Write the Markdown file and the performance profile; returns the Markdown."""
    known = {(row["instance"], row["objective"]): _best_known(row) for row in rows}
    limits = sorted({row["time_limit"] for row in rows})
    commits = sorted({row["commit"] for row in rows})
    loads = [float(row["load"]) for row in rows if row["load"]]
    lines = [
        "Solvers on samples of the instance library, and of matrices (cbm): "
        f"{len({row['instance'] for row in rows})} instances, {len(rows)} solves, "
        f"time limit {' and '.join(limits)} s each, one thread."
        + ("" if complete else " The run was interrupted; this is what it has.")
        + (f" Not registered, hence absent: {', '.join(absent)}." if absent else ""),
        "",
        f"Solves of commit {', '.join(commits)}. *Gap*: (value - best known) / max(1, value); it is of the solves that "
        "the solver did not refuse. *Open*: (value - bound) / max(1, value), of solves with a bound. *Proven* is "
        "of all instances. Times are of the whole solve, checks included."
        + (f" Load average of the machine meanwhile: {min(loads):.1f} to {max(loads):.1f}." if loads else ""),
    ]
    rows, wrong = judged(rows, known)
    if wrong:
        lines += [
            "",
            "## Wrong bounds",
            "",
            "These solves do not count as proven.",
            "",
            *(f"- {line}." for line in wrong),
        ]
    objectives = dict.fromkeys(row["objective"] for row in rows)
    pooled: list[Row] = []
    for objective in objectives:
        own = [{**row, "family": "all"} for row in rows if row["objective"] == objective]
        pooled += [{"objective": objective, **line} for line in summarise(own, known)]
    lines += ["", "## All families together", "", markdown_table(pooled)]
    lines += ["", "## Proven, family by solver", "", markdown_table(proven_shares(rows))]
    for objective in objectives:
        own = [row for row in rows if row["objective"] == objective]
        lines += ["", f"## {objective}", "", markdown_table(summarise(own, known))]
    performance_profile(rows, DIRECTORY / f"{name}.png")
    lines += ["", "## Performance profile", "", f"![Performance profile]({name}.png)", ""]
    lines += ["Share of instances proven optimal within a factor of the fastest solver's time, per objective."]
    return save_markdown(name, lines)


def _chosen(rows: Sequence[Row], wanted: Sequence[Row]) -> list[Row]:
    """The requested rows: the last one of each kind, in the requested order."""
    by_key = {tuple(row[column] for column in KEY): row for row in rows}
    keys = [tuple(row[column] for column in KEY) for row in wanted]
    return [by_key[key] for key in keys if key in by_key]


def _best_known(row: Row) -> Solution | None:
    """The library's best known solutions of an instance."""
    if block_matrices.is_block_matrix(row["instance"]):
        return None
    return LIBRARY.solutions(row["instance"]).get(row["objective"])


def _solved(row: Row) -> Row:
    """The outcome of one solve."""
    name = row["instance"]
    problem = block_matrices.load(name) if block_matrices.is_block_matrix(name) else LIBRARY.load(name)
    try:
        result = solve(
            problem,
            solver=row["solver"],
            objective=row["objective"],
            time_limit=float(row["time_limit"]),
            seed=int(row["seed"]),
        )
    except SolverError:
        return {"status": "refused"}
    bound = "" if result.bound is None else result.bound
    return {
        "status": str(result.status),
        "value": result.value,
        "bound": bound,
        "seconds": f"{result.runtime:.4f}",
    }


if __name__ == "__main__":
    sys.exit(main())
