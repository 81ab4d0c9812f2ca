"""Widths under a budget of measured time: the proof, the gap, and what published methods lose on the same tables.

For every network, the times of all its layers over both of their widths are measured, and channels are scored by
Fisher's importance. That is a width problem; it is written to ``problems/library/widths``, and used again from there.
Then every method solves it for several speedups. Rows in ``results/widths.csv`` are not solved again. Exit code 0, 2
for bad input, 130 if interrupted.

    python -m benchmarks.widths --models resnet50 --targets 1.5 2
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import MEASURED, Row, markdown_table, measured_here, provenance_of, resumed
from problems import UnreachableSpeedupError, WidthProblem, read_width_problem, write_width_problem
from problems.collection import LIBRARY
from solvers import SolverError, choose_widths
from upscale_opt import ModelReference, load_model, trace
from upscale_opt.importance.fisher import block_losses
from upscale_opt.latency.cost_tables import default_directory
from upscale_opt.widths.candidates import candidate_widths
from upscale_opt.widths.group_calibration import calibrate_groups
from upscale_opt.widths.operator_groups import partition
from upscale_opt.widths.programme import Programme

NAME = "widths"
MODELS = ("resnet50", "mobilenet_v2", "efficientnet_v2_s", "densenet121")
METHODS = ("auto", "lagrangian", "uniform", "halp", "spdy", "mdp")
TARGETS = (1.33, 2.0, 3.0)
STEP, IMAGES, PIXELS = 16, 16, 224
KEY = ("model", "batch", "backend", "target", "method")
COLUMNS = (*KEY, "loss", "bound", "gap", "status", "speedup", "seconds", "time_limit", "threads", *MEASURED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Solve the missing rows; write CSV and Markdown."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    command = f"python -m benchmarks.{NAME} {shlex.join(_portable(arguments))}".strip()
    wanted = {
        (model, str(batch), given.backend, f"{target:g}", method): (model, batch, target, method)
        for model in given.models
        for batch in given.batches
        for target in given.targets
        for method in given.methods
    }
    problems: dict[tuple[str, int], WidthProblem] = {}

    def measured(item: tuple[str, int, float, str]) -> dict[str, list[Row]]:
        where = item[:2]
        if where not in problems:
            problems[where] = _problem(*where, given)
        return {NAME: [_solved(problems[where], item, given, command)]}

    return resumed(
        {NAME: COLUMNS}, wanted, measured, lambda found: page(found[NAME]), key=KEY, fresh=given.fresh, unit="solve"
    )


def _portable(arguments: Sequence[str]) -> list[str]:
    """The arguments without directories of this machine, which change no result.

    Examples
    --------
    >>> _portable(["--tables", "here", "--time-limit", "9", "--instances=there"])
    ['--time-limit', '9']
    """
    directories = ("--tables", "--instances")
    return [
        own
        for before, own in zip(["", *arguments], arguments)
        if before not in directories and own.partition("=")[0] not in directories
    ]


def _problem(model: str, batch: int, given: argparse.Namespace) -> WidthProblem:
    """The problem of a network, from the library or measured now."""
    path = Path(given.instances) / f"{model}-n{batch}-{given.backend}.json"
    if path.exists() and not given.measure:
        return read_width_problem(path)
    network = load_model(ModelReference(model, input_shape=(batch, 3, PIXELS, PIXELS)))
    x = torch.zeros(batch, 3, PIXELS, PIXELS)
    graph = trace(network, x)
    parts = partition(graph)
    candidates = candidate_widths(graph, parts, step=STEP)
    tables = calibrate_groups(
        graph, parts, candidates, (x,), backend=given.backend, directory=given.tables, progress=True
    )
    images = torch.randn(IMAGES, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    scores = block_losses(graph, [(own,) for own in images.split(4)])
    problem = Programme(graph, parts, candidates, scores, tables).problem(1.0, name=path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_width_problem(problem, path)
    return problem


def _solved(problem: WidthProblem, item: tuple[str, int, float, str], given: argparse.Namespace, command: str) -> Row:
    model, batch, target, method = item
    row: dict[str, Any] = dict(zip(KEY, (model, batch, given.backend, f"{target:g}", method), strict=True))
    row |= {"time_limit": given.time_limit, "threads": torch.get_num_threads(), **measured_here("cpu", command)}
    started = time.perf_counter()
    try:
        found = choose_widths(problem.for_speedup(target), method, time_limit=given.time_limit)
    except (UnreachableSpeedupError, SolverError) as error:
        return {**row, "status": "none", "seconds": f"{time.perf_counter() - started:.2f}", "bound": str(error)}
    return {
        **row,
        "loss": found.loss,
        "bound": found.bound,
        "gap": f"{found.gap:.6f}" if found.bound else "",
        "status": found.status.value,
        "speedup": f"{found.speedup:.4f}",
        "seconds": f"{time.perf_counter() - started:.2f}",
    }


def page(rows: Sequence[Row]) -> str:
    """The Markdown page of all rows so far, at least one."""
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(tuple(str(row[name]) for name in KEY[:-1]), {})[row["method"]] = row
    lines = [
        "How to read this: every line is one network, with measured times of all its layers over both of their widths, "
        "and one speedup of the sum of these times. *auto* is the least estimated loss; its gap is to a bound that no "
        "choice of widths under the same tables, estimates and budget can beat. The other columns are the losses of "
        "other methods over that of *auto*: Lagrangian dynamic programme and filling up (*lagrangian*), the same share "
        "of every block (*uniform*), HALP's knapsack with one-dimensional tables, SPDY's programme over inputs, and "
        "MDP's outer approximation. Weights are random where the network's name says nothing else, so losses mean "
        f"nothing between networks. {provenance_of(rows)}",
        "",
        _summary(cells),
        "",
        markdown_table([_line(key, own) for key, own in cells.items()]),
        "",
    ]
    return "\n".join(lines)


def _summary(cells: dict[tuple[str, ...], dict[str, Row]]) -> str:
    solved = [own["auto"] for own in cells.values() if own.get("auto", {}).get("loss")]
    if not solved:
        return "No problem was solved yet."
    proven = sum(row["status"] == "OPTIMAL" for row in solved)
    worst = max(float(row["gap"] or 1) for row in solved)
    text = f"- *auto*: {proven} of {len(solved)} proven optimal; largest gap {100 * worst:.3f} %."
    exact = [_ratio(own, "mdp") for own in cells.values() if own.get("auto", {}).get("status") == "OPTIMAL"]
    known = [ratio for ratio in exact if ratio is not None]
    if known:
        hit = sum(ratio <= 1 + 1e-12 for ratio in known)
        text += f"\n- *mdp* found an optimal choice in {hit} of {len(known)} of these, at worst {max(known):.4f} times"
        text += " the loss."
    return text


def _ratio(own: dict[str, Row], method: str) -> float | None:
    """The loss of a method over that of `auto`; None if one of them is missing."""
    best, row = own.get("auto", {}).get("loss"), own.get(method, {}).get("loss")
    return None if not best or not row or not int(best) else int(row) / int(best)


def _line(key: tuple[str, ...], own: dict[str, Row]) -> Row:
    best = own.get("auto", {})
    others = {
        method: "-" if (ratio := _ratio(own, method)) is None else f"{ratio:.3f}"
        for method in METHODS
        if method != "auto"
    }
    return {
        **dict(zip(KEY[:-1], key, strict=True)),
        "status": best.get("status", "-"),
        "gap": f"{100 * float(best['gap']):.3f} %" if best.get("gap") else "-",
        "seconds": best.get("seconds", "-"),
        **others,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, help="torchvision's names")
    parser.add_argument("--batches", nargs="+", type=int, default=(1,))
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--targets", nargs="+", type=float, default=TARGETS, help="speedups [1.33 2 3]")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds per solve [60]")
    parser.add_argument("--instances", default=str(LIBRARY.directory / "widths"), help="directory of the problems")
    parser.add_argument("--measure", action="store_true", help="measure problems again that are in the directory")
    parser.add_argument("--tables", default=str(default_directory()), help="directory of measured tables")
    parser.add_argument("--fresh", action="store_true", help="solve everything again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
