"""Do sweeps survive being killed, and do two processes pay? Sweeps of small networks, undisturbed and disturbed.

An undisturbed sweep comes first, with one process and with two. Then, engine by engine, the same sweep is killed
(signal 9) at random times and started again: in turn the command itself and one of its worker processes. At the end
the store must have every cell once, with the same figures as the undisturbed sweep. No other program should run
meanwhile. Exit code 0 if all holds, 1 if not, 2 for bad input, 130 if interrupted.

    python -m benchmarks.sweeps --cells 1000 --kills 10 --engines processes ray
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from upscale_opt import UpscaleError
from upscale_opt.sweeps.engines.interface import cores
from upscale_opt.sweeps.rows import Row
from upscale_opt.sweeps.stores import open_store

NAME = "sweeps"
ROOT = Path(__file__).parent.parent
NETWORKS = ("residual", "dense", "inverted")
"""Networks of `benchmarks.accuracy.cells`: small, with branches and concatenations."""
FACTOR = 1.7
"""Two processes should be faster than one by at least this factor."""
CELLS_PER_AMOUNT = 3 * 3 * 2 * 2 * 2
POLL_SECONDS = 0.05


def declaration(num_cells: int) -> dict[str, Any]:
    """A sweep of about so many cells that do not measure latencies."""
    amounts = max(1, round(num_cells / CELLS_PER_AMOUNT))
    return {
        "models": [f"{ROOT}/benchmarks/accuracy/cells.py:{name}" for name in NETWORKS],
        "input_shape": [1, 1, 8, 8],
        "amounts": [f"{0.9 * (number + 1) / amounts:.3f}" for number in range(amounts)],
        "masks": [{"importance": ["l1", "l2", "fpgm"], "mode": ["input", "constrained"]}],
        "objectives": ["copies", "traffic"],
        "methods": ["greedy", "auto"],
    }


class Sweep:
    """A sweep in a directory, which runs as a process of its own."""

    def __init__(self, directory: Path, name: str, num_cells: int, engine: str, workers: int) -> None:
        self.file, self.store = directory / f"{name}.json", directory / f"{name}.sqlite"
        self.log = directory / f"{name}.log"
        self.file.write_text(json.dumps(declaration(num_cells)))
        self.engine, self.workers = engine, workers
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start or go on."""
        command = [sys.executable, "-m", "upscale_opt", "sweep", str(self.file), "--store", str(self.store)]
        command += ["--engine", self.engine, "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        return self.process

    def stop(self) -> None:
        """End the process, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def finish(self) -> float:
        """Run until every cell has a row. Returns seconds.

        Raises
        ------
        UpscaleError
            If it fails.
        """
        started = time.perf_counter()
        try:
            code = self.start().wait()
        finally:
            self.stop()
        if code:
            raise UpscaleError(f"the sweep ended with exit code {code}; see {self.log}")
        return time.perf_counter() - started

    def rows(self) -> list[Row]:
        """The rows so far."""
        if not self.store.exists():
            return []
        with open_store(self.store, create=False) as store:
            return list(store.rows())

    def count(self) -> int:
        """Number of rows so far."""
        if not self.store.exists():
            return 0
        with open_store(self.store, create=False) as store:
            return len(store.known())


def disturb(sweep: Sweep, kills: int, rng: random.Random, total: int) -> list[dict[str, Any]]:
    """Kill a sweep at random times, in turn the command and one of its workers, and let it finish.

    Returns
    -------
    list
        What was killed, and how many rows there were.
    """
    try:
        return _disturbed(sweep, kills, rng, total)
    finally:
        sweep.stop()


def _disturbed(sweep: Sweep, kills: int, rng: random.Random, total: int) -> list[dict[str, Any]]:
    killed: list[dict[str, Any]] = []
    process = sweep.start()
    for number in range(kills):
        target = rng.uniform(number, number + 1) * total / (kills + 1)
        while process.poll() is None and sweep.count() < target:
            time.sleep(POLL_SECONDS)
        if process.poll() is not None:
            break
        time.sleep(rng.uniform(0, 1))
        victims = [process.pid] if number % 2 == 0 else computing_below(process.pid) or [process.pid]
        victim = rng.choice(victims)
        before = sweep.count()
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed.append({"what": "command" if victim == process.pid else "worker", "rows": before})
        if victim == process.pid:
            process.wait()
            if sweep.count() < before:
                raise UpscaleError(f"rows were lost when the sweep was killed; see {sweep.store}")
            process = sweep.start()
    process.wait()
    sweep.finish()
    return killed


def computing_below(parent: int) -> list[int]:
    """Processes below a process that have torch in their memory: those that compute."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            own, _, rest = path.read_text().partition(" ")
            children.setdefault(int(rest.rpartition(")")[2].split()[1]), []).append(int(own))
        except OSError:
            continue
    below, waiting = [], [parent]
    while waiting:
        found = children.get(waiting.pop(), [])
        below += found
        waiting += found
    return [own for own in below if _has_torch(own)]


def _has_torch(process: int) -> bool:
    try:
        return "libtorch" in Path(f"/proc/{process}/maps").read_text()
    except OSError:
        return False


def differences(undisturbed: Sequence[Row], rows: Sequence[Row]) -> dict[str, int]:
    """How many cells are lost, are there twice, failed, or have other figures than in the undisturbed sweep."""
    expected = {row.address: row.result() for row in undisturbed}
    counts = Counter(row.address for row in rows)
    return {
        "lost": len(expected.keys() - counts.keys()),
        "twice": sum(number > 1 for number in counts.values()),
        "unknown": len(counts.keys() - expected.keys()),
        "failed": sum(not row.done for row in rows),
        "different": sum(row.result() != expected[row.address] for row in rows if row.address in expected),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all sweeps, print and save."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # sweeps end with this process
    try:
        with tempfile.TemporaryDirectory() as temporary:
            directory = given.work or Path(temporary)
            directory.mkdir(parents=True, exist_ok=True)
            rows, factor = _measured(directory, given)
    except KeyboardInterrupt:
        return 130
    except UpscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip()
    told = (
        "" if factor is None else f" Two processes were {factor:.2f} times as fast as one (at least {FACTOR} wanted)."
    )
    summary = (
        "Sweeps of small networks, killed (signal 9) at random times and started again; `lost` to `different` compare "
        f"the store with that of an undisturbed sweep.{told} The command was `{command}`."
    )
    print(results.save(given.name, rows, summary) if given.name else results.markdown_table(rows))
    wrong = sum(row[name] for row in rows for name in ("lost", "twice", "unknown", "failed", "different"))
    slow = factor is not None and factor < FACTOR
    return 1 if wrong or slow else 0


def _measured(directory: Path, given: argparse.Namespace) -> tuple[list[dict[str, Any]], float | None]:
    """The rows of the table, and how much faster two processes are than one."""
    seconds: dict[int, float] = {}
    table: list[dict[str, Any]] = []
    undisturbed: list[Row] = []
    for workers in (1, 2) if given.scaling else (2,):
        sweep = Sweep(directory, f"undisturbed-{workers}", given.cells, "processes", workers)
        seconds[workers] = sweep.finish()
        rows = sweep.rows()
        undisturbed = undisturbed or rows
        table.append(_row("processes", workers, rows, undisturbed, seconds[workers], []))
        print(table[-1], flush=True)
    for number, engine in enumerate(given.engines):
        sweep = Sweep(directory, f"killed-{engine.replace(':', '-')}", given.cells, engine, given.workers)
        started = time.perf_counter()
        killed = disturb(sweep, given.kills, random.Random(given.seed + number), len(undisturbed))
        taken = time.perf_counter() - started
        table.append(_row(engine, given.workers, sweep.rows(), undisturbed, taken, killed))
        print(table[-1], flush=True)
    return table, seconds[1] / seconds[2] if given.scaling else None


def _row(
    engine: str, workers: int, rows: Sequence[Row], undisturbed: Sequence[Row], seconds: float, killed: Sequence[Any]
) -> dict[str, Any]:
    kinds = Counter(own["what"] for own in killed)
    return {
        "engine": engine,
        "workers": workers,
        "cells": len(rows),
        "killed commands": kinds["command"],
        "killed workers": kinds["worker"],
        **differences(undisturbed, rows),
        "seconds": round(seconds, 1),
        "CPU seconds": round(sum(row.costs.get("cpu_seconds", 0) for row in rows), 1),
        "peak GB": round(max(row.costs.get("peak_bytes", 0) for row in rows) / 1e9, 2),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=1000, help="about so many [1000]")
    parser.add_argument("--kills", type=int, default=10, help="per engine [10]")
    parser.add_argument("--engines", nargs="+", default=["processes", "ray"], help="that are killed [processes ray]")
    parser.add_argument("--workers", type=int, default=cores(), help="of killed sweeps [one per core]")
    parser.add_argument("--no-scaling", dest="scaling", action="store_false", help="do not compare two with one")
    parser.add_argument("--seed", type=int, default=0, help="of the times [0]")
    parser.add_argument("--work", type=Path, help="directory of the stores, which stays; an old one goes on")
    parser.add_argument("--name", default=NAME, help="of the files in benchmarks/results; empty: none [sweeps]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
