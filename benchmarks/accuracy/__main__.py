"""Accuracy and latency on digits: every importance, BiP and GaP; every mode; three networks, three seeds.

First all cells are pruned and trained (``--jobs`` processes of one thread each). Then latencies are measured, one cell
after the other; no other program should run meanwhile. Cells in ``results/accuracy.csv`` are not done again, so an
interrupted command continues where it stopped. Exit code 0, 2 for bad input, 130 if interrupted.

    python -m benchmarks.accuracy --networks residual --seeds 0 --methods l2 bip
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import results
from benchmarks.accuracy import latencies, learning
from benchmarks.accuracy.cells import AMOUNTS, IMPORTANCES, KEY, LEARNT, MODES, NETWORKS, SEEDS, Cell, cells_of
from benchmarks.accuracy.latencies import each_latency
from benchmarks.accuracy.learning import each_row
from benchmarks.accuracy.pictures import save_curves
from benchmarks.accuracy.tables import page
from benchmarks.results import commit, csv_text, read_rows
from problems.files import write_text_atomically
from upscale_opt import UpscaleError

NAME = "accuracy"
COLUMNS = (*KEY, *learning.FIGURES, *latencies.FIGURES, "batch", "runs", "commit", "latency_commit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the missing cells; write CSV, Markdown and picture."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    cells = cells_of(given.networks, given.seeds, given.methods, given.modes, given.amounts)
    rows = {} if given.fresh else {tuple(row[name] for name in KEY): row for row in read_rows(_path())}
    picture = f"{NAME}.png"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks are small
    try:
        _learn(cells, rows, given)
        if not given.no_latency:
            _measure(cells, rows, given)
        text = page(list(rows.values()), f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip(), picture)
    except KeyboardInterrupt:
        return 130
    except UpscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        torch.set_num_threads(threads)
    save_curves(list(rows.values()), results.DIRECTORY / picture)
    write_text_atomically(text, results.DIRECTORY / f"{NAME}.md")
    print(text.partition("## Every cell")[0])
    return 0


def _learn(cells: Sequence[Cell], rows: dict[tuple[str, ...], learning.Row], given: argparse.Namespace) -> None:
    missing = [cell for cell in cells if cell.key not in rows]
    if not missing:
        return
    where = commit()
    for cell, row in tqdm(each_row(missing, given.work, given.jobs), "prune and train", len(missing), unit="cell"):
        rows[cell.key] = {**row, "commit": where}
        _write(rows)


def _measure(cells: Sequence[Cell], rows: dict[tuple[str, ...], learning.Row], given: argparse.Namespace) -> None:
    missing = [cell for cell in cells if rows[cell.key]["status"] == "ok" and not rows[cell.key].get("exact")]
    options, where = {"batch": given.batch, "runs": given.runs}, commit()
    found = each_latency(missing, given.work, **options, time_limit=given.time_limit)
    for cell, row in tqdm(found, "measure", len(missing), unit="cell"):
        rows[cell.key] = {**rows[cell.key], **row, **options, "latency_commit": where}
        _write(rows)


def _write(rows: dict[tuple[str, ...], learning.Row]) -> None:
    full = [{name: row.get(name, "") for name in COLUMNS} for row in rows.values()]
    write_text_atomically(csv_text(full), _path())


def _path() -> Path:
    return results.DIRECTORY / f"{NAME}.csv"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--methods", nargs="+", choices=(*IMPORTANCES, *LEARNT), default=(*IMPORTANCES, *LEARNT))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--amounts", nargs="+", default=AMOUNTS)
    parser.add_argument("--jobs", type=int, default=2, help="processes that train [2]")
    parser.add_argument(
        "--work", type=Path, default=Path("build") / NAME, help="dense weights and masks [build/accuracy]"
    )
    parser.add_argument("--batch", type=int, default=128, help="images per pass where latency is measured [128]")
    parser.add_argument("--runs", type=int, default=9, help="rounds [9]")
    parser.add_argument("--time-limit", type=float, default=1.0, help="seconds per segment and solver [1]")
    parser.add_argument("--no-latency", action="store_true", help="only prune and train")
    parser.add_argument("--fresh", action="store_true", help="forget what was done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
