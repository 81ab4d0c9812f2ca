"""Coverage: export and verify every network with every amount, mode and solver, one row each.

Rows are appended to ``results/coverage.csv`` as soon as they are measured, those of the family ``wild`` to
``results/coverage_wild.csv``. Rows in these files are not measured again, so an interrupted command continues where it
stopped; ``--retry`` measures failed rows again, ``--again`` all. ``--table`` only writes docs/coverage.md from the
files. Exit code 0 if all requested rows are verified, 1 if not, 130 if interrupted.

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
from benchmarks.coverage.wild.catalogue import NETWORKS, missing_packages, preload
from benchmarks.results import DIRECTORY

FILES = {"wild": "coverage_wild"}
"""Result files of families that do not share ``coverage``."""
ALL = (("0.1", "0.5", "0.9"), tuple(MODES), ("greedy", "auto"))
WILD = (("0.5",), ("input", "constrained"), ("greedy",))
"""Amounts, modes and solvers: of the families of one library, and of the wild one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows, or write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=FAMILIES, default="classification")
    parser.add_argument("--models", nargs="+", help="of the family [all, smallest first]")
    parser.add_argument("--amounts", nargs="+", help="[0.1 0.5 0.9; wild: 0.5]")
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), help="[all; wild: input constrained]")
    parser.add_argument("--solvers", nargs="+", help="[greedy auto; wild: greedy]")
    parser.add_argument("--objective", default="copies")
    parser.add_argument("--time-limit", type=float, default=2.0, help="seconds per segment [2]")
    parser.add_argument("--seed", type=int, default=0, help="of weights, masks and solvers [0]")
    parser.add_argument("--threads", type=int, default=1, help="of torch [1]")
    parser.add_argument("--retry", action="store_true", help="measure failed rows again")
    parser.add_argument("--again", action="store_true", help="measure all rows again")
    parser.add_argument("--table", action="store_true", help="make docs/coverage.md of the results; measure nothing")
    given = parser.parse_args(arguments)
    paths = {family: DIRECTORY / f"{FILES.get(family, 'coverage')}.csv" for family in FAMILIES}
    if given.table:
        print(save([row for path in dict.fromkeys(paths.values()) for row in read_rows(path)]))
        return 0
    path, wild = paths[given.family], given.family == "wild"
    models = given.models or names(given.family)
    tasks = [
        Task(model, amount, mode, solver, given.objective, given.time_limit, given.seed)
        for model in (_available(models) if wild else models)
        for amount in given.amounts or (WILD if wild else ALL)[0]
        for mode in given.modes or (WILD if wild else ALL)[1]
        for solver in given.solvers or (WILD if wild else ALL)[2]
    ]
    if wild:
        preload([task.model for task in tasks if task.model in NETWORKS])
    if not sweep(given.family, tasks, path, retry=given.retry, again=given.again, num_threads=given.threads):
        return 130
    keys = {key_of(task) for task in tasks}
    failed = [
        row for row in read_rows(path) if tuple(row[name] for name in KEY) in keys and row["status"] != "verified"
    ]
    print(f"{len(tasks) - len(failed)} of {len(tasks)} verified")
    return 1 if failed else 0


def _available(models: Sequence[str]) -> list[str]:
    """The models without those whose package is missing; a sentence says which packages are."""
    missing = missing_packages()
    for package, names_of in missing.items():
        lost = [name for name in names_of if name in models]
        if lost:
            print(f"{package} is missing, so {len(lost)} networks are skipped; run: pip install -e '.[wild]'")
    skipped = {name for names_of in missing.values() for name in names_of}
    return [name for name in models if name not in skipped]


if __name__ == "__main__":
    sys.exit(main())
