"""Random networks by seed: trace, prune, export, compare.

    python -m benchmarks.random_networks --seeds 0:20000
    python -m benchmarks.random_networks --seeds 20000:40000 --jobs 2
    python -m benchmarks.random_networks --seeds 0:1000 --streams
    python -m benchmarks.random_networks --seeds 123 --show
    python -m benchmarks.random_networks --seeds 123 --show --save tests/benchmarks/faults/NAME.json

Exit code 1 if any network is wrong, 130 if interrupted (the message says how to continue).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from benchmarks.random_networks.checks import Verdict, check
from benchmarks.random_networks.networks import OPERATORS
from benchmarks.random_networks.recipes import save
from benchmarks.random_networks.running import CHUNK, network_of, outcome_of, outcomes
from benchmarks.random_networks.shrinking import shrink


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.random_networks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", default="0:500", help="FIRST:BEHIND_LAST, or one seed [0:500]")
    parser.add_argument("--jobs", type=int, default=1, help="processes [1]")
    parser.add_argument("--without", default="", help="operators to leave out, with commas between them")
    parser.add_argument("--streams", action="store_true", help="only networks of residual streams")
    parser.add_argument("--show", action="store_true", help="print each network, shortened if it is wrong")
    parser.add_argument("--save", metavar="FILE", help="with --show and one seed: write the network to a JSON file")
    given = parser.parse_args(arguments)
    try:
        seeds = _seeds(given.seeds)
    except ValueError:
        print(f"error: --seeds is {given.seeds!r}; give FIRST:BEHIND_LAST or one number", file=sys.stderr)
        return 2
    without = tuple(filter(None, given.without.split(",")))
    unknown = set(without) - {operator.__name__ for operator in OPERATORS}
    if unknown:
        print(f"error: there is no operator {min(unknown)!r}", file=sys.stderr)
        return 2
    if given.save and not (given.show and len(seeds) == 1):
        print("error: --save needs --show and one seed", file=sys.stderr)
        return 2
    if given.show:
        return max(show(seed, without, streams=given.streams, path=given.save) for seed in seeds)
    counts: Counter[Verdict] = Counter()
    unproven: Counter[str] = Counter()
    started, channels, movable, done = time.perf_counter(), 0, 0, 0
    try:
        with tqdm(total=len(seeds), unit="network", file=sys.stderr) as bar:
            for seed, outcome in outcomes(seeds, given.jobs, without, streams=given.streams):
                counts[outcome.verdict] += 1
                done, channels, movable = done + 1, channels + outcome.channels, movable + outcome.movable
                if outcome.verdict is Verdict.UNPROVEN:
                    unproven[outcome.kind] += 1
                if outcome.verdict in (Verdict.WRONG, Verdict.SKIPPED):
                    bar.write(f"seed {seed} {outcome.verdict.value}: {outcome.reason}", file=sys.stdout)
                bar.set_postfix_str(f"{counts[Verdict.WRONG]} wrong", refresh=False)
                bar.update()
    except KeyboardInterrupt:
        print(f"interrupted; go on with --seeds {seeds.start + done}:{seeds.stop}", file=sys.stderr)
    except BrokenProcessPool:
        last = min(seeds.start + done + CHUNK * (given.jobs + 1), seeds.stop)
        print(
            f"a process died at one of the seeds {seeds.start + done}:{last}; run them with --jobs 1", file=sys.stderr
        )
        counts[Verdict.WRONG] += 1
    seconds = time.perf_counter() - started
    share = movable / max(1, channels)
    told = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
    print(f"seeds {seeds.start}:{seeds.start + done}: {told}; {share:.0%} of channels movable; {seconds:.0f} s")
    for kind, number in unproven.most_common():
        print(f"  {number} unproven: {kind}")
    if counts[Verdict.WRONG]:
        print("look at one with --seeds SEED --show")
        return 1
    return 0 if done == len(seeds) else 130


def show(seed: int, without: tuple[str, ...] = (), *, streams: bool = False, path: str | None = None) -> int:
    """Print a network and its errors; a wrong network is shortened first. Returns 1 if it is wrong.

    With a path, the network is also written there (`benchmarks.random_networks.recipes`).
    """
    check_seed = seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = network_of(seed, without, streams=streams)
        outcome = outcome_of(seed, without, streams=streams)
        num_steps = len(program.steps)
        if outcome.verdict is Verdict.WRONG:
            program, check_seed = shrink(program, seed, outcome.kind)
            outcome = check(program, check_seed)
            print(f"# seed {seed}, shortened from {num_steps} to {len(program.steps)} statements")
    if path is not None:
        save(program, check_seed, outcome.reason, Path(path))
    print(program.code)
    print(f"# inputs: {', '.join(f'{x.name} {(program.batch, *x.shape[1:])}' for x in program.inputs)}")
    print(f"# {outcome.verdict.value} {outcome.reason}")
    if outcome.detail:
        print(outcome.detail)
    return int(outcome.verdict is Verdict.WRONG)


def _seeds(text: str) -> range:
    first, colon, stop = text.partition(":")
    seeds = range(int(first), int(stop) if colon else int(first) + 1)
    if not seeds:
        raise ValueError(text)
    return seeds


if __name__ == "__main__":
    sys.exit(main())
