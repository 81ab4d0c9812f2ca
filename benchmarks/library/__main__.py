"""Build the instance library, improve its best-known solutions, or derive their bounds again.

python -m benchmarks.library --build
python -m benchmarks.library --build --only "classical/blocks/*"
python -m benchmarks.library --update --time-limit 10 --only "resnet50/*"
python -m benchmarks.library --rederive --time-limit 1

New files lie in the library's directory until they are packed into the archives, at the end of every command.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.library.rederive import rederive
from benchmarks.library.update import update
from problems import OBJECTIVES, ProblemError
from problems.collection import LIBRARY, Collection
from solvers import solver_names

PREFERRED = ("auto", "pair-of-chains", "cp-sat")
"""Solvers tried by default, as far as they are registered."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for bad input, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.library", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", action="store_true", help="write the instances (needs scikit-learn; 10 minutes)")
    parser.add_argument("--update", action="store_true", help="solve what is not proven, keep what is better")
    parser.add_argument("--rederive", action="store_true", help="prove again what other versions of the package proved")
    parser.add_argument(
        "--accept-weaker", action="store_true", help="with --rederive: a weaker bound replaces one that is not reached"
    )
    parser.add_argument(
        "--solver",
        action="append",
        choices=solver_names(),
        help="may repeat [auto, pair-of-chains, cp-sat]",
    )
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds per solve [10]")
    parser.add_argument("--seed", type=int, default=0, help="of the solvers [0]")
    parser.add_argument("--only", default="*", help="pattern of instance names, such as 'resnet50/*'")
    parser.add_argument("--objective", action="append", choices=tuple(OBJECTIVES), help="may repeat [all that apply]")
    parser.add_argument("--pack", action="store_true", help="move all files into archives; the others do so in the end")
    parser.add_argument("--missing", action="store_true", help="only what nobody has solved yet")
    parser.add_argument("--directory", type=Path, default=LIBRARY.directory, help="of the library")
    given = parser.parse_args(arguments)
    if not (given.build or given.update or given.rederive or given.pack):
        parser.error("say what to do: --build, --update, --rederive, --pack, or several of them")
    if given.accept_weaker and not given.rederive:
        parser.error("--accept-weaker goes with --rederive")
    try:
        if given.build:
            from benchmarks.library.build import build, build_classical

            if given.only == "*":
                print(f"{build(Collection(given.directory))} instances in {given.directory}")
            else:
                written = build_classical(Collection(given.directory), given.only)
                print(f"{written} classical instances written; those of networks are built without --only")
        solvers = given.solver or [name for name in PREFERRED if name in solver_names()]
        common = {
            "time_limit": given.time_limit,
            "seed": given.seed,
            "only": given.only,
            "objectives": given.objective,
        }
        counts: Counter[str] = Counter()
        if given.rederive:
            counts += rederive(Collection(given.directory), solvers, **common, accept_weaker=given.accept_weaker)
        if given.update and not counts["interrupted"]:
            counts += update(Collection(given.directory), solvers, **common, missing=given.missing)
        print(f"{Collection(given.directory).pack()} files went into archives")
        if given.rederive or given.update:
            print(", ".join(f"{number} {what}" for what, number in counts.items()))
            return 130 if counts["interrupted"] else 0
    except ProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
