"""Latency of exports, as ratios to the floor: unpruned, baseline, greedy, exact (copies), exact (latency).

Cells in ``results/latency.csv`` are not measured again, so an interrupted command continues where it stopped. Missing
cost tables are measured. ``results/latency.md`` sums up all cells so far; the command prints the requested cells. Exit
code 0, 2 for bad input, 130 if interrupted.

    python -m benchmarks.latency --models resnet50 --batches 1 8

For a GPU machine without OR-Tools there are two steps. Here, ``--plans DIR --plan-only`` writes the plans, with
analytic costs of a GPU. There, ``--plans DIR --device cuda`` exports them. Every access is read in the way that is
cheapest by tables measured there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import results
from benchmarks.latency.cells import KEY, PLANNED, QUICK, Cell, Subject, add_cell_options, cells_of, read_cells
from benchmarks.latency.measuring import COUNTS, FIGURES, Row, measure
from benchmarks.latency.tables import by_cell, page
from benchmarks.results import MEASURED, csv_text, measured_here, replaced
from problems.files import write_text_atomically
from upscale_opt import Plan, UpscaleError, extract, read_plan, save_plan
from upscale_opt.latency.copies import require_copies
from upscale_opt.latency.cost_tables import CostTables
from upscale_opt.latency.readings import cheapest_readings, fastest_kernels, tables_of

NAME = "latency"
MODELS = (
    *("resnet18", "resnet50", "resnet101", "densenet121"),
    *("mobilenet_v2", "efficientnet_v2_s", "googlenet", "convnext_tiny"),
)
COLUMNS = (
    *(*KEY, "variant", "runs", "measured_copies", *FIGURES, *COUNTS),
    *("threads", "stolen", *MEASURED),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing cells; write CSV and Markdown of all cells; print the Markdown of the requested cells."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    kind = given.device.partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_available() and not given.plan_only:
        print("error: there is no CUDA device here; leave out --device, or add --plan-only", file=sys.stderr)
        return 2
    cells = cells_of(given)
    path = results.DIRECTORY / f"{NAME}.csv"
    rows = read_cells(path)
    done = set() if given.fresh else {tuple(own["floor"][name] for name in KEY) for own in by_cell(rows)}
    command = f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip()
    try:
        require_copies(given.copies)
        for cell in tqdm(cells, unit="cell"):
            if given.plan_only:
                _write_plans(Subject(_on_cpu(cell)), given.plans, given.time_limit)
            elif cell.key not in done:
                facts = measured_here(cell.device, command)
                new = [{**row, **facts} for row in _measured(cell, given)]
                rows = replaced(rows, new, KEY, cell.key)
                write_text_atomically(csv_text([{n: row.get(n, "") for n in COLUMNS} for row in rows]), path)
    except KeyboardInterrupt:
        return 130
    except UpscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if rows and not given.plan_only:
        write_text_atomically(page(rows), results.DIRECTORY / f"{NAME}.md")
        asked = {cell.key for cell in cells}
        print(page([row for row in rows if tuple(str(row[name]) for name in KEY) in asked]))
    return 0


def _measured(cell: Cell, given: argparse.Namespace) -> list[Row]:
    subject = Subject(cell)
    tables = subject.calibrated(given.tables, QUICK if given.quick else None)
    if given.plans is None:
        from benchmarks.latency.planning import plans_of

        plans: Mapping[str, Plan] = plans_of(subject, subject.costs(tables), time_limit=given.time_limit)
    else:
        plans = _read_plans(subject, given.plans, tables)
    threads = 0 if cell.device.startswith("cuda") else torch.get_num_threads()
    kernels = fastest_kernels(tables_of(subject.masked, subject.costs(tables)))
    rows = measure(subject, plans, runs=given.runs, copies=given.copies, verify=not given.no_verify, kernels=kernels)
    return [{**row, "threads": threads} for row in rows]


def _on_cpu(cell: Cell) -> Cell:
    """The same cell, for planning on a machine without its device."""
    values = {name: getattr(cell, name) for name in KEY}
    return Cell(**{**values, "device": "cpu"})


def _write_plans(subject: Subject, directory: Path, time_limit: float) -> None:
    """Plans by analytic costs of a GPU: orders for `_read_plans`."""
    from benchmarks.latency.planning import plans_of
    from upscale_opt.latency.calibration import conditions_of
    from upscale_opt.latency.measured_costs import MeasuredCosts
    from upscale_opt.planning.cost_model import AnalyticCosts

    costs = MeasuredCosts(CostTables(conditions_of((subject.x,))), AnalyticCosts.for_device("cuda"))
    directory.mkdir(parents=True, exist_ok=True)
    for name, own in plans_of(subject, costs, time_limit=time_limit).items():
        save_plan(own, subject.cell.plan_path(directory, name))


def _read_plans(subject: Subject, directory: Path, tables: CostTables) -> dict[str, Plan]:
    """The plans of a cell. A plan without its own readings is read in the cheapest ways of the tables."""
    costs = subject.costs(tables)
    problems = extract(subject.graph, subject.masks, costs=costs)
    measured = tables_of(subject.masked, costs)
    plans = {}
    for name in PLANNED:
        own = read_plan(subject.cell.plan_path(directory, name))
        cheaply = name in ("greedy, cheapest reads", "exact latency")
        plans[name] = cheapest_readings(own, problems, measured)[0] if cheaply else own
    return plans


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_cell_options(parser, models=MODELS, amounts=("0.1", "0.3", "0.5", "0.7", "0.9"))
    parser.add_argument("--runs", type=int, default=11, help="rounds [11]; the paper has 100")
    parser.add_argument("--copies", type=int, default=2, help="of every variant that are measured [2]")
    parser.add_argument("--time-limit", type=float, default=5.0, help="seconds per segment and solver [5]")
    parser.add_argument("--plans", type=Path, help="directory of plans, to be written or carried out")
    parser.add_argument("--plan-only", action="store_true", help="write the plans and measure nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
