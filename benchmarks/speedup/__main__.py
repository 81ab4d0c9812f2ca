"""From a target speedup to a network: the library's methods, free masks and Torch-Pruning, on this CPU.

A cell is a network, a target, a method, and how time is measured. Its row is written to ``results/speedup.jsonl`` as
soon as it is done, so an interrupted command continues where it stopped. No other program should run meanwhile. Cells
whose method or package is missing are left out, with a line that says so. Exit code 0, 1 if a cell failed, 2 for bad
input, 130 if interrupted.

    python -m benchmarks.speedup --only mobilenet_v2 --targets 2 --methods uniform joint --backends eager --batches 1
"""

from __future__ import annotations

import argparse
import functools
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import results
from benchmarks.results import Row
from benchmarks.speedup import cells, records
from benchmarks.speedup.cells import Cell, cells_of
from benchmarks.speedup.judging import FAILED, judged
from benchmarks.speedup.methods import Settings, missing
from benchmarks.speedup.networks import NETWORKS
from benchmarks.speedup.pictures import save_pictures
from benchmarks.speedup.searching import REFUSALS
from benchmarks.speedup.subjects import Subject, subject_of
from benchmarks.speedup.tables import page
from problems.files import write_text_atomically
from upscale_opt.latency.calibration import Effort

NAME = "speedup"
QUICK: dict[str, Any] = {
    "only": ["resnet20"],
    "targets": ["2"],
    "methods": [cells.UNIFORM, cells.HALP, cells.JOINT],
    "backends": ["eager"],
    "batches": [8],
    "seeds": [0],
    "budgets": [cells.TIME],
    "images": 64,
    "repeats": 5,
    "rounds": 2,
}
"""What ``--quick`` sets, unless it is given as well."""
DEFAULTS: dict[str, Any] = {
    "only": list(NETWORKS),
    "targets": list(cells.TARGETS),
    "methods": list(cells.DEFAULT_METHODS),
    "backends": list(cells.BACKENDS),
    "batches": list(cells.BATCHES),
    "seeds": list(cells.SEEDS),
    "budgets": list(cells.BUDGETS),
    "images": 128,
    "repeats": 15,
    "rounds": 4,
}
QUICK_EFFORT = Effort(rounds=3, seconds=0.001)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make and judge the missing cells; write rows, pictures and page."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    for name, value in (QUICK if given.quick else DEFAULTS).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    if given.threads:
        torch.set_num_threads(given.threads)
    directory = given.work if given.quick else results.DIRECTORY
    wanted = cells_of(
        given.only, given.seeds, given.budgets, given.targets, given.backends, given.batches, given.methods
    )
    command = f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip()
    path = directory / f"{NAME}.jsonl"
    rows = records.read(path)
    try:
        finished = _run(wanted, rows, path, given, command)
    except KeyboardInterrupt:
        return 130
    except REFUSALS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if rows:
        text = page(list(rows.values()), save_pictures(list(rows.values()), directory, NAME))
        write_text_atomically(text, directory / f"{NAME}.md")
        print(text.partition("## Every method")[0])
    if not finished and not rows:
        return 2
    return 1 if any(own.key in rows and rows[own.key]["status"] == FAILED for own in wanted) else 0


def _run(
    wanted: Sequence[Cell],
    rows: dict[tuple[str, ...], Row],
    path: Path,
    given: argparse.Namespace,
    command: str,
) -> int:
    """Make the cells that are missing. Returns how many of all wanted ones have a row now."""
    effort = QUICK_EFFORT if given.quick else None
    settings = Settings(given.work, given.tables, given.repeats, given.rounds, effort=effort)
    noted = {name: getattr(given, name) for name in ("images", "image_size", "repeats", "rounds", "quick")}
    noted["threads"] = torch.get_num_threads()
    subject = functools.lru_cache(maxsize=2)(
        functools.partial(subject_of, work=given.work, num_images=given.images, image_size=given.image_size)
    )
    left = [cell for cell in wanted if given.fresh or not records.is_done(rows, cell.key)]
    stop = time.monotonic() + 60 * given.budget_minutes if given.budget_minutes else float("inf")
    told: set[str] = set()
    for number, cell in enumerate(tqdm(left, unit="cell")):
        if time.monotonic() > stop:
            tqdm.write(f"{given.budget_minutes:g} minutes are over; up to {len(left) - number} cells are left")
            break
        own = _subject_or_reason(cell, subject)
        if isinstance(own, str):
            if own not in told:
                tqdm.write(f"left out: {own}", file=sys.stderr)
            told.add(own)
            continue
        if given.fresh:
            shutil.rmtree(settings.journal_of(cell), ignore_errors=True)
        row = judged(cell, own, settings)
        rows[cell.key] = records.append(row, path, command=command, settings=noted)
        tqdm.write(f"{cell.name}: {_line(row)}")
    return sum(cell.key in rows for cell in wanted)


def _subject_or_reason(cell: Cell, subject: Callable[[str, int, int], Subject]) -> Subject | str:
    """The subject of a cell, or why the cell cannot be made here."""
    reason = missing(cell)
    if reason is not None:
        return reason
    try:
        return subject(cell.network, cell.seed, cell.batch)
    except REFUSALS as error:
        return str(error)


def _line(row: Row) -> str:
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    return f"{row['measured']:.2f}x, KL {row['kl']:.4g}, same class {100 * row['agreement']:.1f} %"


def _target(text: str) -> str:
    """A speedup as text, such as 2 or 1.33."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 1 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a target is {text!r}; give a number above 1, such as 2")
    return f"{value:g}"


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, metavar="NETWORK", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--methods", nargs="+", choices=list(cells.METHODS), metavar="METHOD", help="[all but mdp]")
    parser.add_argument("--targets", nargs="+", type=_target, help=f"speedups [{' '.join(cells.TARGETS)}]")
    parser.add_argument("--backends", nargs="+", choices=cells.BACKENDS)
    parser.add_argument("--batches", nargs="+", type=_positive, help="batch sizes [1 8]")
    parser.add_argument("--seeds", nargs="+", type=int, help="of networks that are trained here [0 1 2]")
    parser.add_argument("--budgets", nargs="+", choices=cells.BUDGETS, help="what the target is about [both]")
    parser.add_argument("--images", type=_positive, help="images to choose and repair with [128]")
    parser.add_argument("--image-size", type=_positive, default=224, help="pixels of the crops of photos [224]")
    parser.add_argument("--repeats", type=_positive, help="rounds of a measurement [15]")
    parser.add_argument("--rounds", type=_positive, help="turns of the library's closed loop [4]")
    parser.add_argument("--threads", type=_positive, help="threads of torch")
    parser.add_argument("--budget-minutes", type=float, help="start no more cells after so many minutes")
    parser.add_argument(
        "--quick", action="store_true", help="one network, one target, three methods; rows go to --work"
    )
    parser.add_argument("--work", type=Path, default=Path("build") / NAME, help="trained weights [build/speedup]")
    parser.add_argument("--tables", type=Path, help="directory of measured tables [the package's own]")
    parser.add_argument("--fresh", action="store_true", help="make these cells again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
