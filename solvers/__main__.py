"""What the solvers would do, and what steers them: no solve is run.

    python -m solvers --explain INSTANCE [--objective NAME] [--time-limit SECONDS]
    python -m solvers --constants

`--explain` lists the methods that `auto` would ask about an instance, in order, with their shares of the time and the
reasons. `--constants` lists the numbers that steer the methods. Exit code 2: bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from problems import OBJECTIVES, Problem, ProblemError, read_instance
from problems.collection import load, names
from solvers.common.errors import SolverError
from solvers.constants import constants, table
from solvers.explaining import explained
from solvers.solving import GREEDY_SHARE

_LEGEND = (
    "Numbers that steer the methods: name, value, unit, reason or measurement.",
    "'by hand': chosen in 2026 while the method was tried out; no measurement was kept.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was asked for; returns the exit code, 2 for bad input."""
    parser = _Parser(
        prog="python -m solvers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--explain", metavar="INSTANCE", help="A file, or the name of an instance of the library.")
    parser.add_argument("--objective", help=f"One of {', '.join(OBJECTIVES)}. [copies]")
    parser.add_argument("--time-limit", type=float, help="Seconds. [10]")
    parser.add_argument("--constants", action="store_true", help="The numbers that steer the methods.")
    try:
        given = parser.parse_args(arguments)
        if given.constants == (given.explain is not None):
            raise SolverError("give either --explain INSTANCE or --constants; --help says more")
        if given.constants and (given.objective is not None or given.time_limit is not None):
            raise SolverError("--objective and --time-limit belong to --explain; leave them out")
        lines = [*_LEGEND, *table(constants())] if given.constants else _explanation(given)
    except (ProblemError, SolverError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for line in lines:
        print(line.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(sys.stdout.encoding or "utf-8"))
    return 0


class _Parser(argparse.ArgumentParser):
    """Whose errors are those of files."""

    def error(self, message: str) -> NoReturn:
        """What is wrong with the command line."""
        raise SolverError(f"{message}; --help says what can be given")


def _explanation(given: argparse.Namespace) -> list[str]:
    """What `auto` would do with an instance, line by line."""
    problem = _instance(given.explain)
    objective = "copies" if given.objective is None else given.objective
    seconds = 10.0 if given.time_limit is None else given.time_limit
    legs = explained(problem, objective=objective, time_limit=seconds)
    return [
        f"{problem}; objective {objective}, {seconds:g} s",
        f"Starts from the best of greedy's order (at most {GREEDY_SHARE:.0%} of the time) and the one it came with.",
        "Steps are taken in order until the bound meets the value. Shares are of the time that is left then.",
        *("\n" + str(leg) for leg in legs),
    ]


def _instance(name: str) -> Problem:
    """An instance from a file, or from the library."""
    return load(name) if not Path(name).exists() and name in names() else read_instance(name)


if __name__ == "__main__":
    sys.exit(main())
