"""Random tiny instances by seed: compare all solvers with each other and with an independent brute force.

    python -m benchmarks.agreement --instances 20000 --seed 0 --jobs 2
    python -m benchmarks.agreement --instances 1 --seed 123
    python -m benchmarks.agreement --joint --instances 20000

An instance may have everything that a file can hold: blocks that are pinned, not removable or with required channels,
blocks that are read several times, channel sizes, weights, cost tables, bundles, constraints. Each is solved for two
objectives: known ones, or custom prices. `auto` always solves it. Each quick solver solves two instances of five, and a
slow one (CP-SAT, HiGHS) one of three; the seed decides which. An instance with a contradiction is written to a file.

With ``--joint`` the instances are joint problems, where accesses choose what they keep: enumeration, constraint program
and relaxation are compared on every one, and the enumeration with a second one where there are few choices.

Exit code 1 if there is any contradiction, 2 for bad input, 130 if interrupted (the message says how to continue).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.agreement.running import outcomes
from problems import ProblemError
from problems.files import write_text_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=500, help="how many [500]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first instance; the others follow [0]")
    parser.add_argument("--jobs", type=int, default=1, help="processes [1]")
    parser.add_argument(
        "--directory", type=Path, default=Path("agreement"), help="directory for contradictions [agreement]"
    )
    parser.add_argument("--joint", action="store_true", help="joint problems instead of ordering problems")
    given = parser.parse_args(arguments)
    for name, least in (("instances", 1), ("seed", 0), ("jobs", 1)):
        if getattr(given, name) < least:
            print(f"error: --{name} is {getattr(given, name)}; give a number from {least}", file=sys.stderr)
            return 2
    try:
        return _run(range(given.seed, given.seed + given.instances), given.jobs, given.directory, joint=given.joint)
    except ProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(seeds: range, jobs: int, directory: Path, *, joint: bool) -> int:
    counts: Counter[str] = Counter()
    started, done, wrong = time.perf_counter(), 0, 0
    try:
        with tqdm(total=len(seeds), unit="instance", file=sys.stderr) as bar:
            for seed, outcome in outcomes(seeds, jobs, joint=joint):
                counts.update(outcome.counts)
                done, wrong = done + 1, wrong + bool(outcome.contradictions)
                if outcome.contradictions:
                    path = _write(outcome.document, directory)
                    for contradiction in outcome.contradictions:
                        bar.write(f"seed {seed} ({path}): {contradiction}", file=sys.stdout)
                bar.set_postfix_str(f"{wrong} with contradictions", refresh=False)
                bar.update()
    except KeyboardInterrupt:
        left = len(seeds) - done
        print(f"interrupted; go on with --seed {seeds.start + done} --instances {left}", file=sys.stderr)
    seconds = time.perf_counter() - started
    told = ", ".join(f"{number} {what}" for what, number in counts.items())
    print(f"seeds {seeds.start}:{seeds.start + done}: {wrong} instances with contradictions; {told}; {seconds:.0f} s")
    return 1 if wrong else 0 if done == len(seeds) else 130


def _write(document: dict[str, object], directory: Path) -> Path:
    """The instance, as a file that `problems.read_instance` or `problems.read_joint` reads."""
    path = directory / f"{document['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = document.get("text")
    write_text_atomically(text if isinstance(text, str) else json.dumps(document, indent=1) + "\n", path)
    return path


if __name__ == "__main__":
    sys.exit(main())
