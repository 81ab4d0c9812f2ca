"""Are predicted latencies right? Eleven orders per network, batch size and memory format, predicted and measured.

Every cell is measured twice (``--repeats``), with the same tables. Cells in ``results/order_checks.csv`` are not
measured again, so an interrupted command continues where it stopped. Missing cost tables are measured. The Markdown
page beside it has a line per cell, and the same figures for all cells of a network together. If the error is above
10 %, it lists the accesses with the largest errors. If orders that can be told apart are ranked wrongly, it lists the
accesses in which two such orders differ more than the tables predict. Exit code 0, 2 for bad input, 130 if interrupted.

    python -m benchmarks.order_checks --models resnet50 --batches 1 8
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from benchmarks.latency.cells import KEY, OLD, QUICK, Cell, Subject, add_cell_options, cells_of, with_dtype_shown
from benchmarks.results import MEASURED, Row, markdown_table, measured_here, per_cent, provenance_of, resumed
from upscale_opt import prepare
from upscale_opt.comparing.order_checks import OrderCheck, check_orders
from upscale_opt.latency.agreement import Agreement, agreement

NAME = "order_checks"
WORST = "order_checks_worst"
MISRANKED = "order_checks_misranked"
MODELS = ("resnet50", "densenet121", "mobilenet_v2")
RUN = (*KEY, "repeat")
"""Columns that identify the check of a row."""
COLUMNS = (
    *(*RUN, "order", "predicted_ms", "measured_ms", "noise_ms", "floor_ms"),
    *("runs", "copies", "threads", "stolen", *MEASURED),
)
WORST_COLUMNS = (*RUN, "order", "access", "expected_us", "measured_us")
MISRANKED_COLUMNS = (*RUN, "faster", "slower", "access", "expected_us", "measured_us")
EXPLAINED = ("identity", "greedy", "exact latency")
"""Orders whose accesses are measured one by one. The orders with the most wrong prediction or rank are measured too."""
NUM_WORST = 10
TRUSTED = 10.0
"""Mean absolute percentage error above which the worst accesses are listed."""
RANKED = 0.9
"""Spearman's rho of groups below which they are listed too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows; write CSV and Markdown."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: there is no CUDA device here; leave out --device", file=sys.stderr)
        return 2
    command = f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip()

    def measured(own: tuple[Cell, int]) -> dict[str, list[Row]]:
        cell, repeat = own
        facts = measured_here(cell.device, command)
        check = _checked(cell, given)
        run = dict(zip(RUN, (*cell.key, str(repeat)), strict=True))
        rows = [{**row, **facts} for row in _rows(run, check, given.runs, given.copies)]
        return {NAME: rows, WORST: _worst(run, check), MISRANKED: _misranked(run, check)}

    return resumed(
        {NAME: COLUMNS, WORST: WORST_COLUMNS, MISRANKED: MISRANKED_COLUMNS},
        {
            (*cell.key, str(repeat)): (cell, repeat)
            for cell, repeat in itertools.product(cells_of(given), range(1, given.repeats + 1))
        },
        measured,
        lambda found: page(found[NAME], found[WORST], found[MISRANKED]),
        key=RUN,
        defaults=OLD,
        fresh=given.fresh,
        unit="check",
    )


def _checked(cell: Cell, given: argparse.Namespace) -> OrderCheck:
    subject = Subject(cell)
    costs = subject.costs(subject.calibrated(given.tables, QUICK if given.quick else None))
    prepared = prepare(subject.model, subject.x, subject.masked, objective="latency", costs=costs)
    return check_orders(
        prepared,
        time_limit=given.time_limit,
        seed=cell.seed,
        repeats=given.runs,
        copies=given.copies,
        backend=cell.backend,
        verify=not given.no_verify,
        accesses=EXPLAINED,
        progress=True,
    )


def _rows(run: Row, found: OrderCheck, runs: int, copies: int) -> list[Row]:
    common = {
        "noise_ms": f"{1e3 * found.noise:.4g}",
        "floor_ms": f"{1e3 * found.floor:.5g}",
        "runs": runs,
        "copies": copies,
        "threads": torch.get_num_threads(),
        "stolen": per_cent(found.stolen),
    }
    return [
        {
            **run,
            "order": name,
            "predicted_ms": f"{1e3 * predicted:.5g}",
            "measured_ms": f"{1e3 * measured:.5g}",
            **common,
        }
        for name, predicted, measured in zip(found.names, found.predicted, found.measured, strict=True)
    ]


def _worst(run: Row, found: OrderCheck) -> list[Row]:
    return [
        {
            **run,
            "order": order,
            "access": access,
            "expected_us": f"{1e6 * expected:.1f}",
            "measured_us": f"{1e6 * measured:.1f}",
        }
        for order, access, expected, measured in found.worst_accesses(NUM_WORST)
    ]


def _misranked(run: Row, found: OrderCheck) -> list[Row]:
    misranking = found.misranking
    if misranking is None:
        return []
    return [
        {
            **run,
            "faster": misranking.faster,
            "slower": misranking.slower,
            "access": own.name,
            "expected_us": f"{1e6 * own.expected:.1f}",
            "measured_us": f"{1e6 * own.measured:.1f}",
        }
        for own in (misranking.model, misranking.all_accesses, *misranking.accesses[:NUM_WORST])
    ]


def page(rows: Sequence[Row], worst: Sequence[Row], misranked: Sequence[Row]) -> str:
    """The Markdown page.

    Parameters
    ----------
    rows
        Rows of all checks so far, at least one.
    worst
        Per check, the accesses with the largest errors.
    misranked
        Per check with wrongly ranked orders, the accesses in which two of them differ more than the tables predict.
    """
    rows, worst, misranked = (with_dtype_shown(own) for own in (rows, worst, misranked))
    checks = _grouped(rows, RUN)
    pooled = _grouped(rows, ("model", "amount", "device", "backend", "repeat"))
    lines = [
        "How to read this: every line is one masked network at one batch size and memory format. Eleven orders of it "
        "(as it is, three random, baseline, greedy, the best found for each of five objectives) are each read in the "
        "cheapest ways the tables know and measured in turn; *error* is the mean over them of |predicted - measured| / "
        "measured. Orders that differ by less than twice the noise cannot be told apart: they share a rank (*in "
        "groups*). Ratios are to the floor, which no order can beat. "
        f"The CSV says which command, at which commit, measured a row. {provenance_of(rows)}",
        "",
        "## Every check",
        "",
        markdown_table([_line(own) for own in checks]),
        "",
        "## Pooled over batch sizes and memory formats",
        "",
        "Predicted and measured ratios to the floor, all orders of all cells of a network together; two can be told "
        "apart if they differ by more than twice the largest noise among the cells, as a ratio to its floor.",
        "",
        markdown_table([_pooled_line(own) for own in pooled]),
    ]
    explanations = [line for own in checks for line in _explanation(own, worst, misranked)]
    if not explanations:
        explanations = [
            "",
            f"No check has an error above {TRUSTED:g} % or a correlation of groups below {RANKED:g}; `{WORST}.csv` and "
            f"`{MISRANKED}.csv` have the accesses furthest off anyway.",
        ]
    return "\n".join([*lines, *explanations, ""])


def _explanation(check: Sequence[Row], worst: Sequence[Row], misranked: Sequence[Row]) -> list[str]:
    """Lines with the accesses that explain the errors of a check; none if there are no errors."""
    run, found, lines = check[0], _agreement(check), []
    if found.percentage_error > TRUSTED:
        title = f"## Furthest from their tables: {_title(run)}"
        why = f"The error is {found.percentage_error:.1f} %."
        lines += ["", title, "", why, "", _access_table(_of(run, worst), ("order",))]
    if found.spearman_of_groups is not None and found.spearman_of_groups < RANKED:
        title = f"## Ranked wrongly: {_title(run)}"
        why = (
            f"Spearman's rho of groups is {found.spearman_of_groups:.2f}. The two orders whose rank is furthest off, "
            "and how much longer the slower one takes: as a whole, in all accesses, in those least expected."
        )
        lines += ["", title, "", why, "", _access_table(_of(run, misranked), ("faster", "slower"))]
    return lines


def _line(check: Sequence[Row]) -> Row:
    first, found = check[0], _agreement(check)
    floor = float(first["floor_ms"])
    ratios = {row["order"]: float(row["measured_ms"]) / floor for row in check}
    return {
        **{name: first[name] for name in ("model", "amount", "batch", "format", "backend", "repeat")},
        "floor ms": first["floor_ms"],
        "noise": f"{100 * float(first['noise_ms']) / floor:.1f}%",
        "error": f"{found.percentage_error:.1f}%",
        "Spearman": _text(found.spearman),
        "in groups": _text(found.spearman_of_groups),
        "Kendall": _text(found.kendall),
        "of distinct pairs": _text(found.concordance),
        "verdict": found.verdict,
        **{name: f"{ratios[name]:.3f}" for name in ("baseline", "greedy", "exact latency")},
        "slowest order": f"{max(ratios.values()):.3f}",
    }


def _agreement(check: Sequence[Row]) -> Agreement:
    predicted, measured = (np.array([float(row[name]) for row in check]) for name in ("predicted_ms", "measured_ms"))
    return agreement(predicted.tolist(), measured.tolist(), tolerance=2 * float(check[0]["noise_ms"]))


def _pooled_line(rows: Sequence[Row]) -> Row:
    floors = [float(row["floor_ms"]) for row in rows]
    predicted = [float(row["predicted_ms"]) / floor for row, floor in zip(rows, floors, strict=True)]
    measured = [float(row["measured_ms"]) / floor for row, floor in zip(rows, floors, strict=True)]
    noise = max(float(row["noise_ms"]) / floor for row, floor in zip(rows, floors, strict=True))
    found = agreement(predicted, measured, tolerance=2 * noise)
    return {
        **{name: rows[0][name] for name in ("model", "amount", "backend", "repeat")},
        "orders": len(rows),
        "noise": f"{100 * noise:.1f}%",
        "error": f"{found.percentage_error:.1f}%",
        "Spearman": _text(found.spearman),
        "in groups": _text(found.spearman_of_groups),
        "of distinct pairs": _text(found.concordance),
        "verdict": found.verdict,
    }


def _of(run: Row, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if all(str(row[name]) == str(run[name]) for name in RUN)]


def _access_table(rows: Sequence[Row], orders: Sequence[str]) -> str:
    columns = (*orders, "access", "expected_us", "measured_us")
    return markdown_table([{name: row[name] for name in columns} for row in rows]) if rows else "Not measured."


def _title(run: Row) -> str:
    return f"{run['model']} {run['amount']}, batch {run['batch']}, {run['format']}, {run['backend']}, {run['repeat']}"


def _grouped(rows: Iterable[Row], names: Sequence[str]) -> list[list[Row]]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[name]) for name in names), []).append(row)
    return list(found.values())


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_cell_options(parser, models=MODELS, amounts=("0.5",))
    parser.add_argument("--repeats", type=int, default=2, help="how often every cell is measured [2]")
    parser.add_argument("--runs", type=int, default=21, help="rounds [21]")
    parser.add_argument("--copies", type=int, default=4, help="of every export that are measured [4]")
    parser.add_argument("--time-limit", type=float, default=2.0, help="seconds per segment and solver [2]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
