"""How large a gap does `auto` leave on random masks, by accesses, channels and the share of kept channels?

Without options, two sets of cells are solved:

- *Promised*: 256 channels, half of them kept, 12 to 48 accesses, ten seconds, three seeds. Each has a largest gap that
  is promised; the page says whether the promise holds.
- *Grid*: accesses times channels times kept shares, three seconds.

With any of the options that name cells, their product is solved instead. Masks are correlated (0.5). Every process has
one thread.

Each solve is appended to ``results/auto_gaps.csv`` at once. Solves in this file are not repeated, so an interrupted
command continues where it stopped; ``--fresh`` begins again. Exit code 0, 2 for bad input, 130 if interrupted.

    python -m benchmarks.auto_gaps --processes 2
    python -m benchmarks.auto_gaps --accesses 16 24 --keep 0.25 --seeds 0 1 --time-limit 5
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from tqdm import tqdm

from benchmarks import results
from benchmarks.results import MEASURED, csv_text, markdown_table, measured_here, provenance_of
from problems import OBJECTIVES, ProblemError
from problems.files import write_text_atomically
from problems.generators import random_masks
from solvers import SolverError, solve

NAME = "auto_gaps"
KEY = ("accesses", "channels", "keep", "correlation", "objective", "seed", "time_limit")
"""Columns that identify a row."""
COLUMNS = (*KEY, "status", "value", "bound", "gap", "seconds", "cpu_seconds", *MEASURED)
PROMISED = {12: 0.0, 14: 0.0, 16: 0.03, 18: 0.03, 20: 0.03, 24: 0.03, 32: 0.08, 48: 0.08}
"""Promised largest gap by number of accesses, for 256 channels of which half are kept, after ten seconds."""
_PROMISED_SECONDS, _PROMISED_SEEDS, _PROMISED_KEEP, _PROMISED_CHANNELS = 10.0, (0, 1, 2), 0.5, 256
_GRID_SECONDS, _GRID_SEEDS = 3.0, (0,)
_GRID_ACCESSES, _GRID_CHANNELS, _GRID_KEEP = (8, 12, 16, 24, 32, 48), (64, 256, 1024, 2048), (0.1, 0.25, 0.5, 0.75)
_OBJECTIVES = ("span", "traffic")
_CORRELATION = 0.5

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows; write CSV and Markdown."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    command = f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip()
    path = results.DIRECTORY / f"{NAME}.csv"
    try:
        wanted = list(cells_of(given))
        if given.processes < 1 or (given.time_limit is not None and not given.time_limit > 0):
            raise ProblemError("--processes must be at least 1, --time-limit above 0")
        if given.fresh:
            path.unlink(missing_ok=True)
        finished = measure(wanted, command, processes=given.processes)
    except (ProblemError, SolverError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = read_rows()
    if rows:
        text = page(rows)
        write_text_atomically(text, results.DIRECTORY / f"{NAME}.md")
        print(text)
    return 0 if finished else 130


def cells_of(given: argparse.Namespace) -> Iterable[Row]:
    """The solves to do: one dictionary per solve, with the columns `KEY`, as text."""
    named = (given.accesses, given.channels, given.keep, given.objectives, given.seeds, given.correlation)
    if any(own is not None for own in (*named, given.time_limit)):
        yield from _product(
            given.accesses or tuple(PROMISED),
            given.channels or (_PROMISED_CHANNELS,),
            given.keep or (_PROMISED_KEEP,),
            given.objectives or _OBJECTIVES,
            given.seeds or _PROMISED_SEEDS,
            _PROMISED_SECONDS if given.time_limit is None else given.time_limit,
            _CORRELATION if given.correlation is None else given.correlation,
        )
        return
    yield from _product(
        tuple(PROMISED), (_PROMISED_CHANNELS,), (_PROMISED_KEEP,), _OBJECTIVES, _PROMISED_SEEDS, _PROMISED_SECONDS
    )
    yield from _product(_GRID_ACCESSES, _GRID_CHANNELS, _GRID_KEEP, _OBJECTIVES, _GRID_SEEDS, _GRID_SECONDS)


def _product(
    accesses: Sequence[int],
    channels: Sequence[int],
    keep: Sequence[float],
    objectives: Sequence[str],
    seeds: Sequence[int],
    time_limit: float,
    correlation: float = _CORRELATION,
) -> Iterable[Row]:
    for values in itertools.product(accesses, channels, keep, [correlation], objectives, seeds, [time_limit]):
        yield {name: str(value) for name, value in zip(KEY, values, strict=True)}


def measure(wanted: Sequence[Row], command: str, *, processes: int) -> bool:
    """Do the solves that are not in the file yet, and append them. Returns whether all are done."""
    path = results.DIRECTORY / f"{NAME}.csv"
    done = {tuple(row[name] for name in KEY) for row in read_rows()}
    waiting = [cell for cell in wanted if tuple(cell.values()) not in done]
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    os.environ["OMP_NUM_THREADS"] = "1"
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        for future in tqdm(as_completed([pool.submit(solved, cell) for cell in waiting]), total=len(waiting)):
            row = {**future.result(), **measured_here("cpu", command)}
            with path.open("a") as file:
                file.write(csv_text([row], COLUMNS).split("\n", 1)[1])
    except KeyboardInterrupt:
        return False
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return True


def solved(cell: Row) -> Row:
    """Solve one cell; returns it with its results."""
    problem = random_masks(
        int(cell["channels"]),
        int(cell["accesses"]),
        keep=float(cell["keep"]),
        correlation=float(cell["correlation"]),
        seed=int(cell["seed"]),
    )
    begun, cpu = time.perf_counter(), time.process_time()
    found = solve(problem, objective=cell["objective"], time_limit=float(cell["time_limit"]))
    return {
        **cell,
        "status": str(found.status),
        "value": found.objective,
        "bound": found.bound,
        "gap": f"{found.gap or 0.0:.5f}",
        "seconds": f"{time.perf_counter() - begun:.3f}",
        "cpu_seconds": f"{time.process_time() - cpu:.3f}",
    }


def read_rows() -> list[Row]:
    """The rows of the CSV file; none if it does not exist."""
    path = results.DIRECTORY / f"{NAME}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def page(rows: Sequence[Row]) -> str:
    """The Markdown page: the promises, then every other cell, accesses by kept share."""
    lines = [
        "# What `auto` leaves open on random masks",
        "",
        f"{len(rows)} solves of one thread. *Gap*: (value - bound) / max(1, value); a cell has its mean over the "
        "seeds, and the largest where there are several.",
        "",
        provenance_of(rows),
    ]
    promised = promises(rows)
    if promised:
        lines += ["", "## Promised", "", "256 channels, half of them kept, ten seconds.", "", markdown_table(promised)]
    for objective in dict.fromkeys(row["objective"] for row in rows):
        own = [row for row in rows if row["objective"] == objective]
        lines += ["", f"## {objective}", "", markdown_table(grid(own))]
    return "\n".join([*lines, ""])


def promises(rows: Sequence[Row]) -> list[Row]:
    """One row per promise (number of accesses and objective), and whether it holds."""
    table = []
    for accesses, limit in PROMISED.items():
        for objective in _OBJECTIVES:
            key = (accesses, _PROMISED_CHANNELS, _PROMISED_KEEP, _CORRELATION, objective, _PROMISED_SECONDS)
            gaps = [float(row["gap"]) for row in rows if _numbers(row) == key]
            if gaps:
                table.append(
                    {
                        "accesses": accesses,
                        "objective": objective,
                        "seeds": len(gaps),
                        "mean gap": f"{sum(gaps) / len(gaps):.2%}",
                        "largest gap": f"{max(gaps):.2%}",
                        "promised": f"{limit:.0%}",
                        "holds": "yes" if max(gaps) <= limit else "NO",
                    }
                )
    return table


def grid(rows: Sequence[Row]) -> list[Row]:
    """A row per time limit, correlation, channels and accesses; a column per kept share; of one objective."""
    keeps = sorted({float(row["keep"]) for row in rows})
    keys = sorted(
        {(float(r["time_limit"]), float(r["correlation"]), int(r["channels"]), int(r["accesses"])) for r in rows}
    )
    table = []
    for limit, correlation, channels, accesses in keys:
        line: Row = {
            "seconds": f"{limit:g}",
            "correlation": f"{correlation:g}",
            "channels": channels,
            "accesses": accesses,
        }
        for keep in keeps:
            key = (accesses, channels, keep, correlation, rows[0]["objective"], limit)
            gaps = [float(row["gap"]) for row in rows if _numbers(row) == key]
            most = f" (to {max(gaps):.1%})" if len(gaps) > 1 else ""
            line[f"keep {keep:.0%}"] = f"{sum(gaps) / len(gaps):.1%}{most}" if gaps else ""
        table.append(line)
    return table


def _numbers(row: Row) -> tuple[Any, ...]:
    """The columns that identify a row, without its seed."""
    return (
        *(int(row["accesses"]), int(row["channels"]), float(row["keep"]), float(row["correlation"])),
        *(row["objective"], float(row["time_limit"])),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accesses", type=int, nargs="+", help="numbers of accesses")
    parser.add_argument("--channels", type=int, nargs="+", help="numbers of channels [256]")
    parser.add_argument("--keep", type=float, nargs="+", help="shares of the channels that each access keeps [0.5]")
    parser.add_argument("--correlation", type=float, help="between the scores of two accesses [0.5]")
    parser.add_argument("--objectives", nargs="+", choices=[own for own in OBJECTIVES if own != "latency"])
    parser.add_argument("--seeds", type=int, nargs="+", help="of the masks [0 1 2]")
    parser.add_argument("--time-limit", type=float, help="seconds per solve [10]")
    parser.add_argument("--processes", type=int, default=1, help="solves at a time, one thread each [1]")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
