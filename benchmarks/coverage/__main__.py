"""Coverage: export and verify every network with every amount, mode and solver, one row each.

Rows are appended to ``results/coverage.csv`` as soon as they are measured. Rows in this file are not measured again, so
an interrupted command continues where it stopped; ``--retry`` measures failed rows again. ``--table`` only writes
docs/coverage.md from the file. Exit code 0 if all requested rows are verified, 1 if not, 130 if interrupted.

    python -m benchmarks.coverage --models resnet18 --amounts 0.5
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.coverage.measurement import Task
from benchmarks.coverage.modes import MODES
from benchmarks.coverage.networks import FAMILIES, names
from benchmarks.coverage.sweep import KEY, key_of, read_rows, sweep
from benchmarks.coverage.tables import save
from benchmarks.results import DIRECTORY


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows, or write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=FAMILIES, default="classification")
    parser.add_argument("--models", nargs="+", help="of the family [all, smallest first]")
    parser.add_argument("--amounts", nargs="+", default=("0.1", "0.5", "0.9"))
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), default=tuple(MODES), help="[all]")
    parser.add_argument("--solvers", nargs="+", default=("greedy", "auto"))
    parser.add_argument("--objective", default="copies")
    parser.add_argument("--time-limit", type=float, default=2.0, help="seconds per segment [2]")
    parser.add_argument("--seed", type=int, default=0, help="of weights, masks and solvers [0]")
    parser.add_argument("--threads", type=int, default=1, help="of torch [1]")
    parser.add_argument("--retry", action="store_true", help="measure failed rows again")
    parser.add_argument("--table", action="store_true", help="make docs/coverage.md of the results; measure nothing")
    given = parser.parse_args(arguments)
    path = DIRECTORY / "coverage.csv"
    if given.table:
        print(save(read_rows(path)))
        return 0
    tasks = [
        Task(model, amount, mode, solver, given.objective, given.time_limit, given.seed)
        for model in given.models or names(given.family)
        for amount in given.amounts
        for mode in given.modes
        for solver in given.solvers
    ]
    if not sweep(given.family, tasks, path, retry=given.retry, num_threads=given.threads):
        return 130
    keys = {key_of(task) for task in tasks}
    failed = [
        row for row in read_rows(path) if tuple(row[name] for name in KEY) in keys and row["status"] != "verified"
    ]
    print(f"{len(tasks) - len(failed)} of {len(tasks)} verified")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
